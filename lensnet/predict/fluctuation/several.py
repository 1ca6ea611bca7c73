"""Components whose noise is not that of one weight layer: products of two signals, gates, attention, flattening.

A product y = a b of independent neurons has the energy a^2 b^2. Relative to its average that is (1 + A)(1 + B), A and B
the relative energies of the factors, so that besides A and B themselves the average over n neurons of A B is noise: its
variance is Var A Var B/n, and what two rows share of it is the product of what they share of A and of B. Inside a gated
linear unit both factors are drawn anew, and all three count: ((1 + Var A)(1 + Var B) - 1)/n. Energies of products have
long tails; their average over n neurons is taken as log-normal.

Attention's output is a sample of its values' and of its last layer. Which tokens are looked at is a third number that
differs from draw to draw: the power S = sum_j a_ij^2 of the softmax, an average over heads alone for a single row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import log1p

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from lensnet.algebra.pointwise import PointwiseFunction, X, pointwise
from lensnet.levels.signal import Signal
from lensnet.network.graph import Node
from lensnet.network.weights import WeightLaw
from lensnet.predict.fluctuation.log_law import LogLaw
from lensnet.predict.fluctuation.neuron import energy
from lensnet.predict.fluctuation.pairs import RowPairs

Array = NDArray[np.float64]
Shared = Callable[[Array], Array]
_SAMPLES = 4096


def lognormal(variance: float) -> LogLaw:
    """Of a factor of mean 1 and this relative variance."""
    log_variance = log1p(max(variance, 0.0))
    return LogLaw(-log_variance / 2, log_variance)


def gated(node: Node, signal: Signal, pairs: RowPairs) -> tuple[LogLaw, float]:
    """A gated linear unit, for one row, and what two rows share of the variance; `pairs`: of its input."""
    q = float(np.mean(signal.second_moment))
    value = _factor(node.weights["value"], q, _identity())
    gate = _factor(node.weights["gate"], q, _gate(str(node.parameters.get("activation", "silu"))))
    n = node.shape.channels

    def common(c: Array) -> Array:
        return np.log1p(np.maximum((1 + value(c)) * (1 + gate(c)) - 1, 0.0) / n)

    row = float(common(np.ones(1))[0])
    return LogLaw(-row / 2, row), pairs.average(common) / row if row > 0 else 0.0


def _factor(law: WeightLaw, q: float, function: PointwiseFunction) -> Shared:
    """Covariance of the energies of two rows whose inputs are correlated by c, relative to their average."""
    seen, noise = law.fan_in * law.variance * q, law.bias_std**2
    neuron = energy(function, law.bias_mean, float(np.sqrt(seen + noise)))

    def common(c: Array) -> Array:
        return neuron.pair((seen * c + noise) / (seen + noise) if seen + noise > 0 else c)

    return common


@lru_cache(maxsize=1)
def _identity() -> PointwiseFunction:
    return pointwise(X, name="identity")


@lru_cache(maxsize=4)
def _gate(kind: str) -> PointwiseFunction:
    sigmoid = 1 / (1 + sp.exp(-X))
    forms = {"sigmoid": sigmoid, "gelu": X * (1 + sp.erf(X / sp.sqrt(2))) / 2, "silu": X * sigmoid}
    return pointwise(forms[kind], name=kind)


@lru_cache(maxsize=256)
def looks(variance: float, tokens: int, width: int, causal: bool) -> float:
    """Relative variance of S = sum_j a_j^2 over weight draws, for one query and head of `width` dimensions.

    The logits of a query are normal over the tokens, with a variance that is itself drawn, as chi^2/width: the length of
    the query. Sampled with a fixed seed; with a causal mask at every length, relative to the average at that length.
    """
    rng = np.random.default_rng(0)
    length = rng.chisquare(width, _SAMPLES) / width
    keys = min(tokens, 512)
    seen = rng.integers(1, keys + 1, _SAMPLES) if causal else np.full(_SAMPLES, keys)
    powers = np.empty(_SAMPLES)
    for k in range(_SAMPLES):
        a = np.exp(np.sqrt(variance * length[k]) * rng.standard_normal(seen[k]))
        powers[k] = np.sum(a * a) / np.sum(a) ** 2
    means = np.ones(_SAMPLES)
    for number in np.unique(seen):
        here = seen == number
        means[here] = powers[here].mean()
    return float(np.mean((powers / means) ** 2) - 1)
