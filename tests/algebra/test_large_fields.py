"""Fields of very many (mean, std) pairs: interpolated, with errors that hold, and in time."""

from __future__ import annotations

import time

import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import pointwise
from lensnet.algebra.quadrature import integrate
from lensnet.algebra.table import relative_scale
from lensnet.expressions.symbolic import X
from tests.algebra.functions import CASES
from tests.algebra.test_gaussian import stacked

COUNT = 40_000


def fields(varying_mean: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    std = np.exp(rng.uniform(np.log(0.05), np.log(5.0), COUNT))
    return (rng.normal(0, 1, COUNT) if varying_mean else np.full(COUNT, 0.3)), std


@pytest.mark.parametrize("varying_mean", [False, True])
@pytest.mark.parametrize("name", ["tanh", "elu", "mish", "tanh 50x", "softsign", "relu", "gelu", "hardswish"])
def test_a_large_field_agrees_with_single_integrals(name: str, varying_mean: bool) -> None:
    mean, std = fields(varying_mean)
    value, error = stacked(expect(CASES[name].function, mean, std))
    some = np.arange(0, COUNT, COUNT // 150)
    exact, exact_error = integrate(CASES[name].function, mean[some], std[some])
    scale = relative_scale(exact, mean[some], std[some])
    # what matters is the field's average: pairs far below it (dead units) need no digits of their own
    scale = scale + 0.1 * scale.mean(axis=1, keepdims=True)
    gap = np.abs(value[:, some] - exact)
    tolerance = 1e-7 if varying_mean else 1e-11
    assert np.all(gap <= tolerance * scale)
    assert np.mean(gap <= 3 * error[:, some] + exact_error + 1e-14 * scale) > 0.99
    assert np.all(error[:, some] <= 20 * tolerance * scale)


def test_repeated_pairs_are_integrated_once() -> None:
    # three examples whose positions are all alike
    std = np.repeat([0.4, 1.1, 2.0], 30_000).reshape(3, 30_000)
    mean = np.repeat([-0.2, 0.0, 0.5], 30_000).reshape(3, 30_000)
    start = time.perf_counter()
    result = expect(CASES["mish"].function, mean, std)
    assert time.perf_counter() - start < 1.0
    single = expect(CASES["mish"].function, mean[:, 0], std[:, 0])
    assert np.array_equal(result.second_moment.value[:, 17], single.second_moment.value)


def test_zeros_among_many_stay_exact() -> None:
    mean, std = fields(False)
    std[::7] = 0.0
    result = expect(CASES["tanh"].function, mean, std)
    assert np.all(result.mean.value[::7] == np.tanh(0.3))
    assert np.all(result.mean.error[::7] == 0.0)


def test_a_million_pairs_take_about_a_second() -> None:
    """Process time, generous for shared machines; measured alone: 0.2 s for one mean, 0.8 s for varying means."""
    rng = np.random.default_rng(6)
    std, mean = np.exp(rng.uniform(-1.5, 0.7, 1_000_000)), rng.normal(0, 0.5, 1_000_000)
    fresh = pointwise(X * sp.tanh(sp.exp(X)))
    for field in (np.zeros_like(mean), mean):
        start = time.process_time()
        expect(fresh, field, std)
        assert time.process_time() - start < 5.0
