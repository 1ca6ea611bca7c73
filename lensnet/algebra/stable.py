"""Sums and products in forms that neither overflow nor cancel; `logarithms.py` does the same for logarithms.

Formulas are written as in a paper, `x/(1 + exp(-x))`, `x*(1 + erf(x/sqrt(2)))/2`; computed literally they overflow at
x = -1000, lose every digit of the left tail, or give inf/inf gradients. The rules here recognise

    1/(1 + e^w), e^w/(1 + e^w)^n        logistic function          1 + erf, 1 - erf    erfc
    1 + tanh, 1 - tanh                  logistic function          e^u - 1             expm1
    1 - tanh^2, 1/cosh^n                sech
    sinh/cosh, (e^u - e^-u)/(e^u + e^-u), (e^w - 1)/(e^w + 1)      tanh

each with any common factor (`x/2 + x*erf(u)/2`) and positive constants in place of the ones.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from lensnet.algebra.constants import number
from lensnet.algebra.exponentials import exponential_sum, hyperbolic_sum, unit_exponential_sum
from lensnet.expressions.arithmetic import mul
from lensnet.expressions.traverse import factors_of
from lensnet.expressions.tree import Expr, Function, Number, Pi, Power, Product, Sum, is_exp

if TYPE_CHECKING:
    from lensnet.algebra.lowering import Lowering


# --- sums ---------------------------------------------------------------------------------------------------------


def lower_sum(lowering: Lowering, expression: Sum) -> int:
    """Slot of a sum: cancelling pairs first, then the other terms, subtractions as such, the constant last."""
    paired, terms = split_pairs(lowering, expression)
    positive = [term for term in terms if not _is_negative(term)]
    negative = [-term for term in terms if _is_negative(term)]
    positive.sort(key=lambda term: isinstance(term, Number))
    negative.sort(key=lambda term: isinstance(term, Number))
    slots = paired + [lowering.expression(term) for term in positive]
    if not slots:
        slots = [lowering.emit("neg", lowering.expression(negative.pop(0)))]
    result = slots[0]
    for slot in slots[1:]:
        result = lowering.emit("add", result, slot)
    for term in negative:
        result = lowering.emit("sub", result, lowering.expression(term))
    return result


def _is_negative(term: Expr) -> bool:
    return term.coefficient()[0] < 0


def split_pairs(lowering: Lowering, expression: Sum) -> tuple[list[int], list[Expr]]:
    """Slots of the pairs `R*G + R`, `R*G - R` with G one of erf, tanh, tanh**2, exp, logistic; and the terms left."""
    remaining = list(expression.args)
    slots: list[int] = []
    for term in expression.args:
        for factor in factors_of(term):
            if term not in remaining or not _pairs_up(factor):
                continue
            rest = mul(*(other for other in factors_of(term) if other is not factor))
            for partner, sign in ((rest, 1), (-rest, -1)):
                if partner == term or partner not in remaining:
                    continue
                slot = _pair(lowering, rest, factor, sign)
                if slot is not None:
                    remaining.remove(term)
                    remaining.remove(partner)
                    slots.append(slot)
                    break
    return slots, remaining


def _pairs_up(factor: Expr) -> bool:
    if isinstance(factor, Function):
        return factor.name in ("erf", "tanh", "exp")
    if isinstance(factor, Power):
        base, exponent = factor.args
        if is_called(base, "tanh"):
            return exponent == 2
        return exponent == -1 and unit_exponential_sum(base) is not None
    return False


def is_called(expression: Expr, name: str) -> bool:
    return isinstance(expression, Function) and expression.name == name


def _pair(lowering: Lowering, rest: Expr, factor: Expr, sign: int) -> int | None:
    """Slot of `rest*(factor + sign)`, or None when that sum does not cancel."""
    if is_called(factor, "erf"):
        value = lowering.emit("erfc", lowering.expression(-sign * factor.args[0]))
    elif is_called(factor, "tanh"):
        value = lowering.scaled(lowering.emit("sigmoid", lowering.expression(2 * sign * factor.args[0])), 2.0)
    elif sign == 1:
        return None
    elif is_exp(factor):
        value = lowering.emit("expm1", lowering.expression(factor.args[0]))
        return lowering.emit("mul", lowering.expression(rest), value)
    elif is_called(factor.args[0], "tanh"):
        value = lowering.emit("square", lowering.emit("sech", lowering.expression(factor.args[0].args[0])))
    else:
        exponent = unit_exponential_sum(factor.args[0])
        assert exponent is not None  # `_pairs_up` saw to it
        value = lowering.emit("sigmoid", lowering.expression(exponent))
    return lowering.emit("mul", lowering.expression(rest if sign == 1 else -rest), value)


# --- products -----------------------------------------------------------------------------------------------------


def lower_product(lowering: Lowering, expression: Product | Power) -> int:
    """Slot of a product or power: logistic and hyperbolic quotients first, then numerator over denominator."""
    coefficient, rest = expression.coefficient()
    powers = [factor.as_power() for factor in factors_of(rest)]
    scale, slots = _quotients(lowering, powers)
    scale *= number(coefficient)
    below: list[int] = []
    for base, exponent in powers:
        constant = _constant(base, exponent)
        if constant is not None:
            scale *= constant
        elif exponent.is_constant and _negative(exponent):
            below.append(_power(lowering, base, -exponent))
        else:
            slots.append(_power(lowering, base, exponent))
    if not slots:
        if not below:
            return lowering.constant(scale)
        denominator = _product(lowering, below)
        if scale == 1.0:
            return lowering.emit("reciprocal", denominator)
        return lowering.emit("div", lowering.constant(scale), denominator)
    result = _product(lowering, slots)
    if below:
        result = lowering.emit("div", result, _product(lowering, below))
    return lowering.scaled(result, scale)


def _constant(base: Expr, exponent: Expr) -> float | None:
    """pi, sqrt(2) and the like; None for what needs an operation of its own (or is no real number)."""
    if not isinstance(base, Number | Pi) or not (isinstance(exponent, Number) and exponent.is_exact):
        return None
    value, count = number(base), exponent.value
    assert isinstance(count, Fraction)
    if count == 1:
        return value
    if value <= 0:
        return None
    try:
        return float(math.sqrt(value) ** count.numerator if count.denominator == 2 else value ** number(exponent))
    except OverflowError:
        return None


def _negative(exponent: Expr) -> bool:
    return number(exponent) < 0


def _product(lowering: Lowering, slots: list[int]) -> int:
    result = slots[0]
    for slot in slots[1:]:
        result = lowering.emit("mul", result, slot)
    return result


def _power(lowering: Lowering, base: Expr, exponent: Expr) -> int:
    if exponent == 1:
        # an Add, a function or a symbol: never the product being lowered
        return lowering.expression(base)
    slot = lowering.expression(base)
    if isinstance(exponent, Number) and exponent.is_integer and exponent.value > 0:
        return lowering.power(slot, int(exponent.value))
    count = exponent.value if isinstance(exponent, Number) else None
    if isinstance(count, Fraction) and count.denominator == 2 and count > 0:
        whole = count.numerator // 2
        root = lowering.emit("sqrt", slot)
        return lowering.emit("mul", lowering.power(slot, whole), root) if whole else root
    return lowering.emit("pow", slot, lowering.expression(exponent))


def _quotients(lowering: Lowering, powers: list[tuple[Expr, Expr]]) -> tuple[float, list[int]]:
    """Take recognised quotients out of `powers` (in place); returns their constant factor and slots."""
    scale, slots = 1.0, []
    for item in [p for p in powers if _whole(p[1]) < 0]:
        base, count = item[0], -_whole(item[1])
        exponentials = exponential_sum(base)
        if exponentials is not None and exponentials[0] > 0 and exponentials[1] > 0:
            powers.remove(item)
            factor, found = _logistic(lowering, powers, *exponentials, count)
        else:
            hyperbolic = hyperbolic_sum(base)
            if hyperbolic is None or hyperbolic[0] != "cosh":
                continue
            powers.remove(item)
            factor, found = _hyperbolic_quotient(lowering, powers, hyperbolic[1], hyperbolic[2], count)
        scale *= factor
        slots += found
    return scale, slots


def _whole(exponent: Expr) -> int:
    """An exponent that is a whole number; 0 for any other."""
    return int(exponent.value) if isinstance(exponent, Number) and exponent.is_integer else 0


def _logistic(
    lowering: Lowering, powers: list[tuple[Expr, Expr]], a: float, b: float, w: Expr, count: int
) -> tuple[float, list[int]]:
    """(a + b*e^w)**-count with the powers of e^w, or the factor e^w - 1, that stand above it."""
    scale, slots, above = a**-count, [], 0
    for item in list(powers):
        base, exponent = item
        if is_exp(base) and exponent == 1 and not above:
            above = next((j for j in range(1, count + 1) if base.args[0] - j * w == 0), 0)
            if above:
                powers.remove(item)
                scale *= (a / b) ** above
        elif exponent == 1 and a == b and count > above:
            difference = exponential_sum(base)
            if difference is not None and difference[0] == -difference[1] and difference[2] == w:
                powers.remove(item)
                count -= 1
                scale *= difference[1]
                slots.append(lowering.emit("tanh", lowering.expression(w / 2)))
    shift = math.log(b / a)
    for sign, times in ((1, above), (-1, count - above)):
        if times > 0:
            argument = lowering.shifted(lowering.expression(sign * w), sign * shift)
            slots.append(lowering.power(lowering.emit("sigmoid", argument), times))
    return scale, slots


def _hyperbolic_quotient(
    lowering: Lowering, powers: list[tuple[Expr, Expr]], coefficient: float, u: Expr, count: int
) -> tuple[float, list[int]]:
    """(coefficient*cosh u)**-count with the powers of sinh u that stand above it."""
    scale, slots = coefficient**-count, []
    for item in list(powers):
        above = hyperbolic_sum(item[0])
        if above is None or above[0] != "sinh" or above[2] != u or _whole(item[1]) <= 0:
            continue
        times = min(_whole(item[1]), count)
        powers.remove(item)
        if _whole(item[1]) > times:
            powers.append((item[0], item[1] - times))
        scale *= above[1] ** times
        count -= times
        slots.append(lowering.power(lowering.emit("tanh", lowering.expression(u)), times))
    if count:
        slots.append(lowering.power(lowering.emit("sech", lowering.expression(u)), count))
    return scale, slots
