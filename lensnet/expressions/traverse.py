"""Expressions taken apart: substitution, traversal, multiplying out, polynomials in one symbol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from lensnet.expressions.arithmetic import add, mul, power
from lensnet.expressions.functions import Condition, Extremum, Named, Step, Where, apply, maximum, minimum, step
from lensnet.expressions.tree import ONE, ZERO, Expr, Function, Number, Power, Product, Sum, Symbol

MOST_TERMS = 512
"""Sums beyond this are not multiplied out any further."""


def rebuilt(expression: Expr, args: tuple[Expr, ...]) -> Expr:
    """The same operation on other arguments, simplified anew."""
    if isinstance(expression, Sum):
        return add(*args)
    if isinstance(expression, Product):
        return mul(*args)
    if isinstance(expression, Power):
        return power(*args)
    if isinstance(expression, Function):
        return apply(expression.name, *args)
    if isinstance(expression, Extremum):
        return (maximum if expression.name == "max" else minimum)(*args)
    if isinstance(expression, Step):
        return step(*args)
    if isinstance(expression, Where):
        return Where(args)
    if isinstance(expression, Named | Condition):
        return type(expression)(expression.name, args)
    return expression


def substituted(expression: Expr, values: Mapping[str, Expr]) -> Expr:
    """The expression with other expressions in place of symbols."""
    memo: dict[Expr, Expr] = {}

    def of(part: Expr) -> Expr:
        if isinstance(part, Symbol):
            return values.get(part.name, part)
        if not part.args or part.symbols.isdisjoint(values):
            return part
        if part not in memo:
            memo[part] = rebuilt(part, tuple(of(arg) for arg in part.args))
        return memo[part]

    return of(expression)


def parts(expression: Expr) -> Iterator[Expr]:
    """The expression and everything in it."""
    yield expression
    for arg in expression.args:
        yield from parts(arg)


def contains(expression: Expr, holds: Callable[[Expr], bool]) -> bool:
    return any(holds(part) for part in parts(expression))


def terms_of(expression: Expr) -> tuple[Expr, ...]:
    return expression.args if isinstance(expression, Sum) else (expression,)


def factors_of(expression: Expr) -> tuple[Expr, ...]:
    return expression.args if isinstance(expression, Product) else (expression,)


def without(expression: Expr, symbol: str, of_sum: bool) -> tuple[Expr, Expr]:
    """(the terms, or the factors, in which the symbol does not stand; the others)."""
    pieces = terms_of(expression) if of_sum else factors_of(expression)
    free = [piece for piece in pieces if symbol not in piece.symbols]
    rest = [piece for piece in pieces if symbol in piece.symbols]
    join = add if of_sum else mul
    return join(*free), join(*rest)


def expanded(expression: Expr, powers: bool = True) -> Expr:
    """Products of sums (and, unless told otherwise, whole powers of sums) multiplied out, everywhere."""
    if not expression.args or isinstance(expression, Where | Condition):
        return expression
    inside = rebuilt(expression, tuple(expanded(arg, powers) for arg in expression.args))
    if isinstance(inside, Power) and powers and isinstance(inside.args[0], Sum):
        exponent = inside.args[1]
        if isinstance(exponent, Number) and exponent.is_integer and 1 < exponent.value <= 24:
            return _multiplied([inside.args[0]] * int(exponent.value), inside)
    if isinstance(inside, Product) and any(isinstance(arg, Sum | Power) for arg in inside.args):
        factors = [expanded(arg, powers) if isinstance(arg, Power) else arg for arg in inside.args]
        return _multiplied(factors, inside)
    return inside


def _multiplied(factors: list[Expr], otherwise: Expr) -> Expr:
    out: list[Expr] = [ONE]
    for factor in factors:
        terms = terms_of(factor)
        if len(out) * len(terms) > MOST_TERMS:
            return otherwise
        out = list(terms_of(add(*(mul(a, b) for a in out for b in terms))))
    return add(*out)


def polynomial(expression: Expr, symbol: str, most: int = 64) -> tuple[Expr, ...] | None:
    """Coefficients, the constant one first, of a polynomial in the symbol; None for anything else (or a higher degree).

    They may hold other symbols; the last one is not zero.
    """
    found = _polynomial(expression, symbol, most)
    while found and len(found) > 1 and found[-1] == 0:
        found = found[:-1]
    return None if found is None else tuple(found)


def _polynomial(expression: Expr, symbol: str, most: int) -> list[Expr] | None:
    if symbol not in expression.symbols:
        return [expression]
    if isinstance(expression, Symbol):
        return [ZERO, ONE]
    if isinstance(expression, Sum):
        parts_ = [_polynomial(term, symbol, most) for term in expression.args]
        if any(part is None for part in parts_):
            return None
        size = max(len(part) for part in parts_ if part is not None)
        return [add(*(part[j] for part in parts_ if part is not None and j < len(part))) for j in range(size)]
    if isinstance(expression, Product):
        total: list[Expr] | None = [ONE]
        for factor in expression.args:
            total = _times(total, _polynomial(factor, symbol, most), most)
        return total
    if isinstance(expression, Power):
        base, exponent = expression.args
        if not (isinstance(exponent, Number) and exponent.is_integer and 0 < exponent.value <= most):
            return None
        inner = _polynomial(base, symbol, most)
        total = [ONE]
        for _ in range(int(exponent.value)):
            total = _times(total, inner, most)
        return total
    return None


def _times(first: list[Expr] | None, second: list[Expr] | None, most: int) -> list[Expr] | None:
    if first is None or second is None or len(first) + len(second) - 2 > most:
        return None
    return [
        add(*(first[i] * second[j - i] for i in range(len(first)) if 0 <= j - i < len(second)))
        for j in range(len(first) + len(second) - 1)
    ]
