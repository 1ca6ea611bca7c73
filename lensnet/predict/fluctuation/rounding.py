"""Rounding: what is lost when a forward pass keeps p significand bits.

Rounding to nearest moves a number in [2^e, 2^(e+1)) by an error of variance u^2/12, u = 2^(e+1-p), whatever it is
(Wilkinson; uniform fractional parts). Relative to its square, averaged over a binade, that is

    storage       e0(p) = 2^(2-2p)/12 * b,   b = E 4^floor(log2|x|)/E x^2, 3/(8 ln 2) = 0.541 on average over scales
    a sum of k    every partial sum is rounded; of independent terms the i-th holds i/k of the power: e0 (k + 1)/2

Matrix products add up in float32 (also those of half-precision tensors) and in equal blocks, so that of a long sum at
most `BLOCK` terms are added one after the other. A component passes on the error of its input as it does any small
perturbation: by its Jacobian, whose mean square is the gain of the gradient, read the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, frexp, log, sqrt

import numpy as np

from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Law, Signal
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.environment import linear_factor
from lensnet.predict.fluctuation.forward import Forward
from lensnet.predict.fluctuation.laws import average
from lensnet.predict.fluctuation.neuron import slope_energy
from lensnet.predict.moments.backward import backward
from lensnet.predict.moments.pointwise import function_of
from lensnet.predict.moments.selection import MAXIMA
from lensnet.predict.prediction import Check, Effect, Status

SIGNIFICAND = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
"""Bits of the significand, the hidden one included."""
RANGE = {"float16": (6.1e-5, 65504.0), "bfloat16": (1.2e-38, 3.4e38), "float32": (1.2e-38, 3.4e38)}
"""Smallest normal and largest number of a format."""
BLOCK = 192
"""Most terms of a matrix product that are added one after the other (measured: float32 products on a CPU)."""
AVERAGE = 3 / (8 * log(2))
"""E 4^(-f) for a uniform fractional part f of log2|x|: values whose scale is not known."""
SPREAD = 6.0
"""Standard deviations that must fit below the largest number; as many times smaller ones must stay normal."""


def storage_noise(bits: int, binade: float = AVERAGE) -> float:
    """Variance of rounding once to so many significand bits, relative to the number's square; `binade`: see b above."""
    return 2.0 ** (2 - 2 * bits) / 12 * binade


def binade(law: Law | None) -> float:
    """E 4^floor(log2|x|)/E x^2 of values of this law: 0.54 for values of any scale, less for many just below a power of
    two, as behind a saturated tanh."""
    if law is None:
        return AVERAGE
    mean, std = average(law)
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        return AVERAGE
    return _binade(law.chain[0] if law.chain else None, float(f"{mean:.4g}"), float(f"{std:.4g}"))


@lru_cache(maxsize=1024)
def _binade(function: PointwiseFunction | None, mean: float, std: float) -> float:
    z = np.linspace(-8.0, 8.0, 20_001)
    x = mean + std * z
    values = x if function is None else function(x)
    weight = np.exp(-0.5 * z * z)
    seen = np.isfinite(values) & (values != 0)
    steps = np.exp2(2 * np.floor(np.log2(np.abs(values[seen]))))
    power = float(weight[seen] @ values[seen] ** 2)
    return float(weight[seen] @ steps) / power if power > 0 else AVERAGE


def sum_noise(terms: float, bits: int) -> float:
    """Relative variance of a sum of independent zero-mean terms, rounded after every addition."""
    return storage_noise(bits) * (_block(terms) + 1) / 2


def proportional_share(terms: float) -> float:
    """The part of a sum's noise that goes with the square of the sum: of k terms, i have on average i/k of it, and a
    variance of their own beside; added up over blocks of b terms that is 2 b/(3 k)."""
    return 2 * _block(terms) / (3 * terms)


def _block(terms: float) -> float:
    """Terms of each of the equal blocks that a long sum is made of."""
    return terms / ceil(terms / BLOCK)


@dataclass(frozen=True)
class Noise:
    """Relative variance of the error of one output: `own` in proportion to each value, as rounding makes it; `come` as
    large for small values as for large ones, from inside a sum or from before, through a mixing."""

    own: float
    come: float
    doubts: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        return self.own + self.come


