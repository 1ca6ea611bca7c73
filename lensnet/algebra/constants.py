"""Numbers of sympy as floats."""

from __future__ import annotations

import sympy as sp

from lensnet.algebra.program import TapeError


def number(expression: sp.Basic) -> float:
    """A sympy number as a float: inf and nan for infinities, correctly rounded for rationals.

    Raises:
        TapeError: the number is complex.
    """
    if isinstance(expression, sp.Rational):
        try:
            return int(expression.p) / int(expression.q)
        except OverflowError:
            return float("inf") if expression > 0 else float("-inf")
    if expression in (sp.nan, sp.zoo):
        return float("nan")
    try:
        return float(expression)
    except TypeError as error:
        raise TapeError(f"not a real number: {expression}") from error
