"""Sums, products and powers as they are built.

Building simplifies as far as it costs nothing: sums collect like terms, products collect powers of one base, exact
numbers are computed, roots of rationals get their shortest form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

from lensnet.expressions.tree import (
    HALF,
    MINUS_ONE,
    NAN,
    ONE,
    PI,
    ZERO,
    Expr,
    Function,
    Number,
    Power,
    Product,
    Sum,
    Value,
    float_of,
    is_even,
    is_exp,
    is_nonnegative,
    product_of,
    size_of,
    sum_of,
)  # fmt: skip

_SMALL_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
_MOST_BITS = 1 << 15
"""Powers of numbers beyond this size become floats."""


# --- sums and products --------------------------------------------------------------------------------------------


def add(*terms: Expr) -> Expr:
    """The sum, like terms collected."""
    constant: Value = ZERO.value
    found: dict[Expr, Value] = {}
    for term in _flat(terms, Sum):
        if isinstance(term, Number):
            constant = sum_of(constant, term.value)
            continue
        factor, rest = term.coefficient()
        found[rest] = sum_of(found[rest], factor) if rest in found else factor
    args = [rest if factor == 1 else _scaled(factor, rest) for rest, factor in found.items() if factor != 0]
    if constant != 0:
        args.insert(0, Number(constant))
    return ZERO if not args else args[0] if len(args) == 1 else Sum(tuple(args))


def mul(*factors: Expr) -> Expr:
    """The product, powers of one base collected; a number times a sum is multiplied out."""
    number: Value = ONE.value
    radicand = Fraction(1)
    growths: list[Expr] = []
    powers: dict[Expr, Expr] = {}
    for factor in _flat(factors, Product):
        if isinstance(factor, Number):
            number = product_of(number, factor.value)
        elif is_exp(factor):
            growths.append(factor.args[0])
        elif _is_root(factor):
            radicand *= factor.args[0].value  # type: ignore[attr-defined]
        else:
            base, exponent = factor.as_power()
            powers[base] = add(powers[base], exponent) if base in powers else exponent
    if number == 0:
        return ZERO
    args: list[Expr] = []
    again = False
    if radicand != 1:
        root = power(Number(radicand), HALF)
        again = not isinstance(root, Power)
        args.append(root)
    for base, exponent in powers.items():
        part = power(base, exponent)
        again = again or isinstance(part, Number | Product) or part.as_power()[0] != base
        args.append(part)
    if growths:
        part = exponential(add(*growths))
        again = again or not is_exp(part)
        args.append(part)
    if again:
        return mul(Number(number), *args)
    if not args:
        return Number(number)
    if number == 1:
        return args[0] if len(args) == 1 else Product(tuple(args))
    return _scaled(number, args[0]) if len(args) == 1 else Product((Number(number), *args))


def _scaled(number: Value, rest: Expr) -> Expr:
    if isinstance(rest, Sum):
        return add(*(mul(Number(number), term) for term in rest.args))
    return Product((Number(number), *(rest.args if isinstance(rest, Product) else (rest,))))


def _flat(parts: Iterable[Expr], kind: type[Expr]) -> Iterator[Expr]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.args
        else:
            yield part


def _is_root(factor: Expr) -> bool:
    """The square root of a positive rational."""
    if not isinstance(factor, Power) or factor.args[1] != HALF:
        return False
    base = factor.args[0]
    return isinstance(base, Number) and base.is_exact and base.value > 0


# --- powers -------------------------------------------------------------------------------------------------------


def power(base: Expr, exponent: Expr) -> Expr:
    """base**exponent over the reals: sqrt(x**2) is abs(x)."""
    if exponent == 0 or base == 1:
        return ONE
    if exponent == 1:
        return base
    if is_exp(base):
        return exponential(mul(base.args[0], exponent))
    if isinstance(base, Power) and is_nonnegative(base.args[0]):
        return power(base.args[0], mul(base.args[1], exponent))
    if not isinstance(exponent, Number):
        return Power((base, exponent))
    if isinstance(base, Number):
        return _number_power(base, exponent)
    if isinstance(base, Power):
        inner, count = base.args
        if exponent.is_integer:
            return power(inner, mul(count, exponent))
        if isinstance(count, Number) and count.is_exact:
            if is_even(count):
                return power(absolute(inner), mul(count, exponent))
            if size_of(count.value) < 1:
                return power(inner, mul(count, exponent))
    elif isinstance(base, Product):
        if exponent.is_integer:
            return mul(*(power(factor, exponent) for factor in base.args))
        outside, inside = _positive_part(base)
        if outside:
            return mul(*(power(factor, exponent) for factor in outside), power(inside, exponent))
    elif isinstance(base, Function) and base.name == "abs" and is_even(exponent):
        return power(base.args[0], exponent)
    return Power((base, exponent))


def _positive_part(base: Product) -> tuple[list[Expr], Expr]:
    """Constant factors that are positive, and the rest."""
    number, rest = base.coefficient()
    if not math.isfinite(float_of(number)):
        return [], base
    outside: list[Expr] = [Number(size_of(number))] if size_of(number) != 1 else []
    kept: list[Expr] = [] if number > 0 else [MINUS_ONE]
    for factor in rest.args if isinstance(rest, Product) else (rest,):
        constant = factor is PI or _is_root(factor) or isinstance(factor, Power) and factor.args[0] is PI
        (outside if constant else kept).append(factor)
    return outside, mul(*kept) if outside else base


def _number_power(base: Number, exponent: Number) -> Expr:
    if not (isinstance(base.value, Fraction) and isinstance(exponent.value, Fraction)):
        return _float_power(base, exponent)
    value, count = base.value, exponent.value
    whole = math.floor(count)
    part = count - whole
    if value == 0:
        return ZERO if count > 0 else NAN
    if value < 0 and part:
        return Power((base, exponent))  # no real number: nan, when it is computed
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    if bits * abs(whole) > _MOST_BITS:
        return _float_power(base, exponent)
    outside = value**whole
    if not part:
        return Number(outside)
    outside, inside = _root(value, part, outside)
    if inside == 1:
        return Number(outside)
    root = Power((Number(inside), Number(part)))
    return root if outside == 1 else Product((Number(outside), root))


def _root(value: Fraction, part: Fraction, outside: Fraction) -> tuple[Fraction, Fraction]:
    """outside * value**part with the perfect powers taken out: (outside, what stays under the root)."""
    if part == HALF.value:
        square, rest = _square_part(value.numerator * value.denominator)
        return outside * Fraction(square, value.denominator), Fraction(rest)
    degree = part.denominator
    top, bottom = (round(float_of(Fraction(n)) ** (1.0 / degree)) for n in (value.numerator, value.denominator))
    if top**degree == value.numerator and bottom**degree == value.denominator:
        return outside * Fraction(top, bottom) ** part.numerator, Fraction(1)
    return outside, value


def _square_part(number: int) -> tuple[int, int]:
    """(s, r) with number = s**2 * r, as far as small factors and a perfect square go."""
    square, rest = 1, number
    for prime in _SMALL_PRIMES:
        while rest % (prime * prime) == 0:
            rest //= prime * prime
            square *= prime
    root = math.isqrt(rest)
    return (square * root, 1) if root * root == rest else (square, rest)


def _float_power(base: Number, exponent: Number) -> Expr:
    try:
        value = float_of(base.value) ** float_of(exponent.value)
    except OverflowError:
        return Number(math.inf)
    except ZeroDivisionError:
        return NAN
    return Number(value) if isinstance(value, float) else NAN


def exponential(argument: Expr) -> Expr:
    """exp of an expression; exp(c*log(u)) is u**c."""
    if argument == 0:
        return ONE
    factor, rest = argument.coefficient()
    if isinstance(rest, Function) and rest.name == "log":
        return power(rest.args[0], Number(factor))
    return Function("exp", (argument,))


def absolute(argument: Expr) -> Expr:
    """abs of an expression; a number in front is taken out."""
    if isinstance(argument, Number):
        return Number(size_of(argument.value))
    factor, rest = argument.coefficient()
    size = rest if is_nonnegative(rest) else Function("abs", (rest,))
    return size if factor == 1 else mul(Number(size_of(factor)), size)


def sqrt(value: Expr) -> Expr:
    return power(value, HALF)
