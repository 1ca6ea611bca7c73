"""Piecewise polynomials: the form in which most activations (relu, leaky, clip, hardswish, step, ...) really are."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from lensnet.algebra.constants import number
from lensnet.algebra.kinks import Kinks
from lensnet.algebra.program import TapeError
from lensnet.expressions.functions import Condition, Extremum, Step, Where
from lensnet.expressions.traverse import contains, polynomial, rebuilt, substituted
from lensnet.expressions.tree import NAN, Expr, Function, Number

_LARGEST_DEGREE = 12
_MOST_PIECES = 24

Coefficients = tuple[float, ...]
"""A polynomial, constant term first."""


def polynomial_pieces(
    expression: Expr, symbol: str, kinks: Kinks
) -> tuple[tuple[float, ...], tuple[Coefficients, ...]] | None:
    """Break points and the polynomial between each two of them; None when the function is no piecewise polynomial.

    Break points across which the polynomial stays the same are dropped: n breaks, n + 1 polynomials.
    """
    if not kinks.complete or len(kinks.points) >= _MOST_PIECES:
        return None
    polynomials: list[Coefficients] = []
    for sample in _samples(kinks.points):
        polynomial = _polynomial(expression, symbol, sample)
        if polynomial is None:
            return None
        polynomials.append(polynomial)
    breaks = [point for point, (left, right) in zip(kinks.points, pairwise(polynomials), strict=True) if left != right]
    kept = [polynomials[0], *(right for left, right in pairwise(polynomials) if left != right)]
    return tuple(breaks), tuple(kept)


def _samples(points: tuple[float, ...]) -> list[float]:
    if not points:
        return [0.0]
    between = [0.5 * (left + right) for left, right in pairwise(points)]
    return [points[0] - 1.0, *between, points[-1] + 1.0]


def _polynomial(expression: Expr, symbol: str, sample: float) -> Coefficients | None:
    try:
        found = polynomial(resolved(expression, symbol, sample), symbol, _LARGEST_DEGREE)
        if found is None:
            return None
        coefficients = [number(value) for value in found]
    except TapeError:
        return None
    return tuple(coefficients) if np.all(np.isfinite(coefficients)) else None


def resolved(expression: Expr, symbol: str, sample: float) -> Expr:
    """The smooth expression that equals the given one around `sample`: abs, max, where, ... replaced by their branch.

    Raises:
        TapeError: the sample lies on an edge, or a condition cannot be decided there.
    """
    if not contains(expression, _has_branches):
        return expression
    if isinstance(expression, Where):
        branch = next((value for value, condition in expression.cases if _holds(condition, symbol, sample)), NAN)
        return resolved(branch, symbol, sample)
    arguments = tuple(resolved(argument, symbol, sample) for argument in expression.args)
    if isinstance(expression, Extremum):
        values = [_value(argument, symbol, sample) for argument in arguments]
        return arguments[int(np.argmax(values) if expression.name == "max" else np.argmin(values))]
    if _has_branches(expression):
        side = _value(arguments[0], symbol, sample)
        if side == 0.0 and arguments[0] != 0:
            raise TapeError(f"{expression} has an edge at {sample}")
        if isinstance(expression, Step):
            return expression.args[1] if side == 0 else Number(int(side > 0))
        if isinstance(expression, Function) and expression.name == "abs":
            return arguments[0] if side >= 0 else -arguments[0]
        return Number(int(np.sign(side)))
    return rebuilt(expression, arguments)


def _has_branches(expression: Expr) -> bool:
    kinked = isinstance(expression, Function) and expression.name in ("abs", "sign")
    return kinked or isinstance(expression, Step | Extremum | Where)


_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}


def _holds(condition: Expr, symbol: str, sample: float) -> bool:
    assert isinstance(condition, Condition)
    name, args = condition.name, condition.args
    if name in _COMPARED:
        return _COMPARED[name](_value(resolved(args[0] - args[1], symbol, sample), symbol, sample), 0.0)
    if name in ("and", "or"):
        return (all if name == "and" else any)(_holds(part, symbol, sample) for part in args)
    return not _holds(args[0], symbol, sample) if name == "not" else name == "true"


def _value(expression: Expr, symbol: str, sample: float) -> float:
    return number(substituted(expression, {symbol: Number(float(sample))}))
