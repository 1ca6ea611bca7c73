"""The verdict rule: when does a measurement confirm a prediction, contradict it, or say nothing?

    tol  = rtol*|predicted| + atol              rtol = the user's tolerance + the declared error of the formula
    bar  = 2*se                                 standard error over weight seeds, widened by Student's t for few seeds

    agrees      |measured - predicted| <= tol + bar   and the bar is a test:  bar <= max(tol, resolution)
    deviates    |measured - predicted| >  tol + bar   and beyond chance: 99.9 % by Student's t
    undecided   everything between: the bar is too wide to tell; more seeds would

Why three regions. A wide bar makes agreement cheap, so none is given under a bar wider than `resolution`. A report has
hundreds of rows, so a deviation must be beyond chance for each: with a true model at most 1 row in 1,000 is called
deviating however noisy it is (with 2 standard errors alone: 1 in 20). What the rule can miss is bounded: a true
relative error above tol + 2*bar <= tol + 2*resolution is not called an agreement, with 97 % probability.

In the through view, where the errors of single components add up like a random walk, tolerance and resolution grow with
the square root of the number of components above, up to `depth_cap` times.

A mean is held against the rms value of its signal (`scale`), since its own size may be zero by symmetry: its bar is a
test when it moves the energy mean**2 by no more than `resolution` of the second moment.

Heavy tails. In the through view a positive quantity whose logarithm scatters widely over weight draws (`scatter` above
`scatter_limit`) has a sample mean that lies far below its expectation most of the time, and an error bar that is wrong
too. There the logarithms are compared: the expectation is estimated as exp(mean ln + var ln / 2), with the standard
error sqrt(v/k + v**2/(2(k-1))) of that estimate (D. R. Cox; Land 1971), v the larger of the sample's variance and the
predicted scatter; tolerance and slack are in nats.

The local view compares seed by seed: each output with the prediction from the same seed's input. When the inputs
themselves scatter widely, the seeds get equal weight: the mean of the ratios is compared instead of the ratio of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, erf, exp, expm1, isfinite, log, log1p, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lensnet.compare.row import Assumption, Verdict, View
from lensnet.compare.settings import Settings

Scale = Literal["positive", "signed", "log"]

FLOAT_LIMIT = 1e37
"""Beyond this a second moment does not fit a float32 forward pass with room to spare."""

FEWEST_SEEDS = 8
"""What a run with a single seed is told to use."""

SPREAD_LIMIT = 0.1
"""Variance over seeds of the logarithm of the local prediction above which ratios are compared."""


@dataclass(frozen=True)
class Pair:
    """What is known about one row before judging it.

    predicted: the through prediction, or None when nothing is predicted.
    measured: one number per seed.
    local: the local prediction of each seed (paired with `measured`); None in the through view.
    scale: `positive` (second moments, gains as factors), `signed` (means) or `log` (already in nats).
    size: magnitude of the signal that an absolute tolerance is relative to (rms for a mean, input second moment else).
    declared: relative error that the formula itself declares.
    scatter: predicted variance over weight draws of the logarithm, where known.
    depth: number of components that the prediction has passed through.
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

    @property
    def view(self) -> View:
        return "through" if self.local is None else "local"


@dataclass(frozen=True)
class Judgement:
    """The numbers of a row and what they amount to; fields as in `lensnet.compare.row.Row`."""

    predicted: float | None
    measured: float | None
    standard_error: float | None
    median: float | None
    tolerance: float | None
    error: float | None
    slack: float | None
    verdict: Verdict
    functional: str = "mean"
    seeds_wanted: int | None = None


TWO_SIGMA = 0.5 * (1 + erf(sqrt(2.0)))
BEYOND_CHANCE = 0.9995


def coverage_factor(seeds: int, quantile: float = TWO_SIGMA) -> float:
    """How many standard errors reach a quantile (2 for many seeds by default); infinite for a single seed."""
    if seeds < 2:
        return float("inf")
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, quantile))