def rounding_effects(network: Network, forward: Forward, sizes: Mapping[str, Effect], dtype: str) -> list[Effect]:
    """For every component: the relative rms error of its output in this number format. Empty for float64.

    `sizes`: the second moment of every output at infinite width.
    """
    if dtype not in RANGE:
        return []
    known = {path: effect.value for path, effect in sizes.items() if effect.value is not None}
    known[INPUT] = float(np.mean(forward.signals[INPUT].second_moment))
    noise = {INPUT: Noise(0.0, 0.0)}
    out = []
    for node in network:
        size = known.get(node.path, 0.0)
        if not (np.isfinite(size) and size > 0) or any(producer not in noise for producer in node.inputs):
            continue
        before = [noise[producer] for producer in node.inputs]
        signals = [forward.signals[producer] for producer in node.inputs]
        own, come = _own_noise(node, forward.signals[node.path].law, dtype)
        for port, producer, one in zip(node.ports, node.inputs, before, strict=True):
            if not one.total or producer not in known:
                continue
            passed = known[producer] / size * _jacobian(node, signals, port, forward)
            come += passed * (one.come + one.own * _of_proportional(node, signals[0]))
        if len(node.ports) > 1 and node.component.coherence.kind == "linear":
            own += _of_scaled_branches(node, signals, known, size, dtype)
        if node.component.is_fork or (is_exact(node) and node.component.function is None):
            own, come = before[0].own, max(come - before[0].own, 0.0)  # the same values, or some of them
        doubts = [doubt for one in before for doubt in one.doubts]
        if len(node.weights) > 1:
            doubts.append(f"what {node.path} rounds inside counts like one rounding")
        if not np.isfinite(come):
            continue
        noise[node.path] = Noise(own, come, tuple(dict.fromkeys(doubts)))
        scatter = forward.sources.variance(forward.responses[node.path])
        out.append(_effect(node, noise[node.path], sizes[node.path], dtype, scatter))
    return out


def _of_scaled_branches(
    node: Node, signals: list[Signal], known: Mapping[str, float], size: float, dtype: str
) -> float:
    """Branches that are multiplied before they are added are rounded twice, unless the factor is a power of two."""
    out = 0.0
    for port, producer in zip(node.ports, node.inputs, strict=True):
        factor = float(np.mean(linear_factor(node, port, signals)))
        if abs(frexp(factor)[0]) != 0.5:
            out += factor**2 * known.get(producer, 0.0) / size * storage_noise(SIGNIFICAND[dtype])
    return out


def _of_proportional(node: Node, signal: Signal) -> float:
    """How an activation passes on an error in proportion to its input, against one of equal size everywhere:
    E f'^2 x^2/(E f'^2 E x^2). A function that saturates forgives it."""
    law = signal.law
    if node.component.function is None or law is None or law.chain:
        return 1.0
    mean, std = average(law)
    if not std > 0 or abs(mean) > 0.1 * std:
        return 1.0
    return max(1.0 + 2 * slope_energy(function_of(node), mean, std).elasticity, 0.0)


def _own_noise(node: Node, law: Law | None, dtype: str) -> tuple[float, float]:
    """Relative variance of what the component itself rounds away: in proportion to the values, and not."""
    if is_exact(node):
        return 0.0, 0.0
    kept = storage_noise(SIGNIFICAND[dtype], binade(law))
    if not node.weights or node.shapes_in[0].kind == "ids":
        return kept, 0.0
    terms = list(node.weights.values())[-1].fan_in
    summed, share = sum_noise(terms, SIGNIFICAND["float32"]), proportional_share(terms)
    return (0.0 if dtype == "float32" else kept) + share * summed, (1 - share) * summed


def is_exact(node: Node) -> bool:
    """Whether a component only selects, copies or negates: nothing to round."""
    component = node.component
    if component.is_fork or component.implementation in (*MAXIMA, "flatten", "transpose", "concat"):
        return True
    if component.function is None:
        return False
    pieces = function_of(node).pieces
    return pieces is not None and all(
        len(p) <= 2 and p[0] == 0.0 and (len(p) < 2 or abs(p[1]) in (0.0, 1.0)) for p in pieces[1]
    )


def _jacobian(node: Node, signals: list[Signal], port: str, forward: Forward) -> float:
    """Mean square of the Jacobian times the number of inputs: second moment out per second moment of a small change."""
    index = node.ports.index(port)
    if node.component.is_fork:
        return 1.0
    examples = max(signal.mean.shape[0] for signal in signals)
    effect = backward(node, signals, np.ones((examples, *node.shape.positions)), forward.crosses(node)).get(port)
    if effect is None or effect.value is None:
        return float("nan")
    return effect.value * node.shapes_in[index].features / node.shape.features


def _effect(node: Node, noise: Noise, size: Effect, dtype: str, scatter: float) -> Effect:
    """`scatter`: variance of ln q; error and signal scatter apart, and the average of their ratio grows with it."""
    low, high = RANGE[dtype]
    rms = sqrt(size.value or 0.0)
    checks = list(size.checks)
    for text, room in (
        (f"{SPREAD:g} standard deviations fit into {dtype}", high / (SPREAD * rms)),
        (f"the signal is not lost below the smallest normal {dtype}", rms / (SPREAD * low)),
    ):
        checks.append(Check(text, room - 1 if room < 1000 else None))
    checks += [Check(text, -1.0) for text in noise.doubts]
    failed = size.status != "ok" or any(check.margin is not None and not check.margin >= 0 for check in checks)
    status: Status = "out-of-regime" if failed else "ok"
    error = (0.5 if dtype == "float32" else 0.1) + 0.1 * scatter
    value = np.array(sqrt(noise.total))
    return Effect(node.path, "rounding", "forward", None, value, error, tuple(checks), status, level=Level.FLUCTUATION)


__all__ = ["rounding_effects", "storage_noise", "sum_noise"]
