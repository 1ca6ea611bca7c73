"""Piecewise polynomials: the form in which most activations (relu, leaky, clip, hardswish, step, ...) really are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import sympy as sp
from sympy.core.relational import Relational

from lensnet.algebra.constants import number
from lensnet.algebra.kinks import Kinks
from lensnet.algebra.program import TapeError

_LARGEST_DEGREE = 12
_MOST_PIECES = 24

Coefficients = tuple[float, ...]
"""A polynomial, constant term first."""


def polynomial_pieces(
    expression: sp.Expr, symbol: sp.Symbol, kinks: Kinks
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


def _polynomial(expression: sp.Expr, symbol: sp.Symbol, sample: float) -> Coefficients | None:
    try:
        smooth = resolved(expression, symbol, sample)
        if not smooth.is_polynomial(symbol):
            return None
        polynomial = sp.Poly(smooth, symbol)
        if polynomial.degree() > _LARGEST_DEGREE:
            return None
        coefficients = [number(value) for value in reversed(polynomial.all_coeffs())]
    except (TapeError, sp.PolynomialError):
        return None
    return tuple(coefficients) if np.all(np.isfinite(coefficients)) else None


def resolved(expression: sp.Basic, symbol: sp.Symbol, sample: float) -> sp.Basic:
    """The smooth expression that equals the given one around `sample`: abs, max, where, ... replaced by their branch.

    Raises:
        TapeError: the sample lies on an edge, or a condition cannot be decided there.
    """
    if not expression.has(sp.Abs, sp.sign, sp.Heaviside, sp.Max, sp.Min, sp.Piecewise):
        return expression
    if isinstance(expression, sp.Piecewise):
        branch = next((b.args[0] for b in expression.args if _holds(b.args[1], symbol, sample)), sp.nan)
        return resolved(branch, symbol, sample)
    arguments = [resolved(argument, symbol, sample) for argument in expression.args]
    if isinstance(expression, sp.Max | sp.Min):
        values = [_value(argument, symbol, sample) for argument in arguments]
        return arguments[int(np.argmax(values) if isinstance(expression, sp.Max) else np.argmin(values))]
    if isinstance(expression, sp.Abs | sp.sign | sp.Heaviside):
        side = _value(arguments[0], symbol, sample)
        if side == 0.0 and arguments[0] != 0:
            raise TapeError(f"{expression} has an edge at {sample}")
        if isinstance(expression, sp.Abs):
            return arguments[0] if side >= 0 else -arguments[0]
        if isinstance(expression, sp.sign):
            return sp.Integer(int(np.sign(side)))
        return expression.args[1] if side == 0 else sp.Integer(int(side > 0))
    return expression.func(*arguments)


def _holds(condition: sp.Basic, symbol: sp.Symbol, sample: float) -> bool:
    if isinstance(condition, Relational):
        gap = _value(resolved(condition.lhs - condition.rhs, symbol, sample), symbol, sample)
        return bool(condition.func(sp.Float(gap), sp.S.Zero))
    if isinstance(condition, sp.And):
        return all(_holds(part, symbol, sample) for part in condition.args)
    if isinstance(condition, sp.Or):
        return any(_holds(part, symbol, sample) for part in condition.args)
    if isinstance(condition, sp.Not):
        return not _holds(condition.args[0], symbol, sample)
    if isinstance(condition, sp.ITE):
        chosen = condition.args[1 if _holds(condition.args[0], symbol, sample) else 2]
        return _holds(chosen, symbol, sample)
    if condition in (sp.true, sp.false):
        return bool(condition)
    raise TapeError(f"cannot decide the condition {condition}")


def _value(expression: sp.Basic, symbol: sp.Symbol, sample: float) -> float:
    return number(expression.xreplace({symbol: sp.Float(sample)}))
