"""The three averages of a pointwise function in closed form, and the check of each against quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp

from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quadrature import integrate
from lensnet.algebra.tape import TapeError, compile_tape
from lensnet.algebra.worker import AlgebraFailed, AlgebraTimeout, run
from lensnet.derivation.normal_average import MU, Averager, Normal, Piece, Rule, S
from lensnet.derivation.normal_form import OutOfReach, tidy
from lensnet.derivation.notation import EXPECTATION
from lensnet.derivation.pieces import CutFunction
from lensnet.derivation.slopes import derivative
from lensnet.expressions.symbolic import X, exact

Q = sp.Symbol("q", positive=True)
"""The second moment of a centred input: s**2."""
Z = sp.Symbol("z", real=True)
QUANTITIES = ("mean", "second_moment", "backward_second_moment")
MEAN_SLOPE = "mean_slope"
_ROWS = {"mean": 0, "second_moment": 1, MEAN_SLOPE: 2, "backward_second_moment": 3}
_SIZES = {"mean": 1, "second_moment": 1, MEAN_SLOPE: 3, "backward_second_moment": 3}
_MEANS, _STDS = (-1.5, -0.4, 0.0, 0.3, 1.2, 2.5), (0.2, 0.6, 1.0, 1.7)
_AGREES = 1e-9
_LONGEST_WRITTEN = 9
_SYMPY_LIMIT = 2.0


@dataclass(frozen=True)
class ClosedForm:
    """E f, E f**2 or E f'**2 as an expression in mu and s (or in q alone, when it holds for centred inputs only).

    rules: the identities it rests on; empty when sympy integrated it. worst: largest relative difference from
    quadrature over `points` pairs (mu, s).
    """

    expression: sp.Expr
    centred: sp.Expr
    general: bool
    rules: tuple[Rule, ...]
    worst: float
    points: int


def integrand_pieces(cut: CutFunction, quantity: str) -> list[Piece]:
    """f, f**2 or f'**2 by pieces. Raises OutOfReach."""
    if quantity == "mean":
        return cut.require()
    if quantity == MEAN_SLOPE:
        return cut.slope_pieces()
    return cut.squared(None if quantity == "second_moment" else cut.slope_pieces())


def unevaluated(function: PointwiseFunction, quantity: str, mean: sp.Expr = MU, std: sp.Expr = S) -> sp.Expr:
    """The average as `E[...]` over z ~ N(0, 1), for showing; a long function goes by its name."""
    slope = quantity in ("backward_second_moment", MEAN_SLOPE)
    inside = derivative(function.expression, X) if slope else function.expression
    if inside.count_ops() > _LONGEST_WRITTEN and function.name.replace("_", "").isalnum():
        inside = sp.Function(f"{function.name}'" if slope else function.name, real=True)(X)
    inside = inside.xreplace({X: mean + std * Z})
    return EXPECTATION(inside**2 if quantity.endswith("second_moment") else inside)


def closed_form(cut: CutFunction, quantity: str, centred: bool = False) -> ClosedForm | None:
    """The average in closed form, or None where none is found; worked out once per function.

    centred: only the form for mu = 0 is needed.
    """
    key = ("symbolic", quantity, cut.expression, centred)
    if key not in cut.numeric.tables:
        cut.numeric.tables[key] = _closed_form(cut, quantity, centred)
    form: ClosedForm | None = cut.numeric.tables[key]
    return form


def _closed_form(cut: CutFunction, quantity: str, centred_only: bool) -> ClosedForm | None:
    """Derived by rule, else by sympy's own integration. A form that quadrature does not confirm is not returned."""
    try:
        pieces = integrand_pieces(cut, quantity)
    except OutOfReach:
        return None
    try:
        averager = Averager(Normal(sp.S.Zero, Q))
        centred = averager.of(pieces)
        expression, general = centred.subs(Q, S**2), False
        if not centred_only:
            averager = Averager()
            expression, general = averager.of(pieces), True
        rules = tuple(averager.rules)
    except OutOfReach:
        found = _integrated(tuple(pieces))
        if found is None:
            return None
        expression, centred, rules, general = found.subs(Q, S**2), found, (), False
    worst, points = difference(cut, quantity, expression, general)
    checked, _ = difference(cut, quantity, centred.subs(Q, S**2), general=False)
    if not max(worst, checked) < _AGREES:
        return None
    return ClosedForm(expression, centred, general, rules, worst, points)


def difference(cut: CutFunction, quantity: str, expression: sp.Expr, general: bool = True) -> tuple[float, int]:
    """Largest relative difference of a closed form from quadrature split at the kinks, and the number of points."""
    pairs = [(mean, std) for mean in (_MEANS if general else (0.0,)) for std in _STDS]
    mean, std = np.array(pairs).T
    averages = integrate(cut.numeric, mean, std)[0]
    truth, size = averages[_ROWS[quantity]], averages[_SIZES[quantity]]
    try:
        value = compile_tape(expression)({**cut.values, MU.name: mean, S.name: std})
    except TapeError:
        return float("nan"), len(pairs)
    # a mean of 0 is judged by the root mean square
    size = size if quantity.endswith("second_moment") else np.sqrt(size)
    scale = np.maximum(np.abs(truth), 1e-3 * size + 1e-300)
    return float(np.max(np.abs(value - truth) / scale)), len(pairs)


@cache
def _integrated(pieces: tuple[Piece, ...]) -> sp.Expr | None:
    """sympy's integral over x ~ N(0, q), in the killable worker; only of algebraic functions, others are hopeless."""
    if any(piece.expression.atoms(sp.Function) for piece in pieces):
        return None
    x = sp.Symbol("x", real=True)
    density = sp.exp(-(x**2) / (2 * Q)) / sp.sqrt(2 * sp.pi * Q)
    total = sp.S.Zero
    try:
        for piece in pieces:
            inside = piece.expression.xreplace({X: x}) * density
            total += run("integrate", inside, x, piece.low, piece.high, limit=_SYMPY_LIMIT)
    except (AlgebraTimeout, AlgebraFailed):
        return None
    if total.has(sp.Integral, sp.oo, sp.zoo, sp.nan, sp.I) or x in total.free_symbols:
        return None
    return tidy(total)


def middle(function: PointwiseFunction) -> sp.Expr | None:
    """c where f(x) + f(-x) = 2*c at every x of a grid: by symmetry the mean over centred inputs. Else None."""
    x = np.concatenate([np.linspace(0.01, 8.0, 400), [20.0, 50.0]])
    total = function(-x) + function(x)
    if not np.allclose(total, total[0], rtol=1e-12, atol=1e-12):
        return None
    return exact(float(f"{total[0] / 2:.12g}"))
