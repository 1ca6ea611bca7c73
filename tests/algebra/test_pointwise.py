"""Kinks, jumps, pieces, flags and combinations of pointwise functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
import torch

from lensnet.algebra.kinks import find_kinks
from lensnet.algebra.pointwise import compose, pointwise, product, total
from lensnet.algebra.tape import TapeError
from lensnet.expressions.symbolic import X
from tests.algebra.functions import CASES

R = sp.Rational


@pytest.mark.parametrize("name", [name for name in CASES if name != "abs sin"])
def test_kinks_are_found_from_the_formula(name: str) -> None:
    kinks = CASES[name].function.kinks
    assert kinks.complete
    assert kinks.points == pytest.approx(CASES[name].kinks, abs=1e-15)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (sp.Abs(X**2 - 2), (-math.sqrt(2), math.sqrt(2))),
        (sp.Max(sp.cos(X), X), (0.7390851332151607,)),
        (sp.Max(X, 2 * X - 1, 3 - X), (1.0, R(4, 3), R(3, 2))),
        (sp.Abs(sp.exp(X) - 3) + sp.sign(X + 5), (-5.0, math.log(3))),
        (sp.Piecewise((1, X < -1), (X, X < R(1, 3)), (X**2, True)), (-1.0, R(1, 3))),
        (sp.sqrt(sp.Abs(X - 1)), (1.0,)),
        (X * sp.log(sp.Abs(X)), (0.0,)),
        (sp.Abs(sp.tanh(X) - R(1, 2)), (math.atanh(0.5),)),
    ],
)
def test_harder_kinks(expression: sp.Expr, expected: tuple[float, ...]) -> None:
    assert find_kinks(expression).points == pytest.approx([float(e) for e in expected], abs=1e-13)


def test_endless_kinks_are_listed_in_the_range_and_flagged() -> None:
    kinks = CASES["abs sin"].function.kinks
    assert not kinks.complete
    expected = [k * math.pi for k in range(-162, 163)]
    assert kinks.points == pytest.approx(expected, abs=1e-12)


def test_declared_kinks_join_those_found() -> None:
    assert find_kinks(sp.Abs(X), declared=[2.0, 0.0]).points == (0.0, 2.0)


def test_a_function_of_two_variables_is_refused() -> None:
    with pytest.raises(TapeError, match="beta"):
        find_kinks(sp.Abs(X - sp.Symbol("beta")))
    with pytest.raises(TapeError, match="slope"):
        pointwise(sp.Symbol("slope") * X)


def test_jumps_and_bends_are_told_apart() -> None:
    assert CASES["step"].function.jumps == ((0.0, 1.0),)
    assert CASES["sign"].function.jumps == ((0.0, 2.0),)
    ((position, height),) = CASES["threshold"].function.jumps
    assert (position, height) == pytest.approx((0.3, 0.3), rel=1e-12)
    for name in ("relu", "hardswish", "abs sin", "elu", "softsign"):
        assert CASES[name].function.jumps == ()
    assert pointwise(sp.Piecewise((sp.sqrt(X), X > 0), (0, True))).jumps == ()


def test_pieces_are_found_and_joined_where_nothing_changes() -> None:
    assert CASES["hardtanh"].function.pieces == ((-1.0, 1.0), ((-1.0,), (0.0, 1.0), (1.0,)))
    assert pointwise(sp.Max(X, 0) - sp.Max(-X, 0)).pieces == ((), ((0.0, 1.0),))
    assert CASES["gelu"].function.pieces is None
    assert pointwise(sp.sign(X) * X**2).pieces == ((0.0,), ((0.0, 0.0, -1.0), (0.0, 0.0, 1.0)))


def test_flags() -> None:
    degrees = {
        "relu": 1,
        "leaky": 1,
        "abs": 1,
        "identity": 1,
        "x + relu": 1,
        "step": 0,
        "sign": 0,
        "square": 2,
        "x^5": 5,
    }
    for name, case in CASES.items():
        function = case.function
        assert function.homogeneity == degrees.get(name), name
        assert function.is_affine == (name == "identity")
    assert pointwise(3 * X - 2).is_affine


def test_parameters_are_bound_as_exact_decimals() -> None:
    slope = sp.Symbol("slope", real=True)
    leaky = pointwise(sp.Piecewise((X, X > 0), (slope * X, True)), parameters={"slope": 0.1, "unused": 3.0})
    assert leaky.pieces == ((0.0,), ((0.0, 0.1), (0.0, 1.0)))
    assert leaky.expression == CASES["leaky"].expression
    with pytest.raises(TapeError, match="finite"):
        pointwise(slope * X, parameters={"slope": math.inf})


def test_constants_keep_the_shape() -> None:
    constant = pointwise(sp.Integer(2))
    assert constant(np.zeros((2, 3))).tolist() == [[2.0] * 3] * 2
    assert constant.derivative(np.zeros(4)).tolist() == [0.0] * 4
    tensor = torch.zeros(2, 3, requires_grad=True)
    result = constant.torch(tensor)
    assert result.shape == (2, 3) and result.dtype == torch.float32
    result.sum().backward()
    assert not tensor.grad.any()


def test_combinations_have_the_kinks_of_their_parts() -> None:
    relu, tanh = CASES["relu"].function, CASES["tanh"].function
    shifted = pointwise(sp.tanh(X) - R(1, 2))
    chain = compose(relu, shifted)
    assert chain.kinks.points == pytest.approx([math.atanh(0.5)], abs=1e-14)
    points = np.linspace(-3, 3, 11)
    np.testing.assert_allclose(chain(points), relu(shifted(points)))
    np.testing.assert_allclose(product(relu, tanh)(points), relu(points) * tanh(points))
    np.testing.assert_allclose(total(relu, tanh)(points), relu(points) + tanh(points))
    assert product(relu, CASES["hardtanh"].function).kinks.points == (-1.0, 0.0, 1.0)


def test_a_chain_meets_the_declared_kinks_of_its_outer_function() -> None:
    outer = pointwise(sp.tanh(X), kinks=[0.5])
    chain = compose(outer, pointwise(X**3 - 2))
    assert chain.kinks.points == pytest.approx([2.5 ** (1 / 3)], abs=1e-13)
    assert compose(outer, pointwise(X**3 - 2)) is chain
