"""One pointwise function: an activation, with everything that the derivations ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.kinks import Kinks, find_kinks, scan_zeros
from lensnet.algebra.pieces import Coefficients, polynomial_pieces
from lensnet.algebra.singularities import growth
from lensnet.algebra.tape import Formula, TapeError, compile_tape, formula_latex, tree_of
from lensnet.expressions.traverse import substituted
from lensnet.expressions.tree import Expr, Number, Symbol

if TYPE_CHECKING:
    import sympy
    from torch import Tensor

Array = NDArray[np.float64]
X = Symbol("x")
"""The variable of every pointwise function."""


class PointwiseFunction:
    """A function of one real variable, applied to every element. Made by `pointwise`, `compose`, `product`, `total`.

    Attributes:
        name: for messages.
        tree: the formula in `X`, all parameters bound to numbers.
        kinks: where it jumps or bends.
        value, slope: compiled tapes of f(x) and of f'(x) almost everywhere (symbol "x").
    """

    def __init__(self, name: str, tree: Expr, kinks: Kinks) -> None:
        self.name = name
        self.tree = tree
        self.kinks = kinks
        self.value = compile_tape(tree)
        self.slope = self.value.derivative("x")
        self.tables: dict[Any, Any] = {}
        """Interpolation tables of its expectations, filled by `table.py`."""

    def __call__(self, x: Any) -> Array:
        """f(x) for numbers or a float64 array of any shape."""
        return self._evaluate(self.value, x)

    def derivative(self, x: Any) -> Array:
        """f'(x) almost everywhere; at a kink the mean of both sides where the formula is a max or min."""
        return self._evaluate(self.slope, x)

    def torch(self, x: Tensor) -> Tensor:
        """f(x) of a torch tensor, elementwise; differentiable, works under vmap. Imports torch on first use."""
        result = self.value.torch({"x": x}) if self.value.symbols else self.value.torch({})
        return result if result.shape == x.shape else (result.to(x) + 0 * x)

    @staticmethod
    def _evaluate(tape: Any, x: Any) -> Array:
        values = np.asarray(x, dtype=np.float64)
        result = np.asarray(tape({"x": values}), dtype=np.float64)
        return result if result.shape == values.shape else np.broadcast_to(result, values.shape).copy()

    @cached_property
    def expression(self) -> sympy.Expr:
        """The formula for sympy, in `lensnet.expressions.symbolic.X`."""
        from lensnet.expressions.symbolic import to_sympy

        return to_sympy(self.tree)

    @cached_property
    def pieces(self) -> tuple[tuple[float, ...], tuple[Coefficients, ...]] | None:
        """Break points and polynomials when the function is piecewise polynomial, else None."""
        return polynomial_pieces(self.tree, X.name, self.kinks)

    @cached_property
    def is_affine(self) -> bool:
        """f(x) = a*x + b."""
        return self.pieces is not None and not self.pieces[0] and len(self.pieces[1][0]) <= 2

    @cached_property
    def homogeneity(self) -> int | None:
        """The degree d with f(c*x) = c**d f(x) for every c > 0, or None: 1 for relu and abs, 0 for step, 2 for x**2."""
        if self.pieces is None or any(point != 0.0 for point in self.pieces[0]):
            return None
        degrees = {
            degree
            for polynomial in self.pieces[1]
            for degree, coefficient in enumerate(polynomial)
            if coefficient != 0.0
        }
        return degrees.pop() if len(degrees) == 1 else None

    @cached_property
    def jumps(self) -> tuple[tuple[float, float], ...]:
        """(position, height) of every kink at which the value itself jumps: height = f(k+) - f(k-)."""
        points = np.array(self.kinks.points)
        if not points.size:
            return ()
        # as close as the position is known; what shrinks with the distance is no jump (4x for a slope, 2x for a root)
        offset = np.where(points == 0.0, 1e-60, 64.0 * np.spacing(np.abs(points)))
        with np.errstate(all="ignore"):
            right, left = self(points + offset), self(points - offset)
            height = right - left
            wider = np.abs(self(points + 4.0 * offset) - self(points - 4.0 * offset))
            jumps = (np.abs(height) > 1e-9 * (np.abs(right) + np.abs(left))) & (np.abs(height) > 0.75 * wider)
            # nor is what a slope makes of a position that is rounded itself
            bend = offset * (np.abs(self.derivative(points + offset)) + np.abs(self.derivative(points - offset)))
            jumps &= np.isfinite(height) & (np.abs(height) > np.maximum(1e-20, bend))
        return tuple((float(point), float(h)) for point, h in zip(points[jumps], height[jumps], strict=True))

    @cached_property
    def growths(self) -> tuple[tuple[float, float, float], ...]:
        """(kink, exponent of f, exponent of f') of every kink towards which one of them grows without bound."""
        found = ((k, growth(self, k), growth(self.derivative, k)) for k in self.kinks.points)
        return tuple((k, value, slope) for k, value, slope in found if value > 0.01 or slope > 0.01)

    def to_latex(self) -> str:
        return formula_latex(self.tree)

    def __repr__(self) -> str:
        return f"PointwiseFunction({self.name}: {self.tree})"


