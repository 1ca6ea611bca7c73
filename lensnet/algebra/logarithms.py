"""Logarithms in forms that neither overflow nor cancel: those of products, and of sums that `stable.py` knows.

log(1 + e^w)        softplus            log(cosh), log(e^u + e^-u)
log(1 + erf)        log erfc            log(1 + y)          log1p
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lensnet.algebra.constants import number
from lensnet.algebra.exponentials import exponential_sum, hyperbolic_sum
from lensnet.algebra.stable import is_called, split_pairs
from lensnet.expressions.arithmetic import mul
from lensnet.expressions.traverse import factors_of
from lensnet.expressions.tree import Expr, Number, Sum, is_exp

if TYPE_CHECKING:
    from lensnet.algebra.lowering import Lowering


def lower_log(lowering: Lowering, argument: Expr) -> int:
    """Slot of log(argument): positive factors with a safe logarithm are taken out of a product."""
    coefficient, inside = argument.coefficient()
    scale = number(coefficient)
    if scale <= 0 or inside == 1:
        return lowering.emit("log", lowering.expression(argument))
    rest: list[Expr] = []
    slots: list[int] = []
    for factor in factors_of(inside):
        base, exponent = factor.as_power()
        slot = _safe_log(lowering, base) if exponent.is_constant else None
        if slot is None:
            rest.append(factor)
        else:
            slots.append(lowering.scaled(slot, number(exponent)))
    if not slots:
        return lowering.emit("log", lowering.expression(argument))
    if rest:
        slots.append(lower_log(lowering, mul(*rest)))
    result = slots[0]
    for slot in slots[1:]:
        result = lowering.emit("add", result, slot)
    return lowering.shifted(result, math.log(scale))


def _safe_log(lowering: Lowering, base: Expr) -> int | None:
    """Slot of log(base) for a base that is positive everywhere and whose logarithm has a form of its own."""
    if is_exp(base):
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
    if is_called(base, "erfc"):
        return _log_erfc(lowering, 1.0, base.args[0])
    if isinstance(base, Sum):
        return _log_of_sum(lowering, base)
    return None


def _log_of_sum(lowering: Lowering, base: Sum) -> int | None:
    constant = base.args[0]
    if len(base.args) == 2 and isinstance(constant, Number) and constant.value > 0:
        coefficient, function = base.args[1].coefficient()
        if is_called(function, "erf") and abs(coefficient) == constant.value:
            sign = 1 if coefficient > 0 else -1
            return _log_erfc(lowering, number(constant), -sign * function.args[0])
    if constant == 1 and not split_pairs(lowering, base)[0]:
        return lowering.emit("log1p", lowering.expression(base - 1))
    return None


def _log_erfc(lowering: Lowering, scale: float, u: Expr) -> int:
    """log(scale*erfc(u)) by the logarithm of the normal distribution: erfc(u) = 2*Phi(-sqrt(2)*u)."""
    slot = lowering.emit("log_ndtr", lowering.scaled(lowering.expression(u), -math.sqrt(2.0)))
    return lowering.shifted(slot, math.log(2.0 * scale))
