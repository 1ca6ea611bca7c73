"""Expressions over the real numbers: immutable trees, equal when they are built from equal parts.

The order of terms and factors is the order in which they were written; it does not matter for equality.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

Value = Fraction | float
"""Of a number: exact, or a float."""


class Expr:
    """A part of a formula. `args`: its parts; `symbols`: the names in it; equality is that of structure."""

    __slots__ = ("args", "_hash", "_symbols", "_open")
    args: tuple[Expr, ...]

    def __init__(self, args: tuple[Expr, ...]) -> None:
        self.args = args
        self._hash = hash((type(self), self._identity()))
        self._symbols: frozenset[str] | None = None
        self._open: bool | None = None

    def _identity(self) -> Any:
        return self.args

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, int | float | Fraction):
            return isinstance(self, Number) and self.value == other
        return type(self) is type(other) and self._hash == other._hash and self._identity() == other._identity()

    @property
    def symbols(self) -> frozenset[str]:
        if self._symbols is None:
            self._symbols = frozenset().union(*(arg.symbols for arg in self.args))
        return self._symbols

    @property
    def is_constant(self) -> bool:
        """Whether it is a number: no symbol in it, and no function whose value only the caller knows."""
        if self._open is None:
            self._open = any(not arg.is_constant for arg in self.args)
        return not self._open

    def coefficient(self) -> tuple[Value, Expr]:
        """(c, rest) with self = c*rest and c a number."""
        return ONE.value, self

    def as_power(self) -> tuple[Expr, Expr]:
        """(base, exponent)."""
        return self, ONE

    def __add__(self, other: Any) -> Expr:
        return _arithmetic().add(self, as_expr(other)) if _known(other) else NotImplemented

    def __sub__(self, other: Any) -> Expr:
        return self + -as_expr(other) if _known(other) else NotImplemented

    def __mul__(self, other: Any) -> Expr:
        return _arithmetic().mul(self, as_expr(other)) if _known(other) else NotImplemented

    def __truediv__(self, other: Any) -> Expr:
        return self * as_expr(other) ** MINUS_ONE if _known(other) else NotImplemented

    def __pow__(self, other: Any) -> Expr:
        return _arithmetic().power(self, as_expr(other)) if _known(other) else NotImplemented

    def __radd__(self, other: Any) -> Expr:
        return as_expr(other) + self if _known(other) else NotImplemented

    def __rsub__(self, other: Any) -> Expr:
        return as_expr(other) - self if _known(other) else NotImplemented

    def __rmul__(self, other: Any) -> Expr:
        return as_expr(other) * self if _known(other) else NotImplemented

    def __rtruediv__(self, other: Any) -> Expr:
        return as_expr(other) / self if _known(other) else NotImplemented

    def __rpow__(self, other: Any) -> Expr:
        return as_expr(other) ** self if _known(other) else NotImplemented

    def __neg__(self) -> Expr:
        return _arithmetic().mul(MINUS_ONE, self)

    def __repr__(self) -> str:
        return written(self)

    def _sympy_(self) -> Any:
        """sympy's own hook: a tree may stand wherever a sympy expression may."""
        from lensnet.expressions.symbolic import to_sympy

        return to_sympy(self)


class Number(Expr):
    """An exact rational, or a float (inf and nan among them)."""

    __slots__ = ("value",)

    def __init__(self, value: int | Fraction | float) -> None:
        self.value: Value = value if isinstance(value, float | Fraction) else Fraction(value)
        super().__init__(())

    def _identity(self) -> Any:
        return self.value

    @property
    def is_exact(self) -> bool:
        return isinstance(self.value, Fraction)

    @property
    def is_integer(self) -> bool:
        return isinstance(self.value, Fraction) and self.value.denominator == 1

    def coefficient(self) -> tuple[Value, Expr]:
        return self.value, ONE


class Pi(Expr):
    """The constant."""

    __slots__ = ()