def pointwise(
    expression: Formula,
    *,
    name: str = "",
    symbol: str = "x",
    parameters: Mapping[str, float] | None = None,
    kinks: Iterable[float] = (),
) -> PointwiseFunction:
    """The pointwise function of a formula. Equal requests return the same object (with its tables).

    Args:
        expression: in `symbol` and the parameters.
        parameters: numbers for the other symbols, by name.
        kinks: further kinks, besides those found in the formula.

    Raises:
        TapeError: a symbol has no value, or the formula cannot be compiled.
    """
    return _pointwise(
        name or str(expression),
        bind(expression, parameters or {}, symbol),
        tuple(sorted(float(kink) for kink in kinks)),
    )


@lru_cache(maxsize=1024)
def compose(outer: PointwiseFunction, inner: PointwiseFunction) -> PointwiseFunction:
    """x -> outer(inner(x)); its kinks are those of `inner` and where `inner` meets a kink of `outer`."""
    tree = substituted(outer.tree, {X.name: inner.tree})
    points, complete = list(inner.kinks.points), outer.kinks.complete and inner.kinks.complete
    for kink in outer.kinks.points:
        found, all_found = scan_zeros(compile_tape(inner.tree - Number(kink)))
        points.extend(found)
        complete = complete and all_found
    return _combined(f"{outer.name} of {inner.name}", tree, points, complete)


@lru_cache(maxsize=1024)
def product(first: PointwiseFunction, second: PointwiseFunction) -> PointwiseFunction:
    """x -> first(x)*second(x): the integrand of the cross moment of two branches that meet."""
    kinks = first.kinks.merged(second.kinks)
    return _combined(f"{first.name} * {second.name}", first.tree * second.tree, kinks.points, kinks.complete)


@lru_cache(maxsize=1024)
def total(first: PointwiseFunction, second: PointwiseFunction) -> PointwiseFunction:
    """x -> first(x) + second(x)."""
    kinks = first.kinks.merged(second.kinks)
    return _combined(f"{first.name} + {second.name}", first.tree + second.tree, kinks.points, kinks.complete)


def bind(formula: Formula, parameters: Mapping[str, float], symbol: str = "x") -> Expr:
    """The tree with numbers in place of its parameters and `X` in place of its variable.

    Raises:
        TapeError: a symbol has no value, or a value is not finite.
    """
    tree = tree_of(formula)
    values: dict[str, Expr] = {}
    for name in sorted(tree.symbols):
        if name == symbol:
            values[name] = X
        elif name in parameters:
            values[name] = exact(parameters[name])
        else:
            raise TapeError(f"{name} in {tree} has no value")
    return substituted(tree, values)


def exact(value: float) -> Number:
    """The rational of a number's shortest decimal form (0.1 is 1/10), as the formula parser reads decimals.

    Raises:
        TapeError: the value is not finite.
    """
    if not np.isfinite(value):
        raise TapeError(f"a parameter must be finite, not {value}")
    return Number(int(value)) if float(value).is_integer() else Number(Fraction(repr(float(value))))


def _combined(name: str, tree: Expr, points: Iterable[float], complete: bool) -> PointwiseFunction:
    function = _pointwise(name, tree, tuple(points))
    if not complete and function.kinks.complete:
        return PointwiseFunction(name, tree, Kinks(function.kinks.points, False))
    return function


@lru_cache(maxsize=1024)
def _pointwise(name: str, tree: Expr, declared: tuple[float, ...]) -> PointwiseFunction:
    return PointwiseFunction(name, tree, find_kinks(tree, "x", declared))
