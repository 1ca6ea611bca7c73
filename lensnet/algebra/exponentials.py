"""Sums of exponentials that are a function with a name of its own."""

from __future__ import annotations

from lensnet.algebra.constants import number
from lensnet.expressions.functions import has_minus
from lensnet.expressions.tree import Expr, Function, Number, Sum, is_exp


def exponential_sum(expression: Expr) -> tuple[float, float, Expr] | None:
    """(a, b, w) when the expression is a + b*exp(w) with numbers a, b; otherwise None."""
    if not isinstance(expression, Sum) or len(expression.args) != 2 or not isinstance(expression.args[0], Number):
        return None
    factor, function = expression.args[1].coefficient()
    return (number(expression.args[0]), number(factor), function.args[0]) if is_exp(function) else None


def unit_exponential_sum(expression: Expr) -> Expr | None:
    """w when the expression is 1 + exp(w)."""
    found = exponential_sum(expression)
    return found[2] if found is not None and found[:2] == (1.0, 1.0) else None


def hyperbolic_sum(expression: Expr) -> tuple[str, float, Expr] | None:
    """(name, c, u) when the expression is c*sinh(u) or c*cosh(u), or the sum of two exponentials that makes it."""
    if isinstance(expression, Function) and expression.name in ("sinh", "cosh"):
        name, scale, argument = expression.name, 1.0, expression.args[0]
    elif isinstance(expression, Sum) and len(expression.args) == 2:
        (first, grow), (second, decay) = (term.coefficient() for term in expression.args)
        if not (is_exp(grow) and is_exp(decay)):
            return None
        if grow.args[0] + decay.args[0] != 0 or abs(first) != abs(second):
            return None
        name, scale, argument = "cosh" if first == second else "sinh", 2.0 * number(first), grow.args[0]
    else:
        return None
    if has_minus(argument):
        argument, scale = -argument, scale if name == "cosh" else -scale
    return name, scale, argument
