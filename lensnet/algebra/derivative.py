"""Derivatives of expressions that may hold the special functions."""

from __future__ import annotations

from lensnet.algebra.program import TapeError
from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.expressions.derivative import NoDerivative
from lensnet.expressions.derivative import derivative as plain_derivative
from lensnet.expressions.tree import Expr, Symbol


def derivative(expression: Expr, symbol: Symbol | str) -> Expr:
    """Derivative of the expression by the symbol, almost everywhere.

    Raises:
        TapeError: the expression holds a function of the symbol that has no known derivative (a position operator).
    """
    name = symbol if isinstance(symbol, str) else symbol.name
    try:
        return plain_derivative(expression, name, {name: f.derivatives for name, f in SPECIAL_FUNCTIONS.items()})
    except NoDerivative as error:
        raise TapeError(str(error)) from None
