"""Special functions that formulas call by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from scipy import stats
from scipy.integrate import quad

from lensnet.algebra.special import SPECIAL_FUNCTIONS, special
from lensnet.algebra.tape import TapeError, compile_tape

x, k, h, a = sp.symbols("x k h a", real=True)


def call(name: str, *arguments: sp.Expr) -> sp.Expr:
    return sp.Function(name, real=True)(*arguments)


def test_the_largest_of_two_and_three_is_known() -> None:
    tape = compile_tape({"mean": call("max_mean", k), "variance": call("max_variance", k)})
    result = tape({"k": np.array([1.0, 2.0, 3.0])})
    np.testing.assert_allclose(result["mean"], [0, 1 / math.sqrt(math.pi), 1.5 / math.sqrt(math.pi)], atol=1e-15)
    three = 1 + math.sqrt(3) / (2 * math.pi) - 9 / (4 * math.pi)
    np.testing.assert_allclose(result["variance"], [1, 1 - 1 / math.pi, three], rtol=1e-13)


@pytest.mark.parametrize("count", [9.0, 16.0, 49.0, 1000.0, 1e6, 1e12])
def test_the_largest_of_many_against_quad(count: float) -> None:
    def density(z: float) -> float:
        return count * stats.norm.pdf(z) * math.exp((count - 1) * stats.norm.logcdf(z))

    middle = float(stats.norm.isf(1 / count))
    pieces = [-8.0, middle - 2, middle, middle + 2, middle + 8]

    def average(f) -> float:
        parts = zip(pieces[:-1], pieces[1:], strict=True)
        return sum(quad(lambda z: f(z) * density(z), low, high, epsabs=1e-14, epsrel=1e-12)[0] for low, high in parts)

    mean = average(lambda z: z)
    assert float(SPECIAL_FUNCTIONS["max_mean"].numpy(count)) == pytest.approx(mean, rel=1e-10)
    variance = average(lambda z: (z - mean) ** 2)
    assert float(SPECIAL_FUNCTIONS["max_variance"].numpy(count)) == pytest.approx(variance, rel=1e-9)


def test_the_largest_of_nine_by_simulation() -> None:
    sample = np.random.default_rng(2).standard_normal((200_000, 9)).max(axis=1)
    assert float(SPECIAL_FUNCTIONS["max_mean"].numpy(9.0)) == pytest.approx(sample.mean(), abs=0.006)
    assert float(SPECIAL_FUNCTIONS["max_variance"].numpy(9.0)) == pytest.approx(sample.var(), abs=0.006)


def test_impossible_counts_are_nan() -> None:
    assert np.isnan(SPECIAL_FUNCTIONS["max_mean"].numpy(np.array([0.5, np.inf]))).all()


def test_owens_t_is_a_probability_of_a_wedge() -> None:
    value = float(compile_tape(call("owens_t", h, a))({"h": 0.7, "a": 1.3}))
    inner = quad(lambda t: math.exp(-(0.7**2) * (1 + t * t) / 2) / (1 + t * t), 0, 1.3, epsabs=1e-15)[0]
    assert value == pytest.approx(inner / (2 * math.pi), rel=1e-13)


@pytest.mark.parametrize("name", [name for name, entry in SPECIAL_FUNCTIONS.items() if entry.derivatives])
def test_declared_derivatives_are_right(name: str) -> None:
    entry = SPECIAL_FUNCTIONS[name]
    symbols = sp.symbols(f"u:{entry.arity}", real=True)
    tape = compile_tape(call(name, *symbols))
    point = {symbol.name: 0.4 + 0.3 * i for i, symbol in enumerate(symbols)}
    for symbol in symbols[: len(entry.derivatives)]:
        step = 1e-5
        up, down = dict(point), dict(point)
        up[symbol.name] += step
        down[symbol.name] -= step
        difference = (float(tape(up)) - float(tape(down))) / (2 * step)
        assert float(tape.derivative(symbol)(point)) == pytest.approx(difference, rel=1e-8)


def test_every_entry_is_described() -> None:
    for name, entry in SPECIAL_FUNCTIONS.items():
        assert entry.name == name and entry.about and entry.arity >= 1
        entry.latex.format(*("x" for _ in range(entry.arity)))


def test_registering_checks_name_docstring_and_arity() -> None:
    with pytest.raises(ValueError, match="twice"):
        special("max_mean", 1, "m")(lambda k: k)
    with pytest.raises(ValueError, match="docstring"):
        special("undocumented", 1, "u")(lambda k: k)
    with pytest.raises(TapeError, match="takes 2 arguments"):
        compile_tape(call("owens_t", x))
    with pytest.raises(TapeError, match="no torch form"):
        import torch

        compile_tape(call("max_mean", k))({"k": torch.ones(1)})
    with pytest.raises(TapeError, match="max_mean"):
        compile_tape(call("max_mean", k)).derivative("k")
