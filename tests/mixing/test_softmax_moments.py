"""Softmax of independent Gaussian logits: integrals against Monte Carlo, closed cases and limits."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

from lensnet.algebra.mixing.softmax_moments import (
    LARGEST_VARIANCE,
    SoftmaxMoments,
    log_sum_mean,
    log_sum_square,
    softmax_jacobian,
    softmax_moments,
    softmax_square_sum,
)

NAMES = [field.name for field in fields(SoftmaxMoments)]


def sampled(variance: float, count: int, draws: int = 60_000) -> dict[str, np.ndarray]:
    """Every moment's integrand on random logits."""
    logits = np.random.default_rng(count).standard_normal((draws, count)) * np.sqrt(variance)
    a = np.exp(logits - logits.max(1, keepdims=True))
    a /= a.sum(1, keepdims=True)
    mean = (a * logits).sum(1)
    pulled = a * (logits - mean[:, None])  # J l
    square, cube = (a**2).sum(1), (a**3).sum(1)
    spread = (logits * pulled).sum(1)
    return {
        "square_sum": square,
        "cube_sum": cube,
        "square_sum_squared": square**2,
        "mean_logit": mean**2 / variance,
        "jacobian": square - 2 * cube + square**2,
        "jacobian_trace": (1 - square) ** 2,
        "slope": (pulled**2).sum(1) / variance,
        "curvature": spread**2 / variance**2,
        "drift": (a * pulled).sum(1) / variance,
        "skew": spread * mean / variance**2,
    }


@pytest.mark.parametrize("variance", [0.05, 0.5, 2.25, 9.0])
@pytest.mark.parametrize("count", [2, 5, 40])
def test_against_monte_carlo(variance: float, count: int) -> None:
    exact, random = softmax_moments(variance, count), sampled(variance, count)
    for name in NAMES:
        error = random[name].std() / np.sqrt(len(random[name]))
        assert getattr(exact, name) == pytest.approx(random[name].mean(), abs=4.5 * error + 1e-12), name


@pytest.mark.parametrize("variance", [0.01, 0.7, 4.0, 30.0])
def test_two_logits_are_one_sigmoid(variance: float) -> None:
    def average(integrand):
        return quad(
            lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * integrand(expit(np.sqrt(2 * variance) * z)), -9, 9
        )[0]

    exact = softmax_moments(variance, 2)
    assert exact.square_sum == pytest.approx(average(lambda s: s**2 + (1 - s) ** 2), rel=1e-5)
    assert exact.cube_sum == pytest.approx(average(lambda s: s**3 + (1 - s) ** 3), rel=1e-5)
    assert exact.jacobian == pytest.approx(average(lambda s: 4 * (s * (1 - s)) ** 2), rel=1e-4)


def test_limits() -> None:
    for count in (1, 2, 7, 300):  # quiet logits: all alike
        quiet = softmax_moments(0.0, count)
        assert quiet.square_sum == pytest.approx(1 / count, rel=1e-4)
        assert quiet.mean_logit == pytest.approx(1 / count, abs=2e-5)
        assert quiet.jacobian == pytest.approx((count - 1) / count**2, abs=1e-8, rel=1e-4)
    alone = softmax_moments(3.0, 1)
    assert alone.square_sum == pytest.approx(1) and alone.mean_logit == pytest.approx(1, rel=1e-5)
    assert alone.jacobian == pytest.approx(0, abs=1e-12) and alone.slope == pytest.approx(0, abs=1e-12)
    loud = softmax_moments(LARGEST_VARIANCE, 10)  # one logit wins nearly always
    assert loud.square_sum > 0.75 and softmax_moments(1e9, 10).square_sum == loud.square_sum


def test_many_logits_give_the_exponential_law_with_a_rate() -> None:
    counts = np.array([200, 400, 800, 1600, 3200, 6400])
    distance = np.abs(softmax_moments(0.6, counts).square_sum * counts / np.exp(0.6) - 1)
    assert np.polyfit(np.log(counts), np.log(distance), 1)[0] == pytest.approx(-1, abs=0.05)


def test_tables_are_smooth_and_shared() -> None:
    """A value does not depend on what else is asked for: the range of the table, the other counts, the shape."""
    for variance in (1e-4, 0.3, 2.0, 20.0):
        alone = softmax_moments(variance, 16)
        among = softmax_moments([[variance, 40.0], [0.1, variance]], [[16, 3], [1000, 16]])
        for name in NAMES:
            value = getattr(among, name)
            assert value.shape == (2, 2)
            assert value[0, 0] == value[1, 1] == pytest.approx(getattr(alone, name), rel=2e-4), name


def test_unusable_arguments() -> None:
    with pytest.raises(ValueError, match="negative"):
        softmax_moments(-0.1, 4)
    with pytest.raises(ValueError, match="at least one"):
        softmax_moments(1.0, 0)
    assert np.isnan(softmax_moments(np.nan, 4).square_sum)


@pytest.mark.parametrize("variance", [0.5, 4.0])
def test_a_measured_variance_is_not_that_of_the_law(variance: float) -> None:
    """Fed the biased variance of the same few logits, the formula still gives their average."""
    logits = np.random.default_rng(3).standard_normal((40_000, 10)) * np.sqrt(variance)
    a = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    square = (a**2).sum(1)
    jacobian = square - 2 * (a**3).sum(1) + square**2
    for function, values in ((softmax_square_sum, square), (softmax_jacobian, jacobian)):
        predicted = function(logits.var(1), 10, 0.0)
        error = (values - predicted).std() / np.sqrt(len(values))
        assert predicted.mean() == pytest.approx(values.mean(), abs=4 * error + 0.004 * values.mean())
        assert function(np.array(variance), 10, 1.0) == pytest.approx(
            values.mean(), abs=4 * error + 0.01 * values.mean()
        )


@pytest.mark.parametrize("variance", [0.05, 1.0, 9.0, 36.0])
@pytest.mark.parametrize("count", [2, 10, 300])
def test_the_logarithm_of_the_sum_against_monte_carlo(variance: float, count: int) -> None:
    logits = np.random.default_rng(count).standard_normal((40_000, count)) * np.sqrt(variance)
    above = np.logaddexp.reduce(logits, axis=1)
    one, size = np.ones(1), np.array([float(count)])
    for exact, random in (
        (log_sum_mean(variance * one, size, one), above),
        (log_sum_square(variance * one, size, one), (above - logits.mean(1)) ** 2),
    ):
        assert exact == pytest.approx(random.mean(), abs=4.5 * random.std() / 200)
