"""Building an expression simplifies it: its value stays that of the text, in the engine and in sympy's hands."""

from __future__ import annotations

import math
import random

import mpmath
import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.derivative import derivative
from lensnet.algebra.tape import compile_tape
from lensnet.expressions.symbolic import from_sympy, to_sympy
from lensnet.language.formula import FormulaError, expression_of, read_formula
from tests.expressions.as_written import value_of

NAMES = ("x", "y", "z")
LEAVES = (*NAMES, *NAMES, "1", "2", "3", "0.5", "1/3", "pi", "sqrt(2)")
UNARY = "exp log sin cos tanh erf erfc sqrt abs sigmoid softplus phi Phi relu".split()
FORMULAS, POINTS = 400, 3


def random_formula(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.12:
        return rng.choice(LEAVES)
    kind = rng.random()
    inner = [random_formula(rng, depth - 1) for _ in range(2)]
    if kind < 0.3:
        return f"({inner[0]} {rng.choice('+-')} {inner[1]})"
    if kind < 0.6:
        return f"({inner[0]} {rng.choice('*/')} {inner[1]})"
    if kind < 0.75:
        return f"({inner[0]})**{rng.choice(('2', '3', '(-1)', '(-2)', '(1/2)', '(3/2)', '(-1/2)', '(1/3)'))}"
    if kind < 0.8:
        return f"{rng.choice(('min', 'max'))}({inner[0]}, {inner[1]})"
    if kind < 0.84:
        return f"where({inner[0]} < {rng.choice(NAMES)}, {inner[1]}, {rng.choice(LEAVES)})"
    return f"{rng.choice(UNARY)}({inner[0]})"


def real(value: object) -> float:
    """nan for what is no real number, as the engine has it."""
    return math.nan if isinstance(value, mpmath.mpc) and value.imag else float(mpmath.re(value))  # type: ignore[attr-defined]


def written(text: str, point: dict[str, float]) -> tuple[float, float]:
    """The value, and how far it moves when every symbol moves by one part in 1e13: what rounding may cost."""
    term = read_formula(text)
    with mpmath.workdps(60):
        at = {name: mpmath.mpf(value) for name, value in point.items()}
        value = real(value_of(term, at))
        near = [real(value_of(term, {**at, name: at[name] * (1 + mpmath.mpf("1e-13"))})) for name in NAMES]
    return value, max(abs(other - value) for other in near)


def test_random_formulas_keep_their_value() -> None:
    rng, compared = random.Random(7), 0
    for _ in range(FORMULAS):
        text = random_formula(rng, 4)
        try:
            expression = expression_of(text, NAMES)
            tape, symbolic = compile_tape(expression), compile_tape(from_sympy(to_sympy(expression)))
        except FormulaError:
            continue
        for _ in range(POINTS):
            point = {name: rng.uniform(0.2, 2.0) for name in NAMES}
            try:
                value, loss = written(text, point)
            except (ZeroDivisionError, OverflowError, TypeError):
                continue  # a comparison of what is no real number
            if not (math.isfinite(value) and 1e-8 < abs(value) < 1e8) or not loss < 1e-6 * abs(value):
                continue
            allowed = 1e-11 * abs(value) + 30 * loss
            assert float(tape(point)) == pytest.approx(value, abs=allowed), text
            assert float(symbolic(point)) == pytest.approx(value, abs=allowed), text
            compared += 1
    assert compared > FORMULAS


SMOOTH = (
    "x*Phi(x)", "x*tanh(softplus(x))", "exp(-x**2/8)*x", "log(1 + exp(2*x))/2", "x/(1 + exp(-1.7*x))",
    "sin(x)**2*cos(3*x)", "atan(x) + asin(x/9)", "erf(x)/(1 + x**2)", "(1 + x**2)**(1/3)", "x**y + y**x",
    "gamma(1 + x)*loggamma(2 + x)", "atan2(x, 1 + y**2)", "phi(x)*Phi(y*x)", "max(x, 0.3*x)*sigmoid(x)",
    "where(x > 1, x**2, 2*x - 1)",
)  # fmt: skip


@pytest.mark.parametrize("text", SMOOTH)
def test_derivatives_are_slopes(text: str) -> None:
    slope = compile_tape(derivative(expression_of(text, ["x", "y"]), "x"))
    term, y, step = read_formula(text), mpmath.mpf("0.6"), mpmath.mpf("1e-14")
    for x in (0.31, 0.8, 1.6, 2.9):
        with mpmath.workdps(40):
            expected = mpmath.diff(lambda at: value_of(term, {"x": at, "y": y}), mpmath.mpf(x), h=step)
        np.testing.assert_allclose(float(slope({"x": x, "y": 0.6})), float(expected), rtol=1e-10)


x = sp.Symbol("x", real=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x/sqrt(2)", "sqrt(2)*x/2"), ("sqrt(8)*x", "2*sqrt(2)*x"), ("(x*y)**2", "x**2*y**2"), ("x - x", "0"),
        ("exp(x)*exp(y)", "exp(x + y)"), ("sqrt(x)*sqrt(x)", "x"), ("sqrt(x**2)", "abs(x)"), ("log(exp(x))", "x"),
        ("exp(log(x))", "x"), ("tanh(-x)", "-tanh(x)"), ("cos(-x)", "cos(x)"), ("2*(x + 1)", "2*x + 2"),
        ("abs(-3*x)", "3*abs(x)"), ("x**2/x", "x"), ("sqrt(2)*sqrt(3)", "sqrt(6)"), ("sin(pi)", "0"),
        ("max(1, x, 2)", "max(2, x)"), ("abs(x)**2", "x**2"), ("1/(1/x)", "x"), ("x + y", "y + x"),
    ],
)  # fmt: skip
def test_equal_formulas_are_one_expression(first: str, second: str) -> None:
    assert expression_of(first, NAMES) == expression_of(second, NAMES)


def test_sympy_takes_a_tree_wherever_it_takes_an_expression() -> None:
    tree = expression_of("x**2", ["x"])
    assert sp.sympify(tree) == x**2
    assert 2 * x + tree == 2 * x + x**2
    assert sp.exp(tree).diff(x) == 2 * x * sp.exp(x**2)
