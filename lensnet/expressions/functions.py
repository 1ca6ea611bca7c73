"""Functions, conditions and cases, and what they simplify to as they are built."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from lensnet.expressions.arithmetic import absolute, add, exponential, mul, power, sqrt
from lensnet.expressions.tree import (
    HALF,
    NAN,
    ONE,
    PI,
    ZERO,
    Expr,
    Function,
    Number,
    Sum,
    float_of,
    is_exp,
    is_nonnegative,
)

ODD = frozenset({"sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "erfinv"})
EVEN = frozenset({"cos", "cosh"})
_AT_ZERO: dict[str, Expr] = {**dict.fromkeys(ODD, ZERO), **dict.fromkeys(("cos", "cosh", "erfc"), ONE), "acos": PI / 2}


class Named(Expr):
    """A function that this package does not know: a special function or an operator, by name."""

    __slots__ = ("name",)

    def __init__(self, name: str, args: tuple[Expr, ...]) -> None:
        self.name = name
        super().__init__(args)
        self._open = True

    def _identity(self) -> Any:
        return self.name, self.args


class Extremum(Expr):
    """The largest (`max`) or smallest (`min`) of its arguments, constants last."""

    __slots__ = ("name",)

    def __init__(self, name: str, args: tuple[Expr, ...]) -> None:
        self.name = name
        super().__init__(args)

    def _identity(self) -> Any:
        return self.name, frozenset(self.args)


class Step(Expr):
    """args: x, and the value at x = 0; 0 below, 1 above."""

    __slots__ = ()


class Condition(Expr):
    """A comparison (`gt`, `ge`, `lt`, `le`, `eq`, `ne`), `and`, `or`, `not`, or a truth value (`true`, `false`)."""

    __slots__ = ("name",)

    def __init__(self, name: str, args: tuple[Expr, ...] = ()) -> None:
        self.name = name
        super().__init__(args)

    def _identity(self) -> Any:
        return self.name, self.args


class Where(Expr):
    """Cases: args are value, condition, value, condition, ...; the first that holds; nan where none does."""

    __slots__ = ()

    @property
    def cases(self) -> list[tuple[Expr, Expr]]:
        return list(zip(self.args[::2], self.args[1::2], strict=True))


TRUE, FALSE = Condition("true"), Condition("false")


def where(*cases: tuple[Expr, Expr]) -> Expr:
    """The value of the first case whose condition holds."""
    return Where(tuple(part for case in cases for part in case))


def step(argument: Expr, at_zero: Expr = HALF) -> Expr:
    if isinstance(argument, Number):
        if argument.value != argument.value:
            return NAN
        return at_zero if argument.value == 0 else ONE if argument.value > 0 else ZERO
    return Step((argument, at_zero))


def maximum(*args: Expr) -> Expr:
    return _extremum("max", args)


def minimum(*args: Expr) -> Expr:
    return _extremum("min", args)


def _extremum(name: str, given: tuple[Expr, ...]) -> Expr:
    parts: dict[Expr, None] = {}
    for arg in given:
        parts.update(dict.fromkeys(arg.args if isinstance(arg, Extremum) and arg.name == name else (arg,)))
    numbers = [arg.value for arg in parts if isinstance(arg, Number)]
    args = sorted((arg for arg in parts if not isinstance(arg, Number)), key=lambda arg: arg.is_constant)
    if numbers:
        args.append(Number(max(numbers) if name == "max" else min(numbers)))
    return args[0] if len(args) == 1 else Extremum(name, tuple(args))


def apply(name: str, *args: Expr) -> Expr:
    """An elementary function by name, simplified where its value or its symmetry is known."""
    if len(args) != 1:
        return Function(name, args)
    special = _SPECIAL.get(name)
    if special is not None:
        return special(args[0])
    argument = args[0]
    if argument == 0 and name in _AT_ZERO:
        return _AT_ZERO[name]
    if name in ODD or name in EVEN:
        if has_minus(argument):
            mirrored = apply(name, -argument)
            return -mirrored if name in ODD else mirrored
        turn = _quarter_turns(argument) if name in ("sin", "cos", "tan") else None
        if turn is not None:
            sine = (ZERO, ONE, ZERO, Number(-1))
            if name != "tan":
                return sine[(turn + (name == "cos")) % 4]
            return ZERO if turn % 2 == 0 else NAN
    return Function(name, (argument,))


def has_minus(expression: Expr) -> bool:
    """Whether it is better written with a minus in front: a negative factor, or more negative terms than others."""
    if isinstance(expression, Sum):
        negative = sum(term.coefficient()[0] < 0 for term in expression.args)
        return 2 * negative > len(expression.args) or (
            2 * negative == len(expression.args) and expression.args[-1].coefficient()[0] < 0
        )
    return expression.coefficient()[0] < 0


def _quarter_turns(argument: Expr) -> int | None:
    factor, rest = argument.coefficient()
    if rest is not PI or not isinstance(factor, Fraction):
        return None
    return int(factor * 2) if (factor * 2).denominator == 1 else None


def _log(argument: Expr) -> Expr:
    if argument == 1:
        return ZERO
    if is_exp(argument):
        return argument.args[0]
    if isinstance(argument, Number) and argument.is_exact and argument.value > 0:
        value = argument.value
        assert isinstance(value, Fraction)
        if value.numerator == 1:
            return -Function("log", (Number(value.denominator),))
    return Function("log", (argument,))


def _sign(argument: Expr) -> Expr:
    factor, rest = argument.coefficient()
    if rest == 1:
        return NAN if factor != factor else Number(int(factor > 0) - int(factor < 0))
    positive = is_exp(rest) or rest is PI
    inner = ONE if positive else Function("sign", (rest,))
    return -inner if factor < 0 else inner


def _gamma(argument: Expr) -> Expr:
    if isinstance(argument, Number) and argument.is_integer and 0 < argument.value <= 128:
        return Number(math.factorial(int(argument.value) - 1))
    return Function("gamma", (argument,))


def _rounded(name: str, to_integer: Callable[[Any], int]) -> Callable[[Expr], Expr]:
    def of(argument: Expr) -> Expr:
        if isinstance(argument, Number) and math.isfinite(float_of(argument.value)):
            return Number(to_integer(argument.value))
        return Function(name, (argument,))

    return of


_SPECIAL: dict[str, Callable[[Expr], Expr]] = {
    "exp": exponential,
    "log": _log,
    "abs": absolute,
    "sign": _sign,
    "gamma": _gamma,
    "floor": _rounded("floor", math.floor),
    "ceiling": _rounded("ceiling", math.ceil),
}


def sigmoid(x: Expr) -> Expr:
    """1/(1 + exp(-x))."""
    return power(add(ONE, exponential(-x)), Number(-1))


def softplus(x: Expr) -> Expr:
    """log(1 + exp(x))."""
    return apply("log", add(ONE, exponential(x)))


def normal_density(x: Expr) -> Expr:
    """exp(-x**2/2)/sqrt(2*pi)."""
    return exponential(-(x**2) / 2) / sqrt(2 * PI)


def normal_distribution(x: Expr) -> Expr:
    """(1 + erf(x/sqrt(2)))/2."""
    return mul(HALF, add(ONE, apply("erf", x / sqrt(Number(2)))))


__all__ = [
    "FALSE", "TRUE", "Condition", "Extremum", "Function", "Named", "Step", "Where", "apply", "has_minus",
    "is_nonnegative", "maximum", "minimum", "normal_density", "normal_distribution", "sigmoid", "softplus", "step",
    "where", "sqrt", "ZERO",
]  # fmt: skip
