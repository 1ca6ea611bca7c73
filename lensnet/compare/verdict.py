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

A cosine is held against 1 likewise, and its bar is a test when it is no wider than `resolution`.

Heavy tails. In the through view a positive quantity whose logarithm scatters widely over weight draws (`scatter` above
`scatter_limit`) has a sample mean that lies far below its expectation most of the time, and an error bar that is wrong
too. There the logarithms are compared: the expectation is estimated as exp(mean ln + var ln / 2), with the standard
error sqrt(v/k + v**2/(2(k-1))) of that estimate (D. R. Cox; Land 1971), v the larger of the sample's variance and the
predicted scatter; tolerance and slack are in nats.

What the fluctuation level predicts are numbers of the distribution over weight draws
(`lensnet.compare.over_draws`); its scatter then sets the error bars of the through rows, in place of the sample's.

The local view compares seed by seed: each output with the prediction from the same seed's input. When the inputs
themselves scatter widely, the seeds get equal weight: the mean of the ratios is compared instead of the ratio of means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, erf, expm1, hypot, isfinite, log1p, sqrt

import numpy as np

from lensnet.compare.contrast import Contrast, Pair, contrast, standard_error
from lensnet.compare.over_draws import over_draws
from lensnet.compare.row import Verdict
from lensnet.compare.settings import Settings

FLOAT_LIMIT = 1e37
"""Beyond this a second moment does not fit a float32 forward pass with room to spare."""

TWO_SIGMA = 0.5 * (1 + erf(sqrt(2.0)))
"""Quantile that two standard errors of a normal distribution reach."""

BEYOND_CHANCE = 0.9995
"""Quantile for a deviation: 1 in 1,000 by chance, counting both sides."""

FEWEST_SEEDS = 8
"""What a run with a single seed is told to use."""


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


@cache
def coverage_factor(seeds: int, quantile: float = TWO_SIGMA) -> float:
    """How many standard errors reach a quantile (2 for many seeds by default); infinite for a single seed."""
    if seeds < 2:
        return float("inf")
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, quantile))


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
            error_bar = standard_error(measured)
            return Judgement(None, mean, error_bar, median, None, None, None, "not-modelled")
        if mean is None:
            return unmeasured(predicted, failed)
        if not isfinite(predicted) or not isfinite(mean):
            return _not_finite(predicted, mean, median, failed)
        chosen = (
            over_draws(pair, predicted, measured) if pair.over else contrast(pair, predicted, measured, local, settings)
        )
        return _decide(pair, chosen, median, failed, settings)


def unmeasured(predicted: float | None, failed: bool) -> Judgement:
    """Of a prediction alone; `failed`: one of its assumptions does not hold."""
    if predicted is None:
        return Judgement(None, None, None, None, None, None, None, "not-modelled")
    verdict: Verdict = "out-of-regime" if failed else "undecided"
    return Judgement(predicted, None, None, None, None, None, None, verdict, "expectation")


def _not_finite(predicted: float, mean: float, median: float | None, failed: bool) -> Judgement:
    """A forward pass that overflows contradicts a finite prediction, unless the prediction itself does not fit."""
    overflow = not isfinite(predicted) or abs(predicted) > FLOAT_LIMIT
    verdict: Verdict = "out-of-regime" if failed or overflow else "deviates"
    return Judgement(predicted, mean, None, median, None, None, None, verdict)


def _decide(pair: Pair, c: Contrast, median: float | None, failed: bool, settings: Settings) -> Judgement:
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
        standard_error=None if single else c.standard_error * (c.measured if c.nats and pair.scale != "log" else 1.0),
        median=median,
        tolerance=None if single else tol + bar,
        error=_relative_error(c, relative, floor),
        slack=None if single else slack,
        verdict=verdict,
        functional=c.functional,
        seeds_wanted=None
        if verdict != "undecided" or pair.chance  # more draws of the input tell no more about the weights
        else _seeds_wanted(seeds, c.standard_error, bar, widest),
    )


def _floor(pair: Pair, settings: Settings) -> float:
    """The absolute part of the tolerance."""
    if pair.floor is not None:
        return pair.floor
    if pair.scale in ("signed", "bounded"):
        return settings.mean_floor * settings.tolerance * _size(pair)
    return settings.zero_floor * _size(pair) if pair.scale == "positive" else 0.0


def _size(pair: Pair) -> float:
    return abs(pair.size) if isfinite(pair.size) else 0.0


def _widest_test(pair: Pair, c: Contrast, resolution: float) -> float:
    """The widest error bar that still is a test: for a number of a distribution, which takes many draws, twice the
    resolution, and for a median a fifth of the scatter of single draws."""
    if pair.over:
        resolution *= 2
        if pair.over == "median" and pair.scatter:
            return log1p(resolution) + 0.2 * sqrt(pair.scatter)
    if pair.scale == "signed":
        return hypot(c.predicted, sqrt(resolution) * _size(pair)) - abs(c.predicted)
    if pair.scale == "bounded":
        return resolution * _size(pair)
    return log1p(resolution) if c.nats else resolution * c.unit


def _seeds_wanted(seeds: int, error_bar: float, bar: float, widest: float) -> int:
    """About how many seeds would decide: error bars shrink with the square root of their number."""
    if seeds < 2 or not isfinite(error_bar):
        return FEWEST_SEEDS
    if bar <= widest or widest <= 0:
        return 2 * seeds  # a difference on the edge: it must stand out more clearly, or go away
    ratio = min(2.2 * error_bar / widest, 1e6)  # beyond this no budget will do, and squares overflow
    return max(seeds + 1, ceil(seeds * ratio**2))


def _relative_error(c: Contrast, relative: float, floor: float) -> float | None:
    """measured/predicted - 1; None where the absolute part of the tolerance is the larger one."""
    if c.unit == 0 or floor > relative * c.unit:
        return None
    if c.nats:
        return expm1(c.difference) if c.difference < 700 else float("inf")
    return c.difference / c.predicted if c.predicted else None


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