class Symbol(Expr):
    """A name that stands for a real number."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(())
        self._symbols = frozenset({name})
        self._open = True

    def _identity(self) -> Any:
        return self.name


class Sum(Expr):
    """At least two terms, no two of them alike up to a number; a number stands first."""

    __slots__ = ()

    def _identity(self) -> Any:
        return frozenset(self.args)


class Product(Expr):
    """At least two factors, no two of one base; a number stands first, and never before a lone sum."""

    __slots__ = ()

    def _identity(self) -> Any:
        return frozenset(self.args)

    def coefficient(self) -> tuple[Value, Expr]:
        first = self.args[0]
        if not isinstance(first, Number):
            return ONE.value, self
        rest = self.args[1:]
        return first.value, rest[0] if len(rest) == 1 else Product(rest)


class Power(Expr):
    """args: base and exponent."""

    __slots__ = ()

    def as_power(self) -> tuple[Expr, Expr]:
        return self.args[0], self.args[1]


class Function(Expr):
    """A function by name. Those of one variable are as in `math`; `functions.py` has what they simplify to."""

    __slots__ = ("name",)

    def __init__(self, name: str, args: tuple[Expr, ...]) -> None:
        self.name = name
        super().__init__(args)

    def _identity(self) -> Any:
        return self.name, self.args


ONE, MINUS_ONE, ZERO, HALF = Number(1), Number(-1), Number(0), Number(Fraction(1, 2))
NAN = Number(math.nan)
PI = Pi(())


def _arithmetic() -> Any:
    """The module that builds sums, products and powers, out of the classes here."""
    from lensnet.expressions import arithmetic

    return arithmetic


def as_expr(value: Any) -> Expr:
    return value if isinstance(value, Expr) else Number(value)


def _known(value: Any) -> bool:
    return isinstance(value, Expr | int | float | Fraction)


def float_of(value: Value) -> float:
    """Correctly rounded; infinite where a rational is too large for a float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def size_of(value: Value) -> Value:
    return -value if value < 0 else value


def sum_of(a: Value, b: Value) -> Value:
    return a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else float_of(a) + float_of(b)


def product_of(a: Value, b: Value) -> Value:
    return a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else float_of(a) * float_of(b)


def is_exp(expression: Expr) -> bool:
    return isinstance(expression, Function) and expression.name == "exp"


def is_even(exponent: Expr) -> bool:
    return isinstance(exponent, Number) and exponent.is_integer and exponent.value % 2 == 0


def is_nonnegative(expression: Expr) -> bool:
    """Whether it is never below zero, as far as its form tells."""
    if isinstance(expression, Number):
        return expression.value >= 0
    if isinstance(expression, Sum | Product):
        return all(is_nonnegative(arg) for arg in expression.args)
    if isinstance(expression, Power):
        base, exponent = expression.args
        return is_even(exponent) or is_nonnegative(base)
    return isinstance(expression, Pi) or isinstance(expression, Function) and expression.name in _NONNEGATIVE


_NONNEGATIVE = frozenset({"exp", "abs", "cosh", "erfc"})


# --- writing ------------------------------------------------------------------------------------------------------


def written(expression: Expr) -> str:
    """The formula as it would be typed, for messages."""
    if isinstance(expression, Number):
        return str(expression.value)
    if isinstance(expression, Symbol):
        return expression.name
    if isinstance(expression, Pi):
        return "pi"
    parts = [written(arg) for arg in expression.args]
    if isinstance(expression, Sum):
        return " + ".join(parts).replace("+ -", "- ")
    inside = [f"({part})" if isinstance(arg, Sum) else part for arg, part in zip(expression.args, parts, strict=True)]
    if isinstance(expression, Product):
        return "*".join(inside)
    if isinstance(expression, Power):
        return "**".join(f"({part})" if "*" in part and part[0] != "(" else part for part in inside)
    name = getattr(expression, "name", type(expression).__name__.lower())
    return f"{name}({', '.join(parts)})"
