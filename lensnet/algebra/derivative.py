"""Derivatives almost everywhere.

`sympy.diff` of a formula with abs, sign, max, min, step or where gives Dirac deltas, or real and imaginary parts of
symbols that it does not know to be real. Here a jump contributes nothing, as in autograd, and where max or min tie the
derivative is the mean of the two sides, as torch has it.
"""

from __future__ import annotations

import sympy as sp
from sympy.core.function import AppliedUndef

from lensnet.algebra.lowering import extremum_arguments
from lensnet.algebra.program import TapeError
from lensnet.algebra.special import SPECIAL_FUNCTIONS

_FLAT = (sp.sign, sp.Heaviside, sp.floor, sp.ceiling)


def derivative(expression: sp.Expr, symbol: sp.Symbol | str) -> sp.Expr:
    """Derivative of the expression by the symbol (by name), almost everywhere.

    Raises:
        TapeError: the expression holds a function of the symbol that has no known derivative (a position operator).
    """
    name = symbol if isinstance(symbol, str) else symbol.name
    return _Derivation(name).of(sp.sympify(expression, strict=True))


class _Derivation:
    def __init__(self, name: str) -> None:
        self._name = name
        self._memo: dict[sp.Basic, sp.Expr] = {}

    def of(self, expression: sp.Basic) -> sp.Expr:
        if not any(symbol.name == self._name for symbol in expression.free_symbols):
            return sp.S.Zero
        if expression not in self._memo:
            self._memo[expression] = self._rule(expression)
        return self._memo[expression]

    def _rule(self, expression: sp.Basic) -> sp.Expr:
        if isinstance(expression, sp.Symbol):
            return sp.S.One
        if isinstance(expression, sp.Add):
            return sp.Add(*(self.of(term) for term in expression.args))
        if isinstance(expression, sp.Mul):
            return self._product(expression)
        if isinstance(expression, sp.Pow):
            return self._power(expression)
        if isinstance(expression, _FLAT):
            return sp.S.Zero
        if isinstance(expression, sp.Abs):
            return sp.sign(expression.args[0]) * self.of(expression.args[0])
        if isinstance(expression, sp.Max | sp.Min):
            return self._extremum(expression)
        if isinstance(expression, sp.Piecewise):
            pairs = [(self.of(branch.args[0]), branch.args[1]) for branch in expression.args]
            return sp.Piecewise(*pairs, evaluate=False)
        return self._function(expression)

    def _product(self, expression: sp.Mul) -> sp.Expr:
        factors = list(expression.args)
        terms = []
        for index, factor in enumerate(factors):
            slope = self.of(factor)
            if slope != 0:
                terms.append(sp.Mul(*factors[:index], slope, *factors[index + 1 :]))
        return sp.Add(*terms)

    def _power(self, expression: sp.Pow) -> sp.Expr:
        base, exponent = expression.base, expression.exp
        slope = exponent * base ** (exponent - 1) * self.of(base)
        growth = self.of(exponent)
        return slope if growth == 0 else slope + expression * sp.log(base) * growth

    def _extremum(self, expression: sp.Max | sp.Min) -> sp.Expr:
        largest = isinstance(expression, sp.Max)
        arguments = extremum_arguments(expression)
        value, slope = arguments[0], self.of(arguments[0])
        for other in arguments[1:]:
            gap = value - other if largest else other - value
            slope = _selected(gap, slope, self.of(other))
            value = sp.Max(value, other) if largest else sp.Min(value, other)
        return slope

    def _function(self, expression: sp.Basic) -> sp.Expr:
        slopes = [self.of(argument) for argument in expression.args]
        terms = []
        for index, slope in enumerate(slopes):
            if slope == 0:
                continue
            terms.append(slope * self._partial(expression, index))
        return sp.Add(*terms)

    def _partial(self, expression: sp.Basic, index: int) -> sp.Expr:
        if isinstance(expression, AppliedUndef):
            name = expression.func.__name__
            entry = SPECIAL_FUNCTIONS.get(name)
            if entry is None or index >= len(entry.derivatives):
                raise TapeError(f"the derivative of {name} by its argument {index + 1} is not known")
            return entry.derivatives[index](*expression.args)
        if isinstance(expression, sp.tanh):
            # 1 - tanh**2: the form that the stable rules turn into sech**2
            return 1 - sp.tanh(expression.args[0]) ** 2
        try:
            return expression.fdiff(index + 1)
        except (sp.core.function.ArgumentIndexError, AttributeError) as error:
            raise TapeError(f"no derivative for {type(expression).__name__}") from error


def _selected(gap: sp.Expr, first: sp.Expr, second: sp.Expr) -> sp.Expr:
    """`first` where gap > 0, `second` where gap < 0, their mean where they tie."""
    if first == second:
        return first
    if first.is_number and second.is_number:
        return second + (first - second) * sp.Heaviside(gap, sp.S.Half)
    # unevaluated: sympy would turn a comparison of a `where` into one of conditions
    above, below = sp.StrictGreaterThan(gap, 0, evaluate=False), sp.StrictLessThan(gap, 0, evaluate=False)
    return sp.Piecewise((first, above), (second, below), ((first + second) / 2, True), evaluate=False)
