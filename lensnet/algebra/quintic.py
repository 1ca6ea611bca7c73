"""Interpolating splines of degree 5 at evenly spaced knots, of one variable and of two: a polynomial for every cell.

scipy makes them. They are evaluated here since numpy lets other threads run meanwhile, which scipy's splines do not,
and since a search along one variable needs the powers of the other only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.intp]

DEGREE = 5


class Quintic:
    """A curve through values at knots."""

    def __init__(self, knots: Array, values: Array) -> None:
        self._axis, self._terms = _Axis.of(knots), _polynomials(knots, values)

    def __call__(self, x: Array) -> Array:
        cell, share = self._axis.place(x)
        return _value([term.take(cell) for term in self._terms], share)

    def slope(self, x: Array) -> Array:
        cell, share = self._axis.place(x)
        return _slope([term.take(cell) for term in self._terms], share) / self._axis.step


class QuinticSurface:
    """A surface through values at all pairs of knots, `(len(x), len(y))`."""

    def __init__(self, x: Array, y: Array, values: Array) -> None:
        self._along, self._across = _Axis.of(x), _Axis.of(y)
        terms = _polynomials(y, np.moveaxis(_polynomials(x, values), -1, 0))  # power and cell of y, then those of x
        self._terms = np.ascontiguousarray(terms.transpose(0, 2, 3, 1)).reshape(DEGREE + 1, DEGREE + 1, -1)

    def section(self, x: Array, y: Array) -> Section:
        """The polynomials in y at every x, in the cells where the points (x, y) lie."""
        row, share = self._along.place(x)
        column, _ = self._across.place(y)
        cell = row * self._across.cells + column
        terms = [_value([term.take(cell) for term in power], share) for power in self._terms]
        return Section(self._across, column, terms)

    def __call__(self, x: Array, y: Array) -> Array:
        return self.section(x, y).value(y)


@dataclass(frozen=True)
class Section:
    """For every point one polynomial in y, which holds in a cell."""

    axis: _Axis
    cell: Places
    terms: list[Array]

    def value(self, y: Array) -> Array:
        return _value(self.terms, self.axis.share(y, self.cell))

    def slope(self, y: Array) -> Array:
        return _slope(self.terms, self.axis.share(y, self.cell)) / self.axis.step

    def holds(self, y: Array) -> NDArray[np.bool_]:
        """Whether y lies in the cell, or so little beyond it that the next polynomial is the same to rounding."""
        share = self.axis.share(y, self.cell)
        return np.asarray((share > -_BEYOND) & (share < 1.0 + _BEYOND))


_BEYOND = 1e-3
"""Neighbouring polynomials differ in the fifth power alone."""


@dataclass(frozen=True)
class _Axis:
    low: float
    step: float
    cells: int

    @classmethod
    def of(cls, knots: Array) -> _Axis:
        return cls(float(knots[0]), float(knots[-1] - knots[0]) / (knots.size - 1), knots.size - 1)

    def place(self, x: Array) -> tuple[Places, Array]:
        """The cell of every x, the nearest one for those outside, and how far into it they are, in cells."""
        far = (np.asarray(x, dtype=np.float64) - self.low) / self.step
        cell = np.clip(np.nan_to_num(far), 0, self.cells - 1).astype(np.intp)
        return cell, far - cell

    def share(self, x: Array, cell: Places) -> Array:
        return (x - self.low) / self.step - cell


def _polynomials(knots: Array, values: Array) -> Array:
    """Coefficients between every two knots, along the first axis of `values`: `(6, len(knots) - 1, ...)`, by share."""
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(knots, values, k=DEGREE)
    step = float(knots[-1] - knots[0]) / (knots.size - 1)
    at = [knots[:-1]] * DEGREE + [0.5 * (knots[1:] + knots[:-1])]  # the last derivative jumps at the knots
    return np.stack([spline(x, order) * step**order / factorial(order) for order, x in enumerate(at)])


def _value(terms: list[Array], share: Array) -> Array:
    """Horner's rule."""
    value = terms[-1] * share
    for term in reversed(terms[1:-1]):
        value += term
        value *= share
    value += terms[0]
    return value


def _slope(terms: list[Array], share: Array) -> Array:
    value = DEGREE * terms[-1]
    for order in range(DEGREE - 1, 0, -1):
        value *= share
        value += order * terms[order]
    return value
