"""How much correlation a pointwise function lets through, and back: from the correlation of the values to that of the
Gaussian behind them.

What a measurement sees at a pool is the correlation of f(a) and f(b), say of two rectified values; what the maximum
needs is that of the Gaussians a and b. For jointly Gaussian a, b of one mean and variance the first is an increasing
function of the second on [0, 1], so a table read backwards gives the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Chain = Sequence[Callable[[Array], Array]]

_NODES = 120  # midpoints of equal probability mass in each direction: exact enough across kinks
# Correlations at which the table is computed: sqrt(1 - rho) equally spaced, dense near 1 where windows live.
_ROOTS = np.linspace(0.0, 1.0, 33)


def push(chain: Chain, values: Array) -> Array:
    """The values after all functions of the chain, the first one applied first."""
    for function in chain:
        values = np.asarray(function(values))
    return values


class CorrelationTable:
    """Correlation of f(a), f(b) -> correlation of a, b, for Gaussians of mean `ratio*sd` and standard deviation `sd`.

    `ratios`, `log_sds`: the grid. Negative correlations of the values are read as 0: neighbours in an image do not
    repel, and an even function could not tell.
    """

    def __init__(self, chain: Chain, ratios: Array, log_sds: Array) -> None:
        self._ratios, self._log_sds = ratios, log_sds
        levels = np.linspace(0.0, 1.0, 65)  # sqrt(1 - correlation of values)
        table = np.empty((len(self._ratios), len(self._log_sds), len(levels)))
        for i, ratio in enumerate(self._ratios):
            for j, log_sd in enumerate(self._log_sds):
                through = np.array([_passed(chain, ratio, np.exp(log_sd), 1 - root**2) for root in _ROOTS])
                roots = np.maximum.accumulate(np.sqrt(np.clip(1 - through, 0.0, 1.0)))
                table[i, j] = np.interp(levels, roots, _ROOTS)
        from scipy.interpolate import RegularGridInterpolator  # loads slowly, and few components need it

        self._inverse = RegularGridInterpolator((self._ratios, self._log_sds, levels), table)

    def __call__(self, correlation: Array, ratio: Array, sd: Array) -> Array:
        """Correlation of the Gaussians; all arguments broadcast."""
        root = np.sqrt(np.clip(1 - correlation, 0.0, 1.0))
        ratio = np.clip(ratio, self._ratios[0], self._ratios[-1])
        log_sd = np.clip(np.log(np.maximum(sd, 1e-300)), self._log_sds[0], self._log_sds[-1])
        found = self._inverse(np.stack(np.broadcast_arrays(ratio, log_sd, root), axis=-1))
        return 1 - np.asarray(found) ** 2


def correlation_table(chain: Chain, ratios: Array, sds: Array) -> CorrelationTable:
    """The table for the range of these means (over standard deviations) and standard deviations; kept for reuse."""
    widest = int(np.clip(np.ceil(np.max(np.abs(ratios))), 1, 4))
    if _is_homogeneous(chain):
        return _kept(tuple(chain), widest, 0, 0)
    low, high = float(np.min(sds)), float(np.max(sds))
    return _kept(tuple(chain), widest, int(np.floor(2 * np.log(low))), int(np.ceil(2 * np.log(high))))


@lru_cache(maxsize=64)
def _kept(chain: tuple[Callable[[Array], Array], ...], widest: int, low: int, high: int) -> CorrelationTable:
    ratios = np.linspace(-widest, widest, 4 * widest + 1)
    return CorrelationTable(
        chain, ratios, np.linspace(low / 2, max(high, low + 1) / 2, min(max(high - low, 1) + 1, 13))
    )


def _passed(chain: Chain, ratio: float, sd: float, rho: float) -> float:
    """Correlation of f(a) and f(b) at Gaussian correlation rho >= 0, by quadrature over a = common + own parts."""
    from scipy.special import ndtri

    nodes = ndtri((np.arange(_NODES) + 0.5) / _NODES)
    nodes /= nodes.std()
    f_all = push(chain, sd * (ratio + nodes))
    variance = f_all.var()
    if variance <= 0:
        return rho
    common, own = np.sqrt(rho) * nodes[:, None], np.sqrt(1 - rho) * nodes[None]
    conditional = push(chain, sd * (ratio + common + own)).mean(axis=1)
    return float(np.clip(conditional.var() / variance, 0.0, 1.0))


def _is_homogeneous(chain: Chain) -> bool:
    """Whether f(s*x) = s*f(x) for s > 0, as for rectifiers: then the size of the Gaussian does not matter."""
    x = np.linspace(-3.0, 3.0, 25)
    return bool(np.allclose(push(chain, 7.0 * x), 7.0 * push(chain, x), rtol=1e-9, atol=1e-12))
