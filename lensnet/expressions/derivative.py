"""Derivatives almost everywhere.

A jump contributes nothing, as in autograd, and where max or min tie the derivative is the mean of the two sides, as
torch has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lensnet.expressions.arithmetic import add, exponential, mul, power, sqrt
from lensnet.expressions.functions import (
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
from lensnet.expressions.tree import HALF, MINUS_ONE, ONE, PI, ZERO, Expr, Function, Power, Product, Sum, Symbol

Slopes = Mapping[str, Sequence[Callable[..., Expr] | None]]
"""Of functions by name: the derivative by each argument, from the arguments; None where it is not known."""

_FLAT = frozenset({"sign", "floor", "ceiling"})


class NoDerivative(ValueError):
    """A function whose derivative by an argument nobody knows."""


def derivative(expression: Expr, symbol: str, named: Slopes | None = None) -> Expr:
    """Derivative by the symbol, almost everywhere. `named`: the derivatives of functions that are known by name alone.

    Raises:
        NoDerivative: the expression holds a function of the symbol that has no known derivative.
    """
    return _Derivation(symbol, named or {}).of(expression)


class _Derivation:
    def __init__(self, name: str, named: Slopes) -> None:
        self._name, self._named = name, named
        self._memo: dict[Expr, Expr] = {}

    def of(self, expression: Expr) -> Expr:
        if self._name not in expression.symbols:
            return ZERO
        if expression not in self._memo:
            self._memo[expression] = self._rule(expression)
        return self._memo[expression]

    def _rule(self, expression: Expr) -> Expr:
        if isinstance(expression, Symbol):
            return ONE
        if isinstance(expression, Sum):
            return add(*(self.of(term) for term in expression.args))
        if isinstance(expression, Product):
            return self._product(expression)
        if isinstance(expression, Power):
            return self._power(expression)
        if isinstance(expression, Step) or isinstance(expression, Function) and expression.name in _FLAT:
            return ZERO
        if isinstance(expression, Extremum):
            return self._extremum(expression)
        if isinstance(expression, Where):
            return where(*((self.of(value), holds) for value, holds in expression.cases))
        return self._function(expression)

    def _product(self, expression: Product) -> Expr:
        factors = expression.args
        terms = []
        for index, factor in enumerate(factors):
            slope = self.of(factor)
            if slope != 0:
                terms.append(mul(*factors[:index], slope, *factors[index + 1 :]))
        return add(*terms)

    def _power(self, expression: Power) -> Expr:
        base, exponent = expression.args
        slope = mul(exponent, power(base, exponent - 1), self.of(base))
        growth = self.of(exponent)
        return slope if growth == 0 else slope + mul(expression, apply("log", base), growth)

    def _extremum(self, expression: Extremum) -> Expr:
        largest = expression.name == "max"
        value, slope = expression.args[0], self.of(expression.args[0])
        for other in expression.args[1:]:
            gap = value - other if largest else other - value
            slope = _selected(gap, slope, self.of(other))
            value = maximum(value, other) if largest else minimum(value, other)
        return slope

    def _function(self, expression: Expr) -> Expr:
        terms = []
        for index, argument in enumerate(expression.args):
            slope = self.of(argument)
            if slope != 0:
                terms.append(mul(slope, self._partial(expression, index)))
        return add(*terms)

    def _partial(self, expression: Expr, index: int) -> Expr:
        assert isinstance(expression, Function | Named)
        name = expression.name
        known = _SLOPES.get(name, ()) if isinstance(expression, Function) else self._named.get(name, ())
        rule = known[index] if index < len(known) else None
        if rule is None:
            raise NoDerivative(f"the derivative of {name} by its argument {index + 1} is not known")
        return rule(*expression.args)


def _selected(gap: Expr, first: Expr, second: Expr) -> Expr:
    """`first` where gap > 0, `second` where gap < 0, their mean where they tie."""
    if first == second:
        return first
    if first.is_constant and second.is_constant:
        return second + (first - second) * step(gap, HALF)
    above, below = Condition("gt", (gap, ZERO)), Condition("lt", (gap, ZERO))
    return where((first, above), (second, below), ((first + second) / 2, TRUE))


def _inverse(value: Expr) -> Expr:
    return power(value, MINUS_ONE)


_SLOPES: Slopes = {
    "exp": (exponential,),
    "log": (_inverse,),
    "abs": (lambda x: apply("sign", x),),
    "sin": (lambda x: apply("cos", x),),
    "cos": (lambda x: -apply("sin", x),),
    "tan": (lambda x: 1 + apply("tan", x) ** 2,),
    "asin": (lambda x: _inverse(sqrt(1 - x**2)),),
    "acos": (lambda x: -_inverse(sqrt(1 - x**2)),),
    "atan": (lambda x: _inverse(1 + x**2),),
    "atan2": (lambda y, x: x / (x**2 + y**2), lambda y, x: -y / (x**2 + y**2)),
    "sinh": (lambda x: apply("cosh", x),),
    "cosh": (lambda x: apply("sinh", x),),
    "tanh": (lambda x: 1 - apply("tanh", x) ** 2,),
    "asinh": (lambda x: _inverse(sqrt(1 + x**2)),),
    "acosh": (lambda x: _inverse(mul(sqrt(x - 1), sqrt(x + 1))),),
    "atanh": (lambda x: _inverse(1 - x**2),),
    "erf": (lambda x: 2 * exponential(-(x**2)) / sqrt(PI),),
    "erfc": (lambda x: -2 * exponential(-(x**2)) / sqrt(PI),),
    "erfinv": (lambda x: sqrt(PI) * exponential(apply("erfinv", x) ** 2) / 2,),
    "gamma": (lambda x: apply("gamma", x) * apply("digamma", x),),
    "loggamma": (lambda x: apply("digamma", x),),
    "digamma": (lambda x: apply("polygamma", ONE, x),),
    "polygamma": (None, lambda order, x: apply("polygamma", order + 1, x)),
}
"""Of the elementary functions; tanh in the form that becomes sech**2."""
