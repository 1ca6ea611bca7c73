"""Numbers of a distribution over weight draws: its median, its scatter, the share of it inside the predicted band.

    median    in nats; error bar: the distribution-free interval between two order statistics (binomial, 95 %), and for
              fewer seeds than that needs the predicted scatter, 1.25 sd/sqrt(seeds)
    scatter   in nats; error bar: that of a sample's standard deviation, 1/sqrt(2 (seeds - 1)) of itself
    band      as a share; error bar: sqrt(0.9 * 0.1/seeds)

Draws in which nothing arrives (dead networks: exactly zero) have no logarithm. They are left out, and counted by the
findings of a report.
"""

from __future__ import annotations

from math import isfinite, log, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from lensnet.compare.contrast import Contrast, Pair

CONFIDENCE = 0.95
NEGLIGIBLE = 0.01
"""Scatter, in nats, below which it is compared as it is and not as a ratio."""


def over_draws(pair: Pair, predicted: float, measured: NDArray[np.float64]) -> Contrast:
    """The difference by which a row over weight draws is judged."""
    alive = np.sort(measured[np.isfinite(measured) & (measured > 0)])
    if pair.over == "median":
        return _median(pair, predicted, alive)
    if pair.over == "scatter":
        return _scatter(predicted, alive)
    low, high = pair.band or (nan, nan)
    inside = float(np.mean((alive >= low) & (alive <= high))) if alive.size else nan
    error_bar = sqrt(predicted * (1 - predicted) / max(alive.size, 1))
    return Contrast(predicted, inside, inside - predicted, error_bar, 0.0, "share of weight draws in the band")


def median_interval(ordered: NDArray[np.float64], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The narrowest central pair of order statistics that holds the median with this confidence, whatever the law.

    `ordered`: ascending. None where even the smallest and the largest value do not (fewer than 6 values for 95 %).
    """
    from scipy.special import bdtr

    n = ordered.size
    best = None
    for k in range((n + 1) // 2):
        if 1 - 2 * float(bdtr(k, n, 0.5)) < confidence:
            break
        best = k
    return None if best is None else (float(ordered[best]), float(ordered[n - 1 - best]))


def _median(pair: Pair, predicted: float, alive: NDArray[np.float64]) -> Contrast:
    if not alive.size:
        return Contrast(predicted, nan, nan, nan, 1.0, "median", nats=True)
    middle = float(np.median(alive))
    interval = median_interval(alive)
    if interval is not None:
        error_bar = (log(interval[1]) - log(interval[0])) / (2 * 1.96)
    else:
        error_bar = sqrt(np.pi / 2 * (pair.scatter or 0.0) / alive.size)
    difference = log(middle) - log(predicted) if predicted > 0 else nan
    return Contrast(predicted, middle, difference, error_bar, 1.0, "median", nats=True)


def _scatter(predicted: float, alive: NDArray[np.float64]) -> Contrast:
    if alive.size < 2:
        return Contrast(predicted, nan, nan, nan, 1.0, "sd of the logarithm")
    spread = float(np.std(np.log(alive), ddof=1))
    relative = 1 / sqrt(2 * (alive.size - 1))
    if predicted > NEGLIGIBLE and spread > 0 and isfinite(spread):
        difference = log(spread / predicted)
        return Contrast(predicted, spread, difference, relative, 1.0, "sd of the logarithm", nats=True)
    return Contrast(predicted, spread, spread - predicted, relative * spread, 10 * NEGLIGIBLE, "sd of the logarithm")
