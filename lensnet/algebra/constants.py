"""Constant expressions as floats."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from lensnet.algebra.program import TapeError
from lensnet.expressions.tree import Expr, Number, Pi, float_of


def number(expression: Expr | Fraction | float) -> float:
    """The float: inf and nan for infinities, correctly rounded for rationals.

    Raises:
        TapeError: the expression is no constant.
    """
    if not isinstance(expression, Expr):
        return float_of(expression)
    if isinstance(expression, Number):
        return float_of(expression.value)
    if isinstance(expression, Pi):
        return float(np.pi)
    if not expression.is_constant:
        raise TapeError(f"not a number: {expression}")
    from lensnet.algebra.tape import compile_tape

    return float(compile_tape(expression)({}))
