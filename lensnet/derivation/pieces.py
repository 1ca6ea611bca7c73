"""A pointwise function cut at its kinks, with the parameters of its component left as symbols.

`lensnet.algebra.pieces` does the same for numbers; here numbers (the parameters' values) only decide which branch holds
between which kinks, and the branch itself keeps its symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import sympy as sp
from sympy.core.relational import Relational

from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.catalog.component import Component
from lensnet.catalog.functions import bound_function
from lensnet.derivation.errors import DeriveError
from lensnet.derivation.normal_average import Piece
from lensnet.derivation.normal_form import OutOfReach
from lensnet.derivation.slopes import derivative
from lensnet.expressions.symbolic import X, exact
from lensnet.language.formula import evaluate_number, parse_formula

_MOST_PIECES = 12
_LONGEST_FRACTION = 10**8


@dataclass(frozen=True)
class CutFunction:
    """f of a pointwise component: its formula, its pieces (None when there are too many), and f bound to numbers."""

    expression: sp.Expr
    pieces: tuple[Piece, ...] | None
    numeric: PointwiseFunction
    values: Mapping[str, float]
    """Parameter symbol -> number at which the branches were decided."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """Names given here to the long decimals of the formula."""

    def slope_pieces(self) -> list[Piece]:
        """f' almost everywhere."""
        return [Piece(p.low, p.high, derivative(p.expression, X)) for p in self.require()]

    def squared(self, pieces: list[Piece] | None = None) -> list[Piece]:
        return [Piece(p.low, p.high, p.expression**2) for p in (pieces or self.require())]

    def require(self) -> list[Piece]:
        """The pieces. Raises OutOfReach when there are too many to write down."""
        if self.pieces is None:
            raise OutOfReach
        return list(self.pieces)


def cut(component: Component, parameters: Mapping[str, float] | None = None, keep: bool = True) -> CutFunction:
    """The function of a pointwise component, cut at its kinks.

    parameters: values other than the defaults. keep: parameters stay symbols (else they become numbers). Raises
    DeriveError for a parameter without a value.
    """
    assert component.function is not None
    given = dict(parameters or {})
    values: dict[str, float] = {}
    for name, spec in component.parameters.items():
        value = given.pop(name, getattr(spec, "default", None))
        if value is None:
            raise DeriveError(f"{component.name} needs a value for `{name}`", f"--set {name}=1")
        values[name] = float(evaluate_number(value, values))
        if spec.symbol:
            values[spec.symbol] = float(value)
    if given:
        raise DeriveError(f"{component.name} has no parameter `{next(iter(given))}`", ", ".join(component.parameters))
    numeric = bound_function(component, values)
    expression = parse_formula(component.function, ["x", *values]) if keep else numeric.expression
    expression, constants = _named_decimals(expression)
    values |= constants
    pieces = _pieces(component, expression, numeric, values if keep else constants)
    return CutFunction(expression, pieces, numeric, values, constants)


def _named_decimals(expression: sp.Expr) -> tuple[sp.Expr, dict[str, float]]:
    """1.0507009873554805 as c_1: a formula with such numbers multiplied out cannot be read."""
    long = sorted((n for n in expression.atoms(sp.Rational) if n.q > _LONGEST_FRACTION), key=float)
    names = {number: sp.Symbol(f"c_{index}", positive=bool(number > 0)) for index, number in enumerate(long, 1)}
    return expression.xreplace(names), {name.name: float(number) for number, name in names.items()}


def cut_numeric(function: PointwiseFunction) -> CutFunction:
    """A function whose parameters are numbers already."""
    kinks = [(point, exact(point)) for point in function.kinks.points]
    return CutFunction(function.expression, _between(function.expression, kinks, {}, function), function, {})


def _pieces(
    component: Component, expression: sp.Expr, numeric: PointwiseFunction, values: Mapping[str, float]
) -> tuple[Piece, ...] | None:
    declared = {}
    for text in component.spec.kinks or ():
        symbolic = parse_formula(str(text), [*values]) if values else None
        if symbolic is not None and symbolic.free_symbols:
            declared[float(symbolic.xreplace(_point(symbolic, values)))] = symbolic
    kinks = [(point, declared.get(point, exact(point))) for point in numeric.kinks.points]
    return _between(expression, kinks, values, numeric)


def _between(
    expression: sp.Expr, kinks: list[tuple[float, sp.Expr]], values: Mapping[str, float], numeric: PointwiseFunction
) -> tuple[Piece, ...] | None:
    if not numeric.kinks.complete or len(kinks) >= _MOST_PIECES:
        return None
    if not kinks:
        return (Piece(-sp.oo, sp.oo, _branch(expression, {**values, X.name: 0.3})),)
    points = [point for point, _ in kinks]
    samples = [points[0] - 1.0, *(0.5 * (a + b) for a, b in pairwise(points)), points[-1] + 1.0]
    edges = [-sp.oo, *(symbol for _, symbol in kinks), sp.oo]
    found = [
        Piece(low, high, _branch(expression, {**values, X.name: sample}))
        for (low, high), sample in zip(pairwise(edges), samples, strict=True)
    ]
    merged = [found[0]]
    for piece in found[1:]:
        if piece.expression == merged[-1].expression:
            merged[-1] = Piece(merged[-1].low, piece.high, piece.expression)
        else:
            merged.append(piece)
    return tuple(merged)


def _branch(expression: sp.Basic, at: Mapping[str, float]) -> sp.Basic:
    """The smooth expression that equals the given one around the point `at`."""
    if not expression.has(sp.Abs, sp.sign, sp.Heaviside, sp.Max, sp.Min, sp.Piecewise):
        return expression
    if isinstance(expression, sp.Piecewise):
        branch = next((value for value, condition in expression.args if _holds(condition, at)), sp.nan)
        return _branch(branch, at)
    arguments = [_branch(argument, at) for argument in expression.args]
    if isinstance(expression, sp.Max | sp.Min):
        return (max if isinstance(expression, sp.Max) else min)(arguments, key=lambda a: _number(a, at))
    if isinstance(expression, sp.Abs):
        return arguments[0] if _number(arguments[0], at) >= 0 else -arguments[0]
    if isinstance(expression, sp.sign):
        return sp.Integer(1 if _number(arguments[0], at) > 0 else -1)
    if isinstance(expression, sp.Heaviside):
        return sp.Integer(int(_number(arguments[0], at) > 0))
    return expression.func(*arguments)


def _holds(condition: sp.Basic, at: Mapping[str, float]) -> bool:
    if condition in (sp.true, sp.false):
        return bool(condition)
    if isinstance(condition, Relational):
        gap = _number(_branch(condition.lhs - condition.rhs, at), at)
        return bool(condition.func(sp.Float(gap), sp.S.Zero))
    parts = [_holds(part, at) for part in condition.args]
    return all(parts) if isinstance(condition, sp.And) else any(parts)


def _number(expression: sp.Basic, at: Mapping[str, float]) -> float:
    return float(expression.xreplace(_point(expression, at)))


def _point(expression: sp.Basic, at: Mapping[str, float]) -> dict[sp.Basic, sp.Basic]:
    return {symbol: sp.Float(at[symbol.name]) for symbol in expression.free_symbols}
