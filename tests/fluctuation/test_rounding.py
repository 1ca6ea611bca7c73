"""Rounding: storage and sums bit by bit, and whole networks in half precision beside float64."""

from __future__ import annotations

import numpy as np
import pytest

import lensnet
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Law
from lensnet.predict.fluctuation.rounding import BLOCK, binade, proportional_share, storage_noise, sum_noise
from lensnet.run import run


def rounded(x, bits):
    """To nearest even, `bits` significand bits, exponents without bounds."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)


@pytest.mark.parametrize(("bits", "std"), [(8, 1.0), (8, 1.37), (11, 0.02)])
def test_storage_of_gaussian_values(bits, std):
    x = std * np.random.default_rng(0).standard_normal(400_000)
    law = Law(np.zeros(1), np.full(1, std**2), np.inf, "")
    noise = np.mean((rounded(x, bits) - x) ** 2) / np.mean(x**2)
    assert storage_noise(bits, binade(law)) == pytest.approx(noise, rel=0.01)


def test_storage_averaged_over_scales():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(400_000) * 2.0 ** rng.random(400_000)
    weight = 1 / x**2
    assert storage_noise(9) == pytest.approx(np.mean((rounded(x, 9) - x) ** 2 * weight), rel=0.01)


@pytest.mark.parametrize("terms", [16, 64])
def test_sums_rounded_after_every_addition(terms):
    """Partial sums of i terms hold i/k of the power: (k + 1)/2 storage errors. Increments stay above the last bit."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40_000, terms))
    total = np.zeros(len(x))
    for term in x.T:
        total = rounded(total + term, 14)
    exact = x.sum(1)
    noise = np.mean((total - exact) ** 2) / np.mean(exact**2)
    assert sum_noise(terms, 14) == pytest.approx(noise, rel=0.08)  # the binade of each partial sum: 7 % up or down
    squares, errors = exact**2 / np.mean(exact**2), (total - exact) ** 2 / np.mean((total - exact) ** 2)
    share = np.cov(squares, errors)[0, 1] / np.var(squares)  # the rest is as large for small sums as for large ones
    assert proportional_share(terms) == pytest.approx(share, abs=0.08)


def test_long_sums_go_in_blocks():
    assert sum_noise(10 * BLOCK, 24) == sum_noise(BLOCK, 24)
    assert sum_noise(BLOCK + 2, 24) == sum_noise(BLOCK // 2 + 1, 24)  # two equal blocks


@pytest.mark.parametrize(
    ("name", "dtype", "overrides"),
    [
        ("residual_mlp", "bfloat16", ["constants.depth=3", "constants.width=128"]),
        ("tanh_critical", "float16", ["constants.depth=4", "constants.width=128"]),
        ("residual_mlp", "float32", ["constants.depth=2", "constants.width=128"]),
        ("tanh_critical", "float32", ["constants.depth=4", "constants.width=256"]),
    ],
)
def test_networks_in_a_number_format_beside_float64(name, dtype, overrides):
    network = lensnet.load(name, [*overrides, "input.batch=16"]).network
    report = run(network, 4, levels=(Level.FLUCTUATION,), most_seeds=4, dtype=dtype, backward=False)
    rows = [row for row in report.rows if row.quantity == "rounding"]
    assert len(rows) == len(network)
    allowed = 0.4 if dtype == "float32" else 0.06
    for row in rows:
        few = 2 / np.sqrt(network[row.component].shape.channels * 16)  # an output of ten units holds few errors
        assert row.measured == pytest.approx(row.predicted, rel=allowed + 3 * few), row.component
