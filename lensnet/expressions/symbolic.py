"""Expressions to and from sympy, for what only a computer algebra system can do. Importing this imports sympy."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.logic.boolalg import ITE, And, BooleanFalse, BooleanTrue, Not, Or

from lensnet.expressions.arithmetic import add, mul, power
from lensnet.expressions.functions import (
    FALSE,
    TRUE,
    Condition,
    Extremum,
    Named,
    Step,
    Where,
    apply,
    maximum,
    minimum,
    step,
    where,
)
from lensnet.expressions.tree import NAN, PI, Expr, Function, Number, Pi, Power, Product, Sum, Symbol

X = sp.Symbol("x", real=True)
"""The variable of every pointwise function, for sympy."""

_FUNCTIONS: dict[str, Any] = {
    **{
        name: getattr(sp, name)
        for name in (
            "exp log sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh erf erfc erfinv gamma loggamma "
            "digamma polygamma sign floor ceiling"
        ).split()
    },
    "abs": sp.Abs,
}
_NAMES = {kind: name for name, kind in _FUNCTIONS.items()}
_RELATIONS: dict[str, Any] = {
    "gt": sp.StrictGreaterThan,
    "ge": sp.GreaterThan,
    "lt": sp.StrictLessThan,
    "le": sp.LessThan,
    "eq": sp.Eq,
    "ne": sp.Ne,
}
_RELATION_NAMES = {kind: name for name, kind in _RELATIONS.items()}


def exact(value: float) -> Any:
    """The sympy rational of a number's shortest decimal form: 0.1 is 1/10."""
    return sp.Rational(int(value)) if float(value).is_integer() else sp.Rational(repr(float(value)))


class NotExpressible(ValueError):
    """What this package has no tree for."""


def to_sympy(expression: Expr, symbols: Mapping[str, Any] | None = None) -> Any:
    """The sympy expression; every name becomes a real symbol, or the one given for it.

    Cases, extrema and comparisons stay as they are: sympy would compare their parts, which can take for ever.
    """
    return _ToSympy(symbols or {}).of(expression)


class _ToSympy:
    def __init__(self, symbols: Mapping[str, Any]) -> None:
        self._symbols = symbols
        self._memo: dict[Expr, Any] = {}

    def of(self, expression: Expr) -> Any:
        if expression not in self._memo:
            self._memo[expression] = self._made(expression)
        return self._memo[expression]

    def _made(self, expression: Expr) -> Any:
        if isinstance(expression, Number):
            return _sympy_number(expression)
        if isinstance(expression, Pi):
            return sp.pi
        if isinstance(expression, Symbol):
            return self._symbols.get(expression.name, sp.Symbol(expression.name, real=True))
        if isinstance(expression, Where):
            return sp.Piecewise(
                *((self.of(value), self.of(holds)) for value, holds in expression.cases), evaluate=False
            )
        args = [self.of(arg) for arg in expression.args]
        if isinstance(expression, Sum | Product | Power):
            kind = sp.Add if isinstance(expression, Sum) else sp.Mul if isinstance(expression, Product) else sp.Pow
            return kind(*args)
        if isinstance(expression, Function):
            return _FUNCTIONS[expression.name](*args)
        if isinstance(expression, Named):
            return sp.Function(expression.name, real=True)(*args)
        if isinstance(expression, Extremum):
            return (sp.Max if expression.name == "max" else sp.Min)(*args, evaluate=False)
        if isinstance(expression, Step):
            return sp.Heaviside(*args)
        assert isinstance(expression, Condition)
        if expression.name in _RELATIONS:
            return _RELATIONS[expression.name](*args, evaluate=False)
        if expression.name in ("true", "false"):
            return sp.true if expression.name == "true" else sp.false
        return {"and": sp.And, "or": sp.Or, "not": sp.Not}[expression.name](*args)


def _sympy_number(number: Number) -> Any:
    value = number.value
    return sp.Rational(value.numerator, value.denominator) if isinstance(value, Fraction) else sp.Float(value)


def from_sympy(expression: Any) -> Expr:
    """The tree of a sympy expression; symbols are told apart by name alone.

    Raises:
        NotExpressible: a function that has no tree. TypeError: a number that is not real.
    """
    return _FromSympy().of(expression)


class _FromSympy:
    def __init__(self) -> None:
        self._memo: dict[Any, Expr] = {}

    def of(self, expression: Any) -> Expr:
        if expression not in self._memo:
            self._memo[expression] = self._made(expression)
        return self._memo[expression]

    def _made(self, expression: Any) -> Expr:
        if isinstance(expression, sp.Symbol):
            return Symbol(expression.name)
        if isinstance(expression, BooleanTrue | BooleanFalse):
            return TRUE if expression else FALSE
        if expression.is_Number or expression.is_NumberSymbol or expression in (sp.zoo, sp.I):
            return _number_of(expression)
        if isinstance(expression, sp.Piecewise):
            return where(*((self.of(case.args[0]), self.of(case.args[1])) for case in expression.args))
        args = [self.of(arg) for arg in expression.args]
        if isinstance(expression, sp.Add):
            return add(*args)
        if isinstance(expression, sp.Mul):
            return mul(*args)
        if isinstance(expression, sp.Pow):
            return power(*args)
        if isinstance(expression, sp.Max | sp.Min):
            return (maximum if isinstance(expression, sp.Max) else minimum)(*args)
        if isinstance(expression, sp.Heaviside):
            return step(*args)
        if isinstance(expression, AppliedUndef):
            return Named(expression.func.__name__, tuple(args))
        if isinstance(expression, Relational | And | Or | Not | ITE):
            return _condition(expression, args)
        name = _NAMES.get(type(expression))
        if name is None:
            raise NotExpressible(f"no numeric form for {type(expression).__name__}: {expression}")
        return apply(name, *args)


def _number_of(number: Any) -> Expr:
    if number is sp.pi:
        return PI
    if isinstance(number, sp.Rational):
        return Number(Fraction(int(number.p), int(number.q)))
    if number is sp.E:
        return apply("exp", Number(1))
    if number in (sp.nan, sp.zoo, sp.I):
        return NAN  # a branch that is not real is no number, there and nowhere else
    return Number(float(number))


def _condition(expression: Any, args: list[Expr]) -> Expr:
    if isinstance(expression, ITE):
        test, yes, no = args
        first, second = Condition("and", (test, yes)), Condition("and", (Condition("not", (test,)), no))
        return Condition("or", (first, second))
    if isinstance(expression, Relational):
        name = _RELATION_NAMES.get(type(expression))
        if name is None:
            raise NotExpressible(f"no numeric form for the condition {expression}")
        return Condition(name, tuple(args))
    return Condition({And: "and", Or: "or", Not: "not"}[type(expression)], tuple(args))
