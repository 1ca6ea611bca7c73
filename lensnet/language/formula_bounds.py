"""What is known of a part of a formula before anything is built from it, and the bounds that keep building it cheap.

Each bound answers an input that would hang or exhaust a computer algebra system: 9**9**9, (x+1)**20000,
gamma(10**7), sinh(loggamma(1e50)), a min of many constants.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from lensnet.language.formula_tree import MAX_BITS, Term, bits
from lensnet.language.functions import WHERE, FunctionRule

MAX_EXPONENT = 64
MAX_DEGREE = 256  # product of nested powers: ((x**8)**8)**4

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Facts(NamedTuple):
    """exact: the value when it is rational; estimate: the value when it is constant, None when a symbol is in it.

    degree: product of nested powers. cases: whether a `where` is in it.
    """

    exact: Fraction | None = None
    estimate: float | None = None
    degree: float = 1
    cases: bool = False


def rational(value: Fraction) -> Facts:
    return Facts(value, float(value))


def facts_of(term: Term, args: list[Facts], rule: FunctionRule | None) -> Facts:
    """The facts of `term` from those of its arguments; `rule` is that of a called function, None for an undefined one.

    Raises FormulaError where a bound is passed or a constant is not a finite real number.
    """
    try:
        facts = _facts(term, args, rule)
    except (ValueError, ZeroDivisionError):
        raise term.error("this constant is not a real number") from None
    except OverflowError:
        raise term.error("this constant is too large") from None
    if facts.exact is not None and bits(facts.exact) > MAX_BITS:
        raise term.error(f"this number has more than {MAX_BITS} bits")
    if facts.estimate is not None and not math.isfinite(facts.estimate):
        raise term.error("this constant is not a finite real number")
    if facts.degree > MAX_DEGREE:
        raise term.error(f"powers of powers go beyond {MAX_DEGREE}")
    if term.name == WHERE or any(arg.cases for arg in args):
        if term.kind in COMPARE:  # sympy would fold and simplify it, which can take for ever
            raise term.error("a condition holds no where(...)", "put the cases into the branches")
        return facts._replace(cases=True)
    return facts


def _facts(term: Term, args: list[Facts], rule: FunctionRule | None) -> Facts:
    degree = max((arg.degree for arg in args), default=1)
    if term.kind == "number":
        assert term.value is not None
        return rational(term.value)
    if term.kind == "power":
        return _power(term, args[0], args[1])
    if term.kind == "call":
        return _call(term, args, rule, degree)
    if term.kind == "inverse" and args[0].estimate == 0:
        raise term.error("division by zero")
    if any(arg.estimate is None for arg in args):
        return Facts(degree=degree)
    if term.kind in COMPARE:
        first, second = (arg.estimate if arg.exact is None else arg.exact for arg in args)
        return rational(Fraction(COMPARE[term.kind](first, second)))
    exact = None
    if all(arg.exact is not None for arg in args):
        exact = _rational_value(term, [arg.exact for arg in args if arg.exact is not None])
    return Facts(exact, float(exact) if exact is not None else _float_value(term.kind, args), degree)


def _rational_value(term: Term, values: list[Fraction]) -> Fraction:
    if term.kind == "minus":
        return -values[0]
    if term.kind == "inverse":
        return 1 / values[0]
    total = Fraction(0) if term.kind == "sum" else Fraction(1)
    for value in values:
        total = total + value if term.kind == "sum" else total * value
        if bits(total) > MAX_BITS:
            raise term.error(f"this number has more than {MAX_BITS} bits")
    return total


def _float_value(kind: str, args: list[Facts]) -> float:
    values = [arg.estimate for arg in args if arg.estimate is not None]
    if kind == "minus":
        return -values[0]
    if kind == "inverse":
        return 1 / values[0]
    return math.fsum(values) if kind == "sum" else math.prod(values)


def _power(term: Term, base: Facts, exponent: Facts) -> Facts:
    if exponent.estimate is None:
        return Facts(degree=max(base.degree, exponent.degree))
    if abs(exponent.estimate) > MAX_EXPONENT:
        raise term.args[1].error(f"an exponent is at most {MAX_EXPONENT}", "use exp(...) for a fast growing function")
    if base.estimate is None:
        return Facts(degree=base.degree * max(1, math.ceil(abs(exponent.estimate))))
    if base.estimate == 0 and exponent.estimate < 0:
        raise term.error("division by zero")
    if base.estimate < 0 and (exponent.exact is None or exponent.exact.denominator != 1):
        raise term.error("a fractional power of a negative number is not real")
    if base.exact is not None and exponent.exact is not None and exponent.exact.denominator == 1:
        power = exponent.exact.numerator
        if (bits(base.exact) - 1) * abs(power) > MAX_BITS:
            raise term.error(f"this number has more than {MAX_BITS} bits")
        exact = base.exact**power
        return rational(exact)
    return Facts(None, float(base.estimate**exponent.estimate))


def _call(term: Term, args: list[Facts], rule: FunctionRule | None, degree: float) -> Facts:
    bound = rule.bound if rule is not None else 1e6
    for arg, inner in zip(args, term.args, strict=True):
        if arg.estimate is not None and abs(arg.estimate) > bound:
            raise inner.error(f"a constant argument of {term.name} is at most {bound:g}")
    if rule is None or any(arg.estimate is None for arg in args):
        return Facts(degree=degree)
    if rule.exact is not None and all(arg.exact is not None for arg in args):
        exact = rule.exact(*(arg.exact for arg in args))
        if exact is not None:
            return Facts(exact, float(exact), degree)
    return Facts(None, float(rule.number(*(arg.estimate for arg in args))), degree)
