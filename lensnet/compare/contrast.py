"""Which difference a row is judged by: of means, of logarithms, or of paired ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, expm1, hypot, log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lensnet.compare.row import Assumption, View
from lensnet.compare.settings import Settings

Scale = Literal["positive", "signed", "bounded", "log"]

SPREAD_LIMIT = 0.1
"""Variance over seeds of the logarithm of the local prediction above which ratios are compared."""


@dataclass(frozen=True)
class Pair:
    """What is known about one row before judging it.

    predicted: the through prediction, or None when nothing is predicted.
    measured: one number per seed.
    local: the local prediction of each seed (paired with `measured`); None in the through view.
    scale: `positive` (second moments, gains as factors), `signed` (means), `bounded` (cosines, of size 1) or `log`
        (already in nats).
    size: magnitude of the signal that an absolute tolerance is relative to (rms for a mean, input second moment else).
    declared: relative error that the formula itself declares.
    scatter: predicted variance over weight draws of the logarithm, where known; `certain`: by the fluctuation level, so
        that it takes the place of what the sample says.
    over: which number of the distribution over weight draws is meant (`median`, `scatter`, `band`), None for a number
        of every draw; `band`: the predicted interval that holds 90 % of the draws.
    depth: number of components that the prediction has passed through.
    floor: absolute error that the formula itself declares; None: the one of the settings.
    chance: standard deviation over weight draws by which the one draw that was measured may miss its expectation,
        relative (of a mean absolute); 0 where every seed is a draw.
    """

    predicted: float | None
    measured: Sequence[float]
    local: Sequence[float] | None = None
    scale: Scale = "positive"
    size: float = 1.0
    declared: float = 0.0
    scatter: float | None = None
    depth: int = 1
    assumptions: tuple[Assumption, ...] = ()
    certain: bool = False
    over: str | None = None
    band: tuple[float, float] | None = None
    floor: float | None = None
    chance: float = 0.0

    @property
    def view(self) -> View:
        return "through" if self.local is None else "local"


@dataclass(frozen=True)
class Contrast:
    """Difference and its standard error, in the unit in which they are compared (`unit`: value of 100 %)."""

    predicted: float
    measured: float
    difference: float
    standard_error: float
    unit: float
    functional: str
    nats: bool = False


def contrast(
    pair: Pair,
    predicted: float,
    measured: NDArray[np.float64],
    local: NDArray[np.float64] | None,
    settings: Settings,
) -> Contrast:
    """Choose the functional: plain means, logarithms under heavy tails, or ratios of paired seeds."""
    chosen = _chosen(pair, predicted, measured, local, settings)
    if not pair.chance:
        return chosen
    unit = 1.0 if chosen.nats or pair.scale == "signed" else abs(chosen.predicted)
    return replace(chosen, standard_error=hypot(chosen.standard_error, pair.chance * unit))


def _chosen(
    pair: Pair,
    predicted: float,
    measured: NDArray[np.float64],
    local: NDArray[np.float64] | None,
    settings: Settings,
) -> Contrast:
    positive = pair.scale == "positive" and bool(np.all(measured > 0)) and measured.size > 1
    if local is None:
        if positive and predicted > 0 and pair.scatter is not None and pair.scatter > settings.scatter_limit:
            return _lognormal(predicted, measured, pair.scatter, pair.certain)
        error_bar = standard_error(measured)
        if positive and pair.certain and pair.scatter is not None:
            error_bar = abs(predicted) * sqrt(expm1(pair.scatter) / measured.size)
        return Contrast(
            predicted,
            float(np.mean(measured)),
            float(np.mean(measured)) - predicted,
            error_bar,
            _unit(pair, predicted),
            "mean",
            pair.scale == "log",
        )
    if positive and bool(np.all(local > 0)) and float(np.var(np.log(local), ddof=1)) > SPREAD_LIMIT:
        ratio = measured / local
        typical = _exp(float(np.mean(np.log(local))))
        level = typical * float(np.mean(ratio))
        return Contrast(
            typical,
            level,
            level - typical,
            typical * standard_error(ratio),
            typical,
            "mean of ratios, times the typical prediction",
        )
    difference = measured - local
    return Contrast(
        predicted,
        float(np.mean(measured)),
        float(np.mean(difference)),
        standard_error(difference),
        _unit(pair, predicted),
        "mean",
        pair.scale == "log",
    )


def _lognormal(predicted: float, measured: NDArray[np.float64], scatter: float, certain: bool) -> Contrast:
    logs = np.log(measured)
    seeds = logs.size
    variance = float(np.var(logs, ddof=1))
    level = float(np.mean(logs)) + variance / 2
    widest = scatter if certain else max(variance, scatter)
    error_bar = sqrt(widest / seeds + widest**2 / (2 * (seeds - 1)))
    return Contrast(
        predicted, _exp(level), level - log(predicted), error_bar, 1.0, "lognormal mean, in nats", nats=True
    )


def _exp(value: float) -> float:
    return exp(value) if value < 700 else float("inf")


def _unit(pair: Pair, predicted: float) -> float:
    """What 100 % of this row means."""
    return 1.0 if pair.scale == "log" else abs(predicted)


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean over seeds; NaN for a single seed."""
    if values.size < 2:
        return float("nan")
    return float(np.std(values, ddof=1)) / sqrt(values.size)
