"""The functions a formula may call: how many arguments, their value on numbers, and how sympy writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

CONSTANTS: Mapping[str, float] = {"pi": math.pi}
WHERE = "where"


@dataclass(frozen=True)
class FunctionRule:
    """One function. `build` gets the sympy module (imported by the caller, never here) and the arguments.

    `exact` works on rationals and returns None where the value is not rational. `compares` marks a function that sympy
    evaluates by comparing numbers: it never gets a constant that is not rational. `bound` limits constant arguments.
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
    return FunctionRule(1, 1, number, lambda sympy, x: getattr(sympy, name)(x), bound=bound)


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


def _largest(sympy: Any, *args: Any) -> Any:
    return _extreme(sympy.Max, args)


def _smallest(sympy: Any, *args: Any) -> Any:
    return _extreme(sympy.Min, args)


def _extreme(kind: Any, args: tuple[Any, ...]) -> Any:
    # Not evaluated: sympy would compare every pair of arguments, which can take seconds.
    different = list(dict.fromkeys(args))
    return kind(*different, evaluate=False) if len(different) > 1 else different[0]


def _clip(sympy: Any, x: Any, low: Any, high: Any) -> Any:
    return _smallest(sympy, _largest(sympy, x, low), high)


FUNCTIONS: Mapping[str, FunctionRule] = {
    **{
        name: _unary(getattr(math, name), name)
        for name in "exp log sin cos tan asin acos atan sinh cosh tanh erf erfc".split()
    },
    "sqrt": FunctionRule(1, 1, math.sqrt, lambda sympy, x: sympy.sqrt(x), exact=_exact_sqrt, bound=math.inf),
    "gamma": FunctionRule(1, 1, math.gamma, lambda sympy, x: sympy.gamma(x), bound=64),
    "loggamma": FunctionRule(1, 1, _loggamma, lambda sympy, x: sympy.loggamma(x), bound=64),
    "atan2": FunctionRule(2, 2, _atan2, lambda sympy, y, x: sympy.atan2(y, x)),
    "abs": _ordered(1, 1, abs, lambda sympy, x: sympy.Abs(x)),
    "sign": _ordered(1, 1, _sign, lambda sympy, x: sympy.sign(x)),
    "min": _ordered(2, 6, min, _smallest),
    "max": _ordered(2, 6, max, _largest),
    "clip": _ordered(3, 3, lambda x, low, high: min(max(x, low), high), _clip),
    "relu": _ordered(1, 1, lambda x: max(x, 0), lambda sympy, x: _largest(sympy, x, sympy.S.Zero)),
    "step": _ordered(1, 1, lambda x: x > 0, lambda sympy, x: sympy.Heaviside(x, 0)),
    "Heaviside": _ordered(1, 1, lambda x: Fraction(1 + _sign(x), 2), lambda sympy, x: sympy.Heaviside(x)),
    "sigmoid": FunctionRule(1, 1, _sigmoid, lambda sympy, x: 1 / (1 + sympy.exp(-x))),
    "softplus": FunctionRule(
        1, 1, lambda x: max(x, 0) + math.log1p(math.exp(-abs(x))), lambda sympy, x: sympy.log(1 + sympy.exp(x))
    ),
    "phi": FunctionRule(
        1,
        1,
        lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
        lambda sympy, x: sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi),
    ),  # fmt: skip
    "Phi": FunctionRule(
        1,
        1,
        lambda x: math.erfc(-x / math.sqrt(2)) / 2,
        lambda sympy, x: (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    ),  # fmt: skip
    # where(condition, a, b): the condition is the one place for a comparison; formula.py and formula_sympy.py know it.
    WHERE: FunctionRule(
        3,
        3,
        lambda condition, yes, no: yes if condition else no,
        lambda sympy, condition, yes, no: sympy.Piecewise((yes, condition), (no, True), evaluate=False),
        exact=lambda condition, yes, no: yes if condition else no,
    ),  # fmt: skip
}
