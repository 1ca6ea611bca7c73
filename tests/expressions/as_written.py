"""What a formula's text says, computed term by term with mpmath and nothing simplified: the reference of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mpmath
import numpy as np

from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.language.formula_tree import Term

COMPARED = {"<": mpmath.mpf.__lt__, "<=": mpmath.mpf.__le__, ">": mpmath.mpf.__gt__, ">=": mpmath.mpf.__ge__}
FUNCTIONS: dict[str, Callable[..., mpmath.mpf]] = {
    **{
        name: getattr(mpmath, name)
        for name in (
            "exp log sin cos tan asin acos atan sinh cosh tanh erf erfc sqrt gamma loggamma atan2 sign min max".split()
        )
        if hasattr(mpmath, name)
    },
    "abs": abs,
    "min": min,
    "max": max,
    "clip": lambda x, low, high: min(max(x, low), high),
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "step": lambda x: mpmath.mpf(x > 0),
    "Heaviside": lambda x: (1 + mpmath.sign(x)) / 2,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "phi": lambda x: mpmath.exp(-(x**2) / 2) / mpmath.sqrt(2 * mpmath.pi),
    "Phi": lambda x: (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2,
}


def stand_in(*args: float) -> float:
    """For an operator over positions, whose value the caller of a formula knows."""
    return 0.4 + 0.3 * sum(args) / len(args)


def value_of(term: Term, values: Mapping[str, mpmath.mpf]) -> mpmath.mpf:
    """What the text says, computed as it stands."""
    if term.kind == "number":
        assert term.value is not None
        return mpmath.mpf(term.value.numerator) / term.value.denominator
    if term.kind == "symbol":
        return values[term.name] if term.name in values else mpmath.pi + 0
    if term.kind == "call" and term.name == "where":
        condition, yes, no = term.args
        left, right = (value_of(side, values) for side in condition.args)
        return value_of(yes if COMPARED[condition.kind](left, right) else no, values)
    args = [value_of(arg, values) for arg in term.args]
    if term.kind == "call":
        if any(isinstance(arg, mpmath.mpc) for arg in args):
            return mpmath.nan  # functions are those of real numbers
        if term.name in FUNCTIONS:
            return FUNCTIONS[term.name](*args)
        if term.name in SPECIAL_FUNCTIONS:
            return mpmath.mpf(float(SPECIAL_FUNCTIONS[term.name].numpy(*(np.float64(float(arg)) for arg in args))))
        return mpmath.mpf(stand_in(*map(float, args)))
    if term.kind == "minus":
        return -args[0]
    if term.kind == "inverse":
        return 1 / args[0]
    if term.kind == "power":
        return args[0] ** args[1]
    return mpmath.fsum(args) if term.kind == "sum" else mpmath.fprod(args)
