"""Functions for the tests of this folder: the formula, and value and slope written independently of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from lensnet.algebra.pointwise import PointwiseFunction, pointwise
from lensnet.expressions.symbolic import X


@dataclass(frozen=True)
class Case:
    expression: sp.Expr
    value: Callable[[float], float]
    slope: Callable[[float], float]
    kinks: tuple[float, ...] = ()

    @property
    def function(self) -> PointwiseFunction:
        return pointwise(self.expression)


def side(x: float) -> float:
    return float(x > 0) - float(x < 0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def phi(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def sech2(x: float) -> float:
    return 0.0 if abs(x) > 350 else 1 / math.cosh(x) ** 2


def mish_slope(x: float) -> float:
    return math.tanh(softplus(x)) + x * sech2(softplus(x)) * sigmoid(x)


def hardswish_slope(x: float) -> float:
    return 0.0 if x < -3 else 1.0 if x > 3 else (2 * x + 3) / 6


SCALE, ALPHA = 1.0507009873554804934, 1.6732632423543772848
R = sp.Rational
Phi = (1 + sp.erf(X / sp.sqrt(2))) / 2
ENDLESS = tuple(k * math.pi for k in range(-162, 163))

CASES: dict[str, Case] = {
    "identity": Case(X, lambda x: x, lambda x: 1.0),
    "relu": Case(sp.Max(0, X), lambda x: max(x, 0.0), lambda x: float(x > 0), (0,)),
    "leaky": Case(
        sp.Piecewise((X, X > 0), (X / 10, True)),
        lambda x: x if x > 0 else x / 10,
        lambda x: 1.0 if x > 0 else 0.1,
        (0,),
    ),
    "abs": Case(sp.Abs(X), abs, lambda x: math.copysign(1.0, x), (0,)),
    "elu": Case(
        sp.Piecewise((X, X > 0), (sp.exp(X) - 1, True)),
        lambda x: x if x > 0 else math.expm1(x),
        lambda x: 1.0 if x > 0 else math.exp(x),
        (0,),
    ),
    "selu": Case(
        R(str(SCALE)) * sp.Piecewise((X, X > 0), (R(str(ALPHA)) * (sp.exp(X) - 1), True)),
        lambda x: SCALE * (x if x > 0 else ALPHA * math.expm1(x)),
        lambda x: SCALE * (1.0 if x > 0 else ALPHA * math.exp(x)),
        (0,),
    ),
    "gelu": Case(X * Phi, lambda x: x * cdf(x), lambda x: cdf(x) + x * phi(x)),
    "silu": Case(X / (1 + sp.exp(-X)), lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
    "mish": Case(X * sp.tanh(sp.log(1 + sp.exp(X))), lambda x: x * math.tanh(softplus(x)), mish_slope),
    "tanh": Case(sp.tanh(X), math.tanh, sech2),
    "sigmoid": Case(1 / (1 + sp.exp(-X)), sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "softplus": Case(sp.log(1 + sp.exp(X)), softplus, sigmoid),
    "hardtanh": Case(sp.Max(-1, sp.Min(1, X)), lambda x: max(-1.0, min(1.0, x)), lambda x: float(abs(x) < 1), (-1, 1)),
    "hardswish": Case(
        X * sp.Min(6, sp.Max(0, X + 3)) / 6, lambda x: x * min(6.0, max(0.0, x + 3)) / 6, hardswish_slope, (-3, 3)
    ),
    "erf": Case(sp.erf(X), math.erf, lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x)),
    "sin": Case(sp.sin(X), math.sin, math.cos),
    "cos": Case(sp.cos(X), math.cos, lambda x: -math.sin(x)),
    "square": Case(X**2, lambda x: x * x, lambda x: 2 * x),
    "step": Case(sp.Heaviside(X), lambda x: 0.5 * (1 + side(x)), lambda x: 0.0, (0,)),
    "sign": Case(sp.sign(X), side, lambda x: 0.0, (0,)),
    "exp": Case(sp.exp(X), math.exp, math.exp),
    "x^5": Case(X**5, lambda x: x**5, lambda x: 5 * x**4),
    "tanh 50x": Case(sp.tanh(50 * X), lambda x: math.tanh(50 * x), lambda x: 50 * sech2(50 * x)),
    "abs sin": Case(
        sp.Abs(sp.sin(X)), lambda x: abs(math.sin(x)), lambda x: math.copysign(1, math.sin(x)) * math.cos(x), ENDLESS
    ),
    "threshold": Case(
        sp.Piecewise((X, X > R(3, 10)), (0, True)), lambda x: x if x > 0.3 else 0.0, lambda x: float(x > 0.3), (0.3,)
    ),
    "x + relu": Case(X + sp.Max(0, X), lambda x: x + max(x, 0.0), lambda x: 1.0 + (x > 0), (0,)),
    "softsign": Case(X / (1 + sp.Abs(X)), lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2, (0,)),
    "gelu tanh": Case(
        X * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (X + R("0.044715") * X**3))) / 2,
        lambda x: x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
        lambda x: gelu_tanh_slope(x),
    ),
}


def gelu_tanh_slope(x: float) -> float:
    u = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return sigmoid(u) + x * sigmoid(u) * sigmoid(-u) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
