"""Rows about a distribution over weight draws: medians, scatter, the share inside a band."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.compare.contrast import Pair, contrast
from lensnet.compare.over_draws import median_interval, over_draws
from lensnet.compare.settings import Settings
from lensnet.compare.verdict import judge

SETTINGS = Settings()


@pytest.mark.parametrize("count", [6, 20, 200])
def test_the_interval_of_the_median_holds_it_whatever_the_law(count):
    """At least 95 % of the time: for a normal, a log-normal of 3 nats, and a law with two humps."""
    rng = np.random.default_rng(count)
    normal = rng.standard_normal((800, count))
    for values, median in (
        (normal, 0.0),
        (np.exp(3 * normal), 1.0),
        (np.where(rng.random(normal.shape) < 0.5, normal - 3, normal + 3), 0.0),
    ):
        ends = [median_interval(np.sort(row)) for row in values]
        held = np.mean([low <= median <= high for low, high in ends])
        assert held > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 800)


def test_too_few_draws_have_no_interval():
    assert median_interval(np.arange(5.0)) is None
    assert median_interval(np.arange(6.0)) == (0.0, 5.0)


def pair(over, predicted, values, scatter=1.0, band=None):
    scale = "bounded" if over == "band" else "positive"
    return Pair(predicted, values, scale=scale, scatter=scatter, certain=True, over=over, band=band)


def verdicts(over, factor, draws=200, sd=2.0):
    """Verdicts of 100 reports whose prediction is `factor` times the truth."""
    rng = np.random.default_rng(7)
    out = []
    for _ in range(100):
        values = np.exp(sd * rng.standard_normal(draws))
        truth = {"median": 1.0, "scatter": sd, "band": 0.9}[over]
        low, high = (factor if over == "band" else 1.0) * np.array([-1.645, 1.645]) * sd
        row = pair(over, truth * (1.0 if over == "band" else factor), values, sd**2, (np.exp(low), np.exp(high)))
        out.append(judge(row, SETTINGS).verdict)
    return out


@pytest.mark.parametrize(("over", "wrong"), [("median", 3.0), ("scatter", 1.4), ("band", 0.6)])
def test_the_truth_is_confirmed_and_a_wrong_law_is_not(over, wrong):
    right = verdicts(over, 1.0)
    assert np.mean([v == "agrees" for v in right]) > 0.9
    assert np.mean([v == "deviates" for v in right]) <= 0.02
    assert np.mean([v == "agrees" for v in verdicts(over, wrong)]) < 0.1


def test_dead_draws_are_left_out():
    found = over_draws(pair("median", 2.0, [0.0]), 2.0, np.array([0.0, 0.0, 2.0, 2.0, 2.0, np.inf]))
    assert found.measured == 2.0


def test_the_predicted_scatter_takes_the_place_of_the_sample_error():
    """Twenty draws of a heavy tail whose sample looks tame: the error bar is the predicted one."""
    values = [0.5, 0.6, 0.7, 0.8] * 5
    known = contrast(Pair(1.0, values, scatter=0.4, certain=True), 1.0, np.array(values), None, SETTINGS)
    assert known.standard_error == pytest.approx(np.sqrt(np.expm1(0.4) / 20))
    guessed = contrast(Pair(1.0, values, scatter=0.4), 1.0, np.array(values), None, SETTINGS)
    assert guessed.standard_error < 0.2 * known.standard_error


def test_no_scatter_is_compared_as_it_is():
    values = 1 + 1e-4 * np.random.default_rng(0).standard_normal(50)
    assert judge(pair("scatter", 0.0, values, 0.0), SETTINGS).verdict == "agrees"
    assert judge(pair("scatter", 0.0, np.exp(values * 300 - 300), 0.0), SETTINGS).verdict == "deviates"
