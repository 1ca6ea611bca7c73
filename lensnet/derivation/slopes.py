"""Derivatives almost everywhere of sympy expressions, by the engine's own rules.

`sympy.diff` of a formula with abs, max or where gives Dirac deltas, or real and imaginary parts of symbols that it does
not know to be real.
"""

from __future__ import annotations

import sympy as sp

from lensnet.algebra.derivative import derivative as derivative_of_tree
from lensnet.expressions.symbolic import from_sympy, to_sympy


def derivative(expression: sp.Expr, symbol: sp.Symbol) -> sp.Expr:
    """Derivative by the symbol, in the symbols of the expression. Raises TapeError where one is not known."""
    own = {free.name: free for free in expression.free_symbols}
    return to_sympy(derivative_of_tree(from_sympy(expression), symbol.name), own)
