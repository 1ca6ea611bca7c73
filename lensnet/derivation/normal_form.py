"""Expressions about a normal variable, written so that the rules of `normal_average`, and then people, can read them.

`normal_cdf`, `normal_pdf`, `owens_t` are the engine's special functions; they print as Phi, phi and T.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp
from sympy.simplify.fu import TR8

from lensnet.expressions.symbolic import X

NORMAL_CDF = sp.Function("normal_cdf", real=True)
NORMAL_PDF = sp.Function("normal_pdf", real=True)
OWENS_T = sp.Function("owens_t", real=True)


class OutOfReach(Exception):
    """No rule of `normal_average` applies to this expression."""


def normal_form(expression: sp.Expr) -> sp.Expr:
    """A sum of products that `_Factors` can read, as far as the expression allows."""
    out = expression.replace(sp.erf, lambda u: 2 * NORMAL_CDF(sp.sqrt(2) * u) - 1)
    out = out.replace(sp.erfc, lambda u: 2 * NORMAL_CDF(-sp.sqrt(2) * u))
    out = out.rewrite([sp.sinh, sp.cosh], sp.exp) if out.has(sp.sinh, sp.cosh) else out
    out = sp.expand(out, power_exp=False, power_base=False)
    if out.has(sp.sin, sp.cos):
        out = sp.expand(TR8(out), power_exp=False, trig=False)
    return out


def tidy(expression: sp.Expr) -> sp.Expr:
    """The same value, collected by the special functions in it; known values at 0 put in."""
    out = expression.replace(NORMAL_CDF, _cdf).replace(NORMAL_PDF, _pdf).replace(OWENS_T, _owen)
    parts = [part for part in out.atoms(sp.Function, sp.Pow) if _stays_whole(part)]
    out = _with_names(out, parts, sp.expand)
    out = sp.Add(*(_one_exponential(term) for term in sp.Add.make_args(out)))
    special = sorted((part for part in out.atoms(sp.Function) if _is_special(part)), key=_order)
    return _with_names(out, special, _collected)


def _with_names(expression: sp.Expr, parts: list[sp.Expr], work: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    """`work` done on the expression with each part behind a name, so that it stays as it is."""
    names = {part: sp.Dummy(f"part{index}", positive=True) for index, part in enumerate(parts)}
    return work(expression.xreplace(names)).xreplace({name: part for part, name in names.items()})


def _collected(expression: sp.Expr) -> sp.Expr:
    names = sorted(expression.atoms(sp.Dummy), key=lambda name: int(name.name.removeprefix("part")))
    if not names:
        return sp.factor_terms(expression)
    groups = sp.collect(expression, names, evaluate=False)
    return sp.Add(*(key * _shortened(value) for key, value in groups.items()))


def _shortened(coefficient: sp.Expr) -> sp.Expr:
    return sp.factor_terms(coefficient) if sp.denom(coefficient).is_number else sp.factor(coefficient)


def _is_special(part: sp.Expr) -> bool:
    return isinstance(part, sp.exp) or part.func in (NORMAL_CDF, NORMAL_PDF, OWENS_T)


def _stays_whole(part: sp.Expr) -> bool:
    """Special functions, and what stands under a root or a fraction bar."""
    if isinstance(part, sp.Pow):
        return bool(part.base.is_Add and not (part.exp.is_Integer and part.exp.is_positive))
    return _is_special(part)


def root(expression: sp.Expr) -> sp.Expr:
    """The square root of a positive rational expression, as one root over another."""
    above, below = sp.fraction(sp.cancel(expression))
    return sp.sqrt(sp.factor(above)) / sp.sqrt(sp.factor(below))


def _one_exponential(term: sp.Expr) -> sp.Expr:
    """exp(a)*exp(b) as exp(a + b), the exponent reduced."""
    inside = [factor.args[0] for factor in sp.Mul.make_args(term) if isinstance(factor, sp.exp)]
    if not inside:
        return term
    rest = [factor for factor in sp.Mul.make_args(term) if not isinstance(factor, sp.exp)]
    return sp.Mul(*rest, sp.exp(sp.factor(sp.Add(*inside))))


def _order(expression: sp.Expr) -> tuple[int, str]:
    kinds = [NORMAL_CDF, OWENS_T, NORMAL_PDF]
    return (kinds.index(expression.func) if expression.func in kinds else len(kinds), str(expression))


def _cdf(argument: sp.Expr) -> sp.Expr:
    if argument == 0:
        return sp.S.Half
    argument = sp.factor(argument)
    return 1 - NORMAL_CDF(-argument) if argument.could_extract_minus_sign() else NORMAL_CDF(argument)


def _pdf(argument: sp.Expr) -> sp.Expr:
    if argument == 0:
        return 1 / sp.sqrt(2 * sp.pi)
    argument = sp.factor(argument)
    return NORMAL_PDF(-argument if argument.could_extract_minus_sign() else argument)


def _owen(height: sp.Expr, slope: sp.Expr) -> sp.Expr:
    if height == 0:
        return sp.atan(slope) / (2 * sp.pi)
    height = sp.factor(height)
    return OWENS_T(-height if height.could_extract_minus_sign() else height, slope)


def line(expression: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """(a, b) of a*x + b. Raises OutOfReach for anything else."""
    polynomial = polynomial_in_x(expression, 1)
    return polynomial.coeff(X, 1), polynomial.coeff(X, 0)


def polynomial_in_x(expression: sp.Expr, degree: int) -> sp.Expr:
    """The expression multiplied out. Raises OutOfReach when it is no polynomial of at most this degree."""
    expanded = sp.expand(expression)
    if not expanded.is_polynomial(X) or sp.degree(expanded, X) > degree:
        raise OutOfReach
    return expanded