@dataclass(frozen=True)
class _Comparison:
    """Difference and its standard error, in the unit in which they are compared (`unit`: value of 100 %)."""

    predicted: float
    measured: float
    difference: float
    standard_error: float
    unit: float
    functional: str
    nats: bool = False


def judge(pair: Pair, settings: Settings) -> Judgement:
    """Apply the rule to one row. Never raises on NaN, Inf, zero, missing seeds or missing predictions."""
    measured = np.asarray(pair.measured, dtype=float)
    local = None if pair.local is None else np.asarray(pair.local, dtype=float)
    predicted = pair.predicted if local is None else (float(np.mean(local)) if local.size else None)
    failed = any(assumption.fails for assumption in pair.assumptions)
    with np.errstate(all="ignore"):
        median = float(np.median(measured)) if measured.size else None
        mean = float(np.mean(measured)) if measured.size else None
        if predicted is None:
            error_bar = _standard_error(measured)
            return Judgement(None, mean, error_bar, median, None, None, None, "not-modelled")
        if mean is None:
            return Judgement(
                predicted, None, None, None, None, None, None, "out-of-regime" if failed else "undecided", "expectation"
            )
        if not isfinite(predicted) or not isfinite(mean):
            return _not_finite(predicted, mean, median, failed)
        return _decide(pair, _contrast(pair, predicted, measured, local, settings), median, failed, settings)


def _not_finite(predicted: float, mean: float, median: float | None, failed: bool) -> Judgement:
    """A forward pass that overflows contradicts a finite prediction, unless the prediction itself does not fit."""
    overflow = not isfinite(predicted) or abs(predicted) > FLOAT_LIMIT
    verdict: Verdict = "out-of-regime" if failed or overflow else "deviates"
    return Judgement(predicted, mean, None, median, None, None, None, verdict)


def _contrast(
    pair: Pair,
    predicted: float,
    measured: NDArray[np.float64],
    local: NDArray[np.float64] | None,
    settings: Settings,
) -> _Comparison:
    """Choose the functional: plain means, logarithms under heavy tails, or ratios of paired seeds."""
    positive = pair.scale == "positive" and bool(np.all(measured > 0)) and measured.size > 1
    if local is None:
        if positive and predicted > 0 and pair.scatter is not None and pair.scatter > settings.scatter_limit:
            return _lognormal(predicted, measured, pair.scatter)
        return _Comparison(
            predicted,
            float(np.mean(measured)),
            float(np.mean(measured)) - predicted,
            _standard_error(measured),
            _unit(pair, predicted),
            "mean",
            pair.scale == "log",
        )
    if positive and bool(np.all(local > 0)) and float(np.var(np.log(local), ddof=1)) > SPREAD_LIMIT:
        ratio = measured / local
        typical = exp(float(np.mean(np.log(local))))
        level = typical * float(np.mean(ratio))
        return _Comparison(
            typical,
            level,
            level - typical,
            typical * _standard_error(ratio),
            typical,
            "mean of ratios, times the typical prediction",
        )
    difference = measured - local
    return _Comparison(
        predicted,
        float(np.mean(measured)),
        float(np.mean(difference)),
        _standard_error(difference),
        _unit(pair, predicted),
        "mean",
        pair.scale == "log",
    )


def _lognormal(predicted: float, measured: NDArray[np.float64], scatter: float) -> _Comparison:
    logs = np.log(measured)
    seeds = logs.size
    variance = float(np.var(logs, ddof=1))
    level = float(np.mean(logs)) + variance / 2
    widest = max(variance, scatter)
    error_bar = sqrt(widest / seeds + widest**2 / (2 * (seeds - 1)))
    return _Comparison(
        predicted, exp(level), level - log(predicted), error_bar, 1.0, "lognormal mean, in nats", nats=True
    )


def _unit(pair: Pair, predicted: float) -> float:
    """What 100 % of this row means."""
    return 1.0 if pair.scale == "log" else abs(predicted)


