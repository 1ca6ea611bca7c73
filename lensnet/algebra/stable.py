"""Sums, products and logarithms in forms that neither overflow nor cancel.

Formulas are written as in a paper, `x/(1 + exp(-x))`, `x*(1 + erf(x/sqrt(2)))/2`, `log(1 + exp(x))`; computed literally
they overflow at x = -1000, lose every digit of the left tail, or give inf/inf gradients. The rules here recognise

    1/(1 + e^w), e^w/(1 + e^w)^n        logistic function          log(1 + e^w)        softplus
    1 + erf, 1 - erf                    erfc                       log(cosh), log(e^u + e^-u)
    1 + tanh, 1 - tanh                  logistic function          log(1 + erf)        log erfc
    1 - tanh^2, 1/cosh^n                sech                       log(1 + y)          log1p
    sinh/cosh, (e^u - e^-u)/(e^u + e^-u), (e^w - 1)/(e^w + 1)      tanh
    e^u - 1                             expm1

each with any common factor (`x/2 + x*erf(u)/2`) and positive constants in place of the ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import sympy as sp

from lensnet.algebra.constants import number
from lensnet.algebra.exponentials import exponential_sum, hyperbolic_sum, unit_exponential_sum

if TYPE_CHECKING:
    from lensnet.algebra.lowering import Lowering


# --- sums ---------------------------------------------------------------------------------------------------------


def lower_sum(lowering: Lowering, expression: sp.Add) -> int:
    """Slot of a sum: cancelling pairs first, then the other terms, subtractions as such, the constant last."""
    paired, terms = _split_pairs(lowering, expression)
    positive = [term for term in terms if not _is_negative(term)]
    negative = [-term for term in terms if _is_negative(term)]
    positive.sort(key=lambda term: bool(term.is_Number))
    negative.sort(key=lambda term: bool(term.is_Number))
    slots = paired + [lowering.expression(term) for term in positive]
    if not slots:
        slots = [lowering.emit("neg", lowering.expression(negative.pop(0)))]
    result = slots[0]
    for slot in slots[1:]:
        result = lowering.emit("add", result, slot)
    for term in negative:
        result = lowering.emit("sub", result, lowering.expression(term))
    return result


def _is_negative(term: sp.Expr) -> bool:
    coefficient = term.as_coeff_Mul()[0]
    return bool(coefficient.is_negative)


def _split_pairs(lowering: Lowering, expression: sp.Add) -> tuple[list[int], list[sp.Expr]]:
    """Slots of the pairs `R*G + R`, `R*G - R` with G one of erf, tanh, tanh**2, exp, logistic; and the terms left."""
    remaining = list(expression.args)
    slots: list[int] = []
    for term in expression.args:
        for factor in sp.Mul.make_args(term):
            if term not in remaining or not _pairs_up(factor):
                continue
            rest = sp.Mul(*(other for other in sp.Mul.make_args(term) if other is not factor))
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


def _pairs_up(factor: sp.Expr) -> bool:
    if isinstance(factor, sp.erf | sp.tanh | sp.exp):
        return True
    if isinstance(factor, sp.Pow):
        if isinstance(factor.base, sp.tanh):
            return bool(factor.exp == 2)
        return bool(factor.exp == -1) and unit_exponential_sum(factor.base) is not None
    return False


def _pair(lowering: Lowering, rest: sp.Expr, factor: sp.Expr, sign: int) -> int | None:
    """Slot of `rest*(factor + sign)`, or None when that sum does not cancel."""
    if isinstance(factor, sp.erf):
        value = lowering.emit("erfc", lowering.expression(-sign * factor.args[0]))
    elif isinstance(factor, sp.tanh):
        value = lowering.scaled(lowering.emit("sigmoid", lowering.expression(2 * sign * factor.args[0])), 2.0)
    elif sign == 1:
        return None
    elif isinstance(factor, sp.exp):
        value = lowering.emit("expm1", lowering.expression(factor.args[0]))
        return lowering.emit("mul", lowering.expression(rest), value)
    elif isinstance(factor.base, sp.tanh):
        value = lowering.emit("square", lowering.emit("sech", lowering.expression(factor.base.args[0])))
    else:
        exponent = unit_exponential_sum(factor.base)
        value = lowering.emit("sigmoid", lowering.expression(exponent))
    return lowering.emit("mul", lowering.expression(rest if sign == 1 else -rest), value)


# --- products -----------------------------------------------------------------------------------------------------


def lower_product(lowering: Lowering, expression: sp.Mul | sp.Pow) -> int:
    """Slot of a product or power: logistic and hyperbolic quotients first, then numerator over denominator."""
    coefficient, factors = expression.as_coeff_mul()
    powers = [_base_and_exponent(factor) for factor in factors]
    scale, slots = _quotients(lowering, powers)
    scale *= number(coefficient)
    below: list[int] = []
    for base, exponent in powers:
        if base.is_number and exponent.is_number and _constant(lowering, base**exponent) is not None:
            scale *= _constant(lowering, base**exponent) or 0.0
        elif exponent.is_number and exponent.is_negative:
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


def _constant(lowering: Lowering, expression: sp.Expr) -> float | None:
    """pi, sqrt(2) and the like; None for what needs an operation of its own (or is no real number)."""
    if isinstance(expression, sp.Pow):
        base = _constant(lowering, expression.base)
        exponent = expression.exp
        if base is None or base <= 0 or not isinstance(exponent, sp.Rational):
            return None
        try:
            return float(math.sqrt(base) ** int(exponent.p) if exponent.q == 2 else base ** number(exponent))
        except OverflowError:
            return None
    return number(expression) if expression.is_Rational or expression is sp.pi or expression is sp.E else None


def _product(lowering: Lowering, slots: list[int]) -> int:
    result = slots[0]
    for slot in slots[1:]:
        result = lowering.emit("mul", result, slot)
    return result


def _base_and_exponent(factor: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    return (factor.base, factor.exp) if isinstance(factor, sp.Pow) else (factor, sp.S.One)


def _power(lowering: Lowering, base: sp.Expr, exponent: sp.Expr) -> int:
    if exponent == 1:
        # an Add, a function or a symbol: never the product being lowered
        return lowering.expression(base)
    slot = lowering.expression(base)
    if isinstance(exponent, sp.Integer):
        return lowering.power(slot, int(exponent))
    if isinstance(exponent, sp.Rational) and exponent.q == 2 and exponent > 0:
        whole = int(exponent.p) // 2
        root = lowering.emit("sqrt", slot)
        return lowering.emit("mul", lowering.power(slot, whole), root) if whole else root
    return lowering.emit("pow", slot, lowering.expression(exponent))


def _quotients(lowering: Lowering, powers: list[tuple[sp.Expr, sp.Expr]]) -> tuple[float, list[int]]:
    """Take recognised quotients out of `powers` (in place); returns their constant factor and slots."""
    scale, slots = 1.0, []
    for item in [p for p in powers if p[1].is_Integer and p[1].is_negative]:
        base, count = item[0], -int(item[1])
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


def _logistic(
    lowering: Lowering, powers: list[tuple[sp.Expr, sp.Expr]], a: float, b: float, w: sp.Expr, count: int
) -> tuple[float, list[int]]:
    """(a + b*e^w)**-count with the powers of e^w, or the factor e^w - 1, that stand above it."""
    scale, slots, above = a**-count, [], 0
    for item in list(powers):
        base, exponent = item
        if isinstance(base, sp.exp) and exponent == 1 and not above:
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
    lowering: Lowering, powers: list[tuple[sp.Expr, sp.Expr]], coefficient: float, u: sp.Expr, count: int
) -> tuple[float, list[int]]:
    """(coefficient*cosh u)**-count with the powers of sinh u that stand above it."""
    scale, slots = coefficient**-count, []
    for item in list(powers):
        above = hyperbolic_sum(item[0])
        if above is None or above[0] != "sinh" or above[2] != u or not (item[1].is_Integer and item[1].is_positive):
            continue
        times = min(int(item[1]), count)
        powers.remove(item)
        if int(item[1]) > times:
            powers.append((item[0], item[1] - times))
        scale *= above[1] ** times
        count -= times
        slots.append(lowering.power(lowering.emit("tanh", lowering.expression(u)), times))
    if count:
        slots.append(lowering.power(lowering.emit("sech", lowering.expression(u)), count))
    return scale, slots


# --- logarithms ---------------------------------------------------------------------------------------------------


def lower_log(lowering: Lowering, argument: sp.Expr) -> int:
    """Slot of log(argument): positive factors with a safe logarithm are taken out of a product."""
    coefficient, factors = argument.as_coeff_mul()
    scale = number(coefficient)
    if scale <= 0 or not factors:
        return lowering.emit("log", lowering.expression(argument))
    rest: list[sp.Expr] = []
    slots: list[int] = []
    for factor in factors:
        base, exponent = _base_and_exponent(factor)
        slot = _safe_log(lowering, base) if exponent.is_number else None
        if slot is None:
            rest.append(factor)
        else:
            slots.append(lowering.scaled(slot, number(exponent)))
    if not slots:
        return lowering.emit("log", lowering.expression(argument))
    if rest:
        slots.append(lower_log(lowering, sp.Mul(*rest)))
    result = slots[0]
    for slot in slots[1:]:
        result = lowering.emit("add", result, slot)
    return lowering.shifted(result, math.log(scale))


def _safe_log(lowering: Lowering, base: sp.Expr) -> int | None:
    """Slot of log(base) for a base that is positive everywhere and whose logarithm has a form of its own."""
    if isinstance(base, sp.exp):
        return lowering.expression(base.args[0])
    hyperbolic = hyperbolic_sum(base)
    if hyperbolic is not None and hyperbolic[0] == "cosh" and hyperbolic[1] > 0:
        slot = lowering.emit("logcosh", lowering.expression(hyperbolic[2]))
        return lowering.shifted(slot, math.log(hyperbolic[1]))
    exponentials = exponential_sum(base)
    if exponentials is not None and exponentials[0] > 0 and exponentials[1] > 0:
        a, b, w = exponentials
        slot = lowering.emit("softplus", lowering.shifted(lowering.expression(w), math.log(b / a)))
        return lowering.shifted(slot, math.log(a))
    if isinstance(base, sp.erfc):
        return _log_erfc(lowering, 1.0, base.args[0])
    if isinstance(base, sp.Add):
        return _log_of_sum(lowering, base)
    return None


def _log_of_sum(lowering: Lowering, base: sp.Add) -> int | None:
    if len(base.args) == 2 and base.args[0].is_Number and base.args[0].is_positive:
        constant, (coefficient, function) = base.args[0], base.args[1].as_coeff_Mul()
        if isinstance(function, sp.erf) and abs(coefficient) == constant:
            sign = 1 if coefficient > 0 else -1
            return _log_erfc(lowering, number(constant), -sign * function.args[0])
    if sp.S.One in base.args and not _split_pairs(lowering, base)[0]:
        return lowering.emit("log1p", lowering.expression(base - 1))
    return None


def _log_erfc(lowering: Lowering, scale: float, u: sp.Expr) -> int:
    """log(scale*erfc(u)) by the logarithm of the normal distribution: erfc(u) = 2*Phi(-sqrt(2)*u)."""
    slot = lowering.emit("log_ndtr", lowering.scaled(lowering.expression(u), -math.sqrt(2.0)))
    return lowering.shifted(slot, math.log(2.0 * scale))
