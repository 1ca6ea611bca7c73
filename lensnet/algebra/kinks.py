"""Kinks and jumps of a function of one variable: the points at which an integral over it must be split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.constants import number
from lensnet.algebra.tape import Formula, Tape, TapeError, compile_tape, tree_of
from lensnet.expressions.functions import Condition, Extremum, Step, apply
from lensnet.expressions.traverse import parts, polynomial
from lensnet.expressions.tree import PI, Expr, Function, Number, Power, product_of

Array = NDArray[np.float64]

SPAN = 512.0
"""Kinks that have to be searched numerically are searched in [-SPAN, SPAN]."""
_SCAN_STEP = 1.0 / 64.0
_MERGE = 1e-12
_LARGEST_DEGREE = 12
_ENDLESS = 16


@dataclass(frozen=True)
class Kinks:
    """Where a function jumps, bends, or is singular in a higher derivative.

    Attributes:
        points: ascending positions.
        complete: False when the search reached the end of [-span, span] and more kinks are likely beyond
            (abs(sin(x)) has one at every multiple of pi).
        span: the range searched.
    """

    points: tuple[float, ...]
    complete: bool = True
    span: float = SPAN

    def merged(self, other: Kinks) -> Kinks:
        """The kinks of a function made from two others of the same variable."""
        return Kinks(_merged([*self.points, *other.points]), self.complete and other.complete, self.span)


def find_kinks(formula: Formula, symbol: str = "x", declared: Iterable[float] = ()) -> Kinks:
    """Kinks of an expression in one symbol, and those that were declared.

    Sources: zeros of the arguments of abs, sign and step; where arguments of max and min are equal; the edges of
    conditions; zeros under roots and logarithms. Arguments affine or polynomial in the symbol are solved; others are
    scanned for changes of sign on a grid over [-512, 512] and refined to rounding.

    Raises:
        TapeError: the expression has another symbol besides `symbol`.
    """
    expression = tree_of(formula)
    others = sorted(expression.symbols - {symbol})
    if others:
        raise TapeError(f"kinks are those of a function of {symbol} alone; {', '.join(others)} has no value")
    points = [float(point) for point in declared]
    complete = True
    for argument in dict.fromkeys(_switches(expression)):
        found, all_found = zeros(argument, symbol)
        points.extend(found)
        complete = complete and all_found
    return Kinks(_merged(points), complete)


def zeros(expression: Expr, symbol: str = "x") -> tuple[list[float], bool]:
    """Points where the expression changes sign, and whether these are all (as far as the search range tells)."""
    if symbol not in expression.symbols:
        return [], True
    coefficients = polynomial(expression, symbol, _LARGEST_DEGREE)
    if coefficients is None:
        return scan_zeros(compile_tape(expression), symbol)
    if len(coefficients) == 2:
        offset, slope = coefficients
        if isinstance(offset, Number) and isinstance(slope, Number) and offset.is_exact and slope.is_exact:
            return [number(-product_of(offset.value, 1 / slope.value))], True
        return [-number(offset) / number(slope)], True
    return _polynomial_zeros([number(c) for c in reversed(coefficients)]), True


def scan_zeros(tape: Tape, symbol: str = "x") -> tuple[list[float], bool]:
    """Sign changes of a compiled function over [-SPAN, SPAN], on a grid of 1/64 (finer at 0), bisected to rounding."""
    near = np.geomspace(1e-9, _SCAN_STEP, 60)
    grid = np.unique(np.concatenate([np.arange(-SPAN, SPAN + _SCAN_STEP, _SCAN_STEP), near, -near]))

    def signs(x: Array) -> Array:
        return np.nan_to_num(np.sign(np.broadcast_to(tape({symbol: x}), x.shape)))

    values = signs(grid)
    touching = (values[1:-1] == 0) & ((values[:-2] != 0) | (values[2:] != 0))
    change = np.flatnonzero(values[:-1] * values[1:] < 0)
    low, high, low_sign = grid[change], grid[change + 1], values[change]
    for _ in range(70):
        middle = 0.5 * (low + high)
        same = signs(middle) == low_sign
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    points = sorted([*map(float, grid[1:-1][touching]), *map(float, 0.5 * (low + high))])
    endless = len(points) > _ENDLESS and max(abs(points[0]), abs(points[-1])) > 0.9 * SPAN
    return points, not endless


def _switches(expression: Expr) -> Iterator[Expr]:
    """The expressions at whose zeros the expression may be singular."""
    for node in parts(expression):
        if isinstance(node, Step) or isinstance(node, Function) and node.name in ("abs", "sign", "log"):
            yield node.args[0]
        elif isinstance(node, Extremum):
            yield from (first - second for first, second in combinations(node.args, 2))
        elif isinstance(node, Condition) and len(node.args) == 2 and node.name not in ("and", "or"):
            yield node.args[0] - node.args[1]
        elif isinstance(node, Function) and node.name in ("floor", "ceiling"):
            yield apply("sin", PI * node.args[0])
        elif isinstance(node, Power):
            exponent = node.args[1]
            if not (isinstance(exponent, Number) and exponent.is_integer and exponent.value > 0):
                yield node.args[0]


def _polynomial_zeros(coefficients: list[float]) -> list[float]:
    roots = np.roots(coefficients)
    scale = np.maximum(1.0, np.abs(roots))
    real = roots[np.abs(roots.imag) < 1e-7 * scale].real
    slope = np.polyder(coefficients)
    for _ in range(2):  # np.roots leaves a few digits; a double root has no slope and stays
        rise = np.polyval(slope, real)
        step = np.divide(np.polyval(coefficients, real), rise, out=np.zeros_like(real), where=np.abs(rise) > 1e-6)
        real = real - np.where(np.abs(step) < 1e-3, step, 0.0)
    return [float(root) for root in real]


def _merged(points: Iterable[float]) -> tuple[float, ...]:
    kept: list[float] = []
    for point in sorted(point + 0.0 for point in points if np.isfinite(point)):
        if not kept or point - kept[-1] > _MERGE * max(1.0, abs(point)):
            kept.append(point)
    return tuple(kept)