def _decide(pair: Pair, c: _Comparison, median: float | None, failed: bool, settings: Settings) -> Judgement:
    allowance = settings.allowance(pair.view, pair.depth)
    relative = settings.tolerance * allowance + pair.declared
    floor = _floor(pair, settings)
    tol = log1p(relative) if c.nats else relative * c.unit + floor
    seeds = len(pair.measured)
    single = seeds < 2
    bar = float("inf") if single else coverage_factor(seeds) * c.standard_error
    chance = float("inf") if single else coverage_factor(seeds, BEYOND_CHANCE) * c.standard_error
    distance = abs(c.difference)
    slack = tol + bar - distance
    widest = max(tol, _widest_test(pair, c, settings.resolution * allowance))
    test = bar <= widest
    verdict: Verdict
    if failed:
        verdict = "out-of-regime"
    elif distance <= tol + bar and test:
        verdict = "agrees"
    elif distance > tol + bar and distance > chance:
        verdict = "deviates"
    else:
        verdict = "undecided"
    return Judgement(
        predicted=c.predicted,
        measured=c.measured,
        standard_error=None if single else c.standard_error * (c.measured if c.functional.startswith("logn") else 1.0),
        median=median,
        tolerance=None if single else tol + bar,
        error=_relative_error(c, relative, floor),
        slack=None if single else slack,
        verdict=verdict,
        functional=c.functional,
        seeds_wanted=_seeds_wanted(seeds, c.standard_error, bar, widest) if verdict == "undecided" else None,
    )


def _floor(pair: Pair, settings: Settings) -> float:
    """The absolute part of the tolerance."""
    size = pair.size if isfinite(pair.size) else 0.0
    if pair.scale == "signed":
        return settings.mean_floor * settings.tolerance * size
    return settings.zero_floor * size if pair.scale == "positive" else 0.0


def _widest_test(pair: Pair, c: _Comparison, resolution: float) -> float:
    """The widest error bar that still is a test."""
    if pair.scale == "signed":
        return sqrt(c.predicted**2 + resolution * pair.size**2) - abs(c.predicted)
    return log1p(resolution) if c.nats else resolution * c.unit


def _seeds_wanted(seeds: int, standard_error: float, bar: float, widest: float) -> int:
    """About how many seeds would decide: error bars shrink with the square root of their number."""
    if seeds < 2 or not isfinite(standard_error):
        return FEWEST_SEEDS
    if bar <= widest or widest <= 0:
        return 2 * seeds  # a difference on the edge: it must stand out more clearly, or go away
    return max(seeds + 1, ceil(seeds * (2.2 * standard_error / widest) ** 2))


def _relative_error(c: _Comparison, relative: float, floor: float) -> float | None:
    """measured/predicted - 1; None where the absolute part of the tolerance is the larger one."""
    if c.unit == 0 or floor > relative * c.unit:
        return None
    if c.nats:
        return expm1(c.difference) if c.difference < 700 else float("inf")
    return c.difference / c.predicted if c.predicted else None


def _standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean over seeds; NaN for a single seed."""
    if values.size < 2:
        return float("nan")
    return float(np.std(values, ddof=1)) / sqrt(values.size)


def rule(settings: Settings, seeds: int) -> dict[str, str]:
    """The rule with this run's numbers, as it is printed above the table: a sentence for each verdict, and `tol`."""
    factor = coverage_factor(seeds)
    widened = f" (2 se is {factor:.3g} se for {seeds} seeds, Student's t)" if 1 < seeds <= 40 else ""
    return {
        "agrees": f"|measured - predicted| <= tol + 2 se, and 2 se <= tol or {settings.resolution:.0%}",
        "deviates": "beyond tol + 2 se, and beyond chance (99.9 %)",
        "undecided": "between these: the error bar is too wide to tell, more seeds would",
        "out-of-regime": "an assumption of the prediction does not hold",
        "tol": (
            f"{settings.tolerance:.0%} of the prediction + the formula's declared error; a mean: + "
            f"{settings.mean_floor * settings.tolerance:.0%} of its signal's rms"
        ),
        "through": (
            f"tol and {settings.resolution:.0%} grow with sqrt(components passed), up to {settings.depth_cap:g} times"
        ),
        "se": f"over weight seeds, in the local view of the paired difference{widened}",
    }
