"""Components whose noise is not that of one weight layer: products of two signals, gates, attention, experts.

A product y = a b of independent neurons has the energy a^2 b^2. Relative to its average that is (1 + A)(1 + B), A and B
the relative energies of the factors, so that besides A and B themselves the average over n neurons of A B is noise: its
variance is Var A Var B/n, and what two rows share of it is the product of what they share of A and of B. Inside a gated
linear unit both factors are drawn anew, and all three count: ((1 + Var A)(1 + Var B) - 1)/n. Energies of products have
long tails; their average over n neurons is taken as log-normal.

Attention's output is a sample of its values' and of its last layer. Which tokens are looked at is a third number that
differs from draw to draw: the power S = sum_j a_ij^2 of the softmax, an average over heads alone for a single row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log1p
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mixing.gate_pairs import GATES, gate_function, rectifier, relu_kernel
from lensnet.algebra.pointwise import PointwiseFunction, X, pointwise
from lensnet.levels.signal import Signal
from lensnet.network.graph import Node
from lensnet.network.weights import WeightLaw
from lensnet.predict.fluctuation.laws import average, one_by_one
from lensnet.predict.fluctuation.log_law import LogLaw
from lensnet.predict.fluctuation.neuron import energy
from lensnet.predict.fluctuation.response import Response, met
from lensnet.predict.moments.pointwise import chained

if TYPE_CHECKING:
    from lensnet.predict.fluctuation.forward import Forward

Array = NDArray[np.float64]
Shared = Callable[[Array], Array]
_SAMPLES = 4096
_STEEPER = 1.1
ATTENTION = {"query", "key", "value", "output"}
"""The weights of a component that is attention."""
_UNRELATED = 1e-3
"""Covariance of two factors, against their sizes, up to which they count as independent."""


def several_layers(forward: Forward, node: Node, signal: Signal, response: Response) -> Response:
    """What a component with several weight layers adds to what came through it."""
    kinds = set(node.weights)
    if kinds == {"value", "gate"}:
        return _gated(forward, node, signal, response)
    if kinds == ATTENTION:
        return _attended(forward, node, signal, response)
    if kinds == {"router", "inner", "outer"}:
        return _routed(forward, node, signal, response)
    row = LogLaw()
    for law in node.weights.values():
        row = row + forward.dense_law(node, law, law.fan_out)
    gains = forward.sources.add(node.path, "weights", row, forward.pairs(node.path).square())
    return response.with_noise(gains, node.shape.channels, one_by_one(node))


def product(forward: Forward, node: Node, signals: Sequence[Signal], before: Sequence[Response]) -> Response | None:
    """Behind the product of two signals that are known functions of independent Gaussians; None for others."""
    left, right = (_energies(forward, path, signal) for path, signal in zip(node.inputs, signals, strict=True))
    if left is None or right is None or len(left[1]) != len(right[1]):
        return None
    (a, first), (b, second) = left, right
    cross = forward.crosses(node).get((0, 1))
    covariance = 0.0 if cross is None else float(np.mean(cross - signals[0].mean * signals[1].mean))
    if abs(covariance) > _UNRELATED * float(np.sqrt(np.mean(signals[0].second_moment * signals[1].second_moment))):
        return None
    n, one = node.shape.channels, np.ones(1)
    row = float(a(one)[0] * b(one)[0])
    pairs = forward.pairs(node.inputs[0])
    share = float(pairs.weight @ (a(first) * b(second))) / row if row > 0 else 0.0
    response = met(before, [1.0] * len(before))
    return response.with_noise(forward.sources.add(node.path, "product", lognormal(row / n), share), n)


def _energies(forward: Forward, producer: str, signal: Signal) -> tuple[Shared, Array] | None:
    """How the energies of a neuron vary together in two rows, by the correlation of their Gaussians; and those."""
    law = signal.law
    if law is None or law.origin not in forward.network:
        return None
    mean, std = average(law)
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        return None
    neuron = energy(chained(law, _identity()), mean, std)
    return neuron.pair, forward.pairs(law.origin).correlation


def lognormal(variance: float) -> LogLaw:
    """Of a factor of mean 1 and this relative variance."""
    log_variance = log1p(max(variance, 0.0))
    return LogLaw(-log_variance / 2, log_variance)


def _gated(forward: Forward, node: Node, signal: Signal, response: Response) -> Response:
    q, n = float(np.mean(signal.second_moment)), node.shape.channels
    value = _factor(node.weights["value"], q, _identity())
    gate = _factor(node.weights["gate"], q, gate_function(GATES.index(str(node.parameters["activation"]))))

    def common(c: Array) -> Array:
        return np.log1p(np.maximum((1 + value(c)) * (1 + gate(c)) - 1, 0.0) / n)

    row = float(common(np.ones(1))[0])
    share = forward.pairs(node.inputs[0]).average(common) / row if row > 0 else 0.0
    return response.with_noise(forward.sources.add(node.path, "weights", LogLaw(-row / 2, row), share), n)


def _factor(law: WeightLaw, q: float, function: PointwiseFunction) -> Shared:
    """Covariance of the energies of two rows whose inputs are correlated by c, relative to their average."""
    seen, noise = law.fan_in * law.variance * q, law.bias_std**2
    neuron = energy(function, law.bias_mean, float(np.sqrt(seen + noise)))

    def common(c: Array) -> Array:
        return neuron.pair((seen * c + noise) / max(seen + noise, 1e-300))

    return common


@lru_cache(maxsize=1)
def _identity() -> PointwiseFunction:
    return pointwise(X, name="identity")


@dataclass(frozen=True)
class _Looks:
    """How attention looks at its tokens: `power` = E sum_j a_ij^2 and its relative variance `spread`, the `part` of the
    output's second moment that it decides, and the elasticity of that to the tokens' own."""

    spread: float
    part: float
    elasticity: float

    @classmethod
    def of(cls, forward: Forward, node: Node, signal: Signal) -> _Looks:
        query, key, value = (node.weights[name] for name in ("query", "key", "value"))
        q = float(np.mean(signal.second_moment))
        asked = query.gain**2 * q + query.bias_std**2 + query.bias_mean**2
        heads, tokens, alike = int(node.parameters["heads"]), node.shape.position_count, max(_beside(forward, node), 0)
        # what tokens have in common moves all logits of a query together
        logits = asked * key.gain**2 * q * (1 - alike)

        def power(factor: float) -> tuple[float, float]:
            return looks(logits * factor, tokens, node.shape.channels // heads, bool(node.parameters["causal"]))

        own, spread = power(1.0)
        part = (1 - alike) * own / (alike + (1 - alike) * own)
        steeper = np.log(power(_STEEPER)[0] / own) / np.log(_STEEPER) if logits > 0 else 0.0
        both = 1 + query.gain**2 * q / max(asked, 1e-300)
        seen = value.gain**2 * q * (alike + (1 - alike) * own)
        kept = seen / max(seen + value.bias_std**2 + value.bias_mean**2, 1e-300)
        return cls(spread, part, float(kept * (1 + part * both * steeper)))


def _beside(forward: Forward, node: Node) -> float:
    return forward.pairs(node.inputs[0]).beside


def elasticity(forward: Forward, node: Node, signal: Signal) -> float | None:
    """d ln q_out/d ln q_in of attention, for tokens as much alike as they are; None for other components."""
    return _Looks.of(forward, node, signal).elasticity if set(node.weights) == ATTENTION else None


def _attended(forward: Forward, node: Node, signal: Signal, response: Response) -> Response:
    """Values and output are two samples of neurons; the power S of the softmax counts with its share of the output.

    What comes in is looked at through an average over tokens, and of noise that single tokens had each for themselves
    that leaves what they have in common: of a dense layer before, a share in step with what pairs of rows share.
    """
    pairs, before, n = forward.pairs(node.path), forward.pairs(node.inputs[0]), node.shape.channels
    value, output = node.weights["value"], node.weights["output"]
    row = forward.dense_law(node, value, value.fan_out) + forward.dense_law(node, output, n)
    close = forward.closeness[node.inputs[0]].dense(n, pairs.average(lambda c: c))
    made = forward.sources.add(node.path, "weights", row, pairs.average(close.averaged(np.square)))
    seen, shared, share = _Looks.of(forward, node, signal), before.square(), pairs.square()
    power = lognormal(seen.part**2 * seen.spread / int(node.parameters["heads"]))
    made = made + forward.sources.add(node.path, "looks", power, shared)
    common, inside = forward.sources.gathered(response, shared, (share - shared) / max(1 - shared, 1e-12))
    made = made + forward.sources.add(node.path, "gathered", lognormal(common), 1.0)
    return replace(response, inside=inside).with_noise(made, n)


def looks(variance: float, tokens: int, width: int, causal: bool) -> tuple[float, float]:
    """Mean and relative variance of S = sum_j a_j^2 over weight draws, for one query and head of `width` dimensions.

    The logits of a query are normal over the tokens, with a variance that is itself drawn, as chi^2/width: the length
    of the query. Sampled with a fixed seed; with a causal mask at every length.
    """
    return _looks(float(f"{variance:.3g}"), min(tokens, 512), width, causal)


@lru_cache(maxsize=256)
def _looks(variance: float, tokens: int, width: int, causal: bool) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    samples = max(256, _SAMPLES * 16 // max(tokens, 16))
    length = rng.chisquare(width, samples) / width
    seen = rng.integers(1, tokens + 1, samples) if causal else np.full(samples, tokens)
    logits = np.sqrt(variance * length)[:, None] * rng.standard_normal((samples, tokens))
    weights = np.where(np.arange(tokens) < seen[:, None], np.exp(logits), 0.0)
    powers = np.sum(weights**2, axis=1) / np.sum(weights, axis=1) ** 2
    usual = np.ones(samples)  # at the same number of tokens: what differs from place to place is no noise
    for number in np.unique(seen):
        usual[seen == number] = powers[seen == number].mean()
    return float(powers.mean()), float(np.mean((powers / usual) ** 2) - 1)


def _routed(forward: Forward, node: Node, signal: Signal, response: Response) -> Response:
    """Experts: the power of the shares in use, and the neurons of those experts, which two rows have in common only as
    far as they use the same ones."""
    router, inner, outer = (node.weights[name] for name in ("router", "inner", "outer"))
    q, n = float(np.mean(signal.second_moment)), node.shape.channels
    rated, noise = router.gain**2 * q, router.bias_std**2
    seen, level = inner.gain**2 * q + inner.bias_std**2, inner.bias_mean
    hidden = energy(rectifier(), level, float(np.sqrt(seen)))
    active, whole = int(node.parameters["active"]), bool(node.parameters["renormalize"])
    shares = _shares(float(f"{rated + noise:.3g}"), router.fan_out, active, whole)

    def common(c: Array) -> Array:
        power, overlap = (np.interp((rated * c + noise) / (rated + noise), _CORRELATIONS, part) for part in shares)
        inside = (inner.gain**2 * q * c + inner.bias_std**2) / seen
        alike = relu_kernel(level, level, seen, seen, seen * inside) / relu_kernel(level, level, seen, seen, seen)
        neurons = 2 * np.asarray(alike) ** 2 / n + hidden.pair(inside) / inner.fan_out
        return np.log1p(np.maximum(power + (1 + power) * overlap * neurons, 0.0))

    row = float(common(np.ones(1))[0])
    share = forward.pairs(node.inputs[0]).average(common) / row if row > 0 else 0.0
    return response.with_noise(forward.sources.add(node.path, "weights", LogLaw(-row / 2, row), share), n)


_CORRELATIONS = np.array([-1.0, 0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 1.0])


@lru_cache(maxsize=64)
def _shares(variance: float, experts: int, active: int, renormalize: bool) -> tuple[Array, Array]:
    """Of two tokens whose ratings are correlated, at every one of `_CORRELATIONS`: covariance of their sums of squared
    shares, relative to the mean; and E sum_e s_e^2 s'_e^2/E (sum s^2)(sum s'^2). Sampled with a fixed seed."""
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, _SAMPLES, experts))

    def squares(ratings: Array) -> Array:
        weights = np.exp(np.sqrt(variance) * ratings)
        used = weights >= np.sort(weights, axis=1)[:, -active, None]
        total = np.sum(weights * used if renormalize else weights, axis=1, keepdims=True)
        return np.asarray((weights * used / total) ** 2)

    first = squares(one)
    power, overlap = [], []
    for c in _CORRELATIONS:
        second = squares(c * one + np.sqrt(1 - c * c) * other)
        both = first.sum(1) * second.sum(1)
        power.append(both.mean() / (first.sum(1).mean() * second.sum(1).mean()) - 1)
        overlap.append(np.sum(first * second, axis=1).mean() / both.mean())
    return np.array(power), np.array(overlap)
