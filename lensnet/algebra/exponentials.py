"""Sums of exponentials that are a function with a name of its own."""

from __future__ import annotations

import sympy as sp

from lensnet.algebra.constants import number


def exponential_sum(expression: sp.Expr) -> tuple[float, float, sp.Expr] | None:
    """(a, b, w) when the expression is a + b*exp(w) with numbers a, b; otherwise None."""
    if not isinstance(expression, sp.Add) or len(expression.args) != 2:
        return None
    constant, term = expression.args
    if not constant.is_Number:
        constant, term = term, constant
    coefficient, function = term.as_coeff_Mul()
    if not constant.is_Number or not coefficient.is_Number or not isinstance(function, sp.exp):
        return None
    return number(constant), number(coefficient), function.args[0]


def unit_exponential_sum(expression: sp.Expr) -> sp.Expr | None:
    """w when the expression is 1 + exp(w)."""
    found = exponential_sum(expression)
    return found[2] if found is not None and found[:2] == (1.0, 1.0) else None


def hyperbolic_sum(expression: sp.Expr) -> tuple[str, float, sp.Expr] | None:
    """(name, c, u) when the expression is c*sinh(u) or c*cosh(u), or the sum of two exponentials that makes it."""
    if isinstance(expression, sp.sinh | sp.cosh):
        name, scale, argument = type(expression).__name__, 1.0, expression.args[0]
    elif isinstance(expression, sp.Add) and len(expression.args) == 2:
        (first, grow), (second, decay) = (term.as_coeff_Mul() for term in expression.args)
        if not (isinstance(grow, sp.exp) and isinstance(decay, sp.exp) and first.is_Number and second.is_Number):
            return None
        if grow.args[0] + decay.args[0] != 0 or abs(first) != abs(second):
            return None
        name, scale, argument = "cosh" if first == second else "sinh", 2.0 * number(first), grow.args[0]
    else:
        return None
    if argument.could_extract_minus_sign():
        argument, scale = -argument, scale if name == "cosh" else -scale
    return name, scale, argument
