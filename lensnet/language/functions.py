"""The functions a formula may call: how many arguments, their value on numbers, and the expression they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

CONSTANTS: Mapping[str, float] = {"pi": math.pi}
WHERE = "where"


class FunctionRule(NamedTuple):
    """One function. `build` gets `lensnet.expressions.functions` (imported by the caller, never here: checking needs
    no expression) and the arguments.

    `exact` works on rationals and returns None where the value is not rational. `compares` marks a function whose value
    follows from comparing numbers: it never gets a constant that is not rational. `bound` limits constant arguments.
    """

    least: int
    most: int
    number: Callable[..., float]
    build: Callable[..., Any]
    exact: Callable[..., Fraction | None] | None = None
    compares: bool = False
    bound: float = 1e6


def _unary(number: Callable[[float], float], name: str) -> FunctionRule:
    bound = math.inf if name == "log" else 1e6
    return FunctionRule(1, 1, number, lambda f, x: f.apply(name, x), bound=bound)


def _ordered(least: int, most: int, value: Callable[..., Any], build: Callable[..., Any]) -> FunctionRule:
    return FunctionRule(
        least, most, value, build, exact=lambda *args: Fraction(value(*args)), compares=True, bound=math.inf
    )


def _exact_sqrt(x: Fraction) -> Fraction | None:
    if x < 0:
        return None
    top, bottom = math.isqrt(x.numerator), math.isqrt(x.denominator)
    return Fraction(top, bottom) if top * top == x.numerator and bottom * bottom == x.denominator else None


def _loggamma(x: float) -> float:
    if x <= 0:
        raise ValueError("not real")
    return math.lgamma(x)


def _atan2(y: float, x: float) -> float:
    if x == 0 and y == 0:
        raise ValueError("undefined")
    return math.atan2(y, x)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _sign(x: Any) -> int:
    return int(x > 0) - int(x < 0)


def _largest(f: Any, *args: Any) -> Any:
    return f.maximum(*args)


def _smallest(f: Any, *args: Any) -> Any:
    return f.minimum(*args)


def _clip(f: Any, x: Any, low: Any, high: Any) -> Any:
    return f.minimum(f.maximum(x, low), high)


FUNCTIONS: Mapping[str, FunctionRule] = {
    **{
        name: _unary(getattr(math, name), name)
        for name in "exp log sin cos tan asin acos atan sinh cosh tanh erf erfc".split()
    },
    "sqrt": FunctionRule(1, 1, math.sqrt, lambda f, x: f.sqrt(x), exact=_exact_sqrt, bound=math.inf),
    "gamma": FunctionRule(1, 1, math.gamma, lambda f, x: f.apply("gamma", x), bound=64),
    "loggamma": FunctionRule(1, 1, _loggamma, lambda f, x: f.apply("loggamma", x), bound=64),
    "atan2": FunctionRule(2, 2, _atan2, lambda f, y, x: f.apply("atan2", y, x)),
    "abs": _ordered(1, 1, abs, lambda f, x: f.apply("abs", x)),
    "sign": _ordered(1, 1, _sign, lambda f, x: f.apply("sign", x)),
    "min": _ordered(2, 6, min, _smallest),
    "max": _ordered(2, 6, max, _largest),
    "clip": _ordered(3, 3, lambda x, low, high: min(max(x, low), high), _clip),
    "relu": _ordered(1, 1, lambda x: max(x, 0), lambda f, x: f.maximum(x, f.ZERO)),
    "step": _ordered(1, 1, lambda x: x > 0, lambda f, x: f.step(x, f.ZERO)),
    "Heaviside": _ordered(1, 1, lambda x: Fraction(1 + _sign(x), 2), lambda f, x: f.step(x)),
    "sigmoid": FunctionRule(1, 1, _sigmoid, lambda f, x: f.sigmoid(x)),
    "softplus": FunctionRule(1, 1, lambda x: max(x, 0) + math.log1p(math.exp(-abs(x))), lambda f, x: f.softplus(x)),
    "phi": FunctionRule(
        1, 1, lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi), lambda f, x: f.normal_density(x)
    ),
    "Phi": FunctionRule(1, 1, lambda x: math.erfc(-x / math.sqrt(2)) / 2, lambda f, x: f.normal_distribution(x)),
    # where(condition, a, b): the condition is the one place for a comparison; formula.py and formula_expression.py know
    # it.
    WHERE: FunctionRule(
        3,
        3,
        lambda condition, yes, no: yes if condition else no,
        lambda f, condition, yes, no: f.where((yes, condition), (no, f.TRUE)),
        exact=lambda condition, yes, no: yes if condition else no,
    ),
}
