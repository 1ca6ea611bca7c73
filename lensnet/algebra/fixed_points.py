"""Fixed points of a second-moment map, and equations solved for a parameter.

fixed_points(lambda q: 2.35 * gelu_second_moment(q))       # numeric: where they are, slopes, stability
solve_for(sp.Eq(g**2 * q / 2, q), g)                       # symbolic: [sqrt(2)], the He gain of a relu stack
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from lensnet.algebra.worker import LIMIT, run

Array = NDArray[np.float64]
Map = Callable[[Array], Array]

_PER_DECADE = 24
_NEUTRAL = 1e-6
_FLAT = 1e-9
_ROUNDING = 1e-13
_RUN = 4


@dataclass(frozen=True)
class FixedPoint:
    """A point with F(q) = q.

    Attributes:
        q: where.
        slope: dF/dq there. Below 1 in size, an error shrinks by that factor per application; above, it grows.
        stability: "stable", "unstable", or "neutral" (slope 1 to rounding: the map touches the diagonal, or crosses it
            without a slope of its own).
    """

    q: float
    slope: float
    stability: str


@dataclass(frozen=True)
class FixedPoints:
    """All fixed points that were found in a range.

    Attributes:
        points: isolated ones at q > 0, ascending.
        intervals: stretches on which F(q) = q throughout: the whole range for a relu stack at gain sqrt(2).
        at_zero: the fixed point 0, if F(q) tends to 0 with q.
        low, high: the range searched.
    """

    points: tuple[FixedPoint, ...]
    intervals: tuple[tuple[float, float], ...]
    at_zero: FixedPoint | None
    low: float
    high: float

    @property
    def every(self) -> bool:
        """F(q) = q on the whole range."""
        return self.intervals == ((self.low, self.high),)


def fixed_points(map_: Map, low: float = 1e-12, high: float = 1e12) -> FixedPoints:
    """Fixed points of q -> map_(q) on [low, high], bracketed on a grid of 24 points per decade and bisected.

    Two crossings within one grid cell are missed; a point where the map only touches the diagonal is found.

    Args:
        map_: F, elementwise on a float64 array of positive q.

    Raises:
        ValueError: the range is empty or not positive.
    """
    if not 0 < low < high:
        raise ValueError(f"fixed points are searched on 0 < low < high, not on {low} to {high}")
    grid = np.geomspace(low, high, max(3, round(_PER_DECADE * np.log10(high / low)) + 1))
    gap = _log_gain(map_, grid)
    on_diagonal = np.abs(gap) < _ROUNDING
    intervals = _runs(grid, on_diagonal)
    side = np.where(on_diagonal | ~np.isfinite(gap), 0.0, np.sign(gap))
    crossing = np.flatnonzero(side[:-1] * side[1:] < 0)
    roots = _bisected(map_, grid[crossing], grid[crossing + 1], gap[crossing]) if crossing.size else []
    roots += _touching(map_, grid, gap)
    roots += [float(q) for q in grid[on_diagonal] if not any(low <= q <= high for low, high in intervals)]
    points = [_classified(map_, root) for root in _distinct(roots)]
    return FixedPoints(tuple(points), intervals, _at_zero(map_, low), low, high)


def solve_for(equation: sp.Expr, symbol: sp.Symbol, *, positive: bool = True, limit: float = LIMIT) -> list[sp.Expr]:
    """Real solutions of an equation (or of expression = 0) for one symbol, in a worker that is killed at `limit`.

    Args:
        positive: take the symbol, and all others, as positive numbers (gains, moments, widths); negative solutions then
            disappear. Otherwise as real.
        limit: seconds.

    Raises:
        AlgebraTimeout, AlgebraFailed: see `worker.run`. An empty list means that sympy found no solution.
    """
    assumption = {"positive": True} if positive else {"real": True}
    stand_ins = {free: sp.Symbol(free.name, **assumption) for free in equation.free_symbols | {symbol}}
    back = {stand_in: free for free, stand_in in stand_ins.items()}
    solutions = run("solve", equation.xreplace(stand_ins), stand_ins[symbol], limit=limit)
    real = [solution for solution in solutions if isinstance(solution, sp.Expr) and not solution.has(sp.I)]
    return [solution.xreplace(back) for solution in real]


def _log_gain(map_: Map, q: Array) -> Array:
    """log(F(q)/q): 0 at a fixed point; nan where the map is not positive."""
    with np.errstate(all="ignore"):
        value = np.broadcast_to(np.asarray(map_(q), dtype=np.float64), q.shape)
        return np.where(value > 0, np.log(value / q), np.where(value == 0, -np.inf, np.nan))


def _runs(grid: Array, on_diagonal: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Stretches of at least four grid points in a row that lie on the diagonal."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on_diagonal, [False]]).astype(int)))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((float(grid[start]), float(grid[stop - 1])) for start, stop in pairs if stop - start >= _RUN)


def _bisected(map_: Map, low: Array, high: Array, low_gap: Array) -> list[float]:
    """Roots of the gain in all brackets at once."""
    for _ in range(60):
        middle = np.sqrt(low * high)
        same = np.sign(_log_gain(map_, middle)) == np.sign(low_gap)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return [float(root) for root in np.sqrt(low * high)]


def _touching(map_: Map, grid: Array, gap: Array) -> list[float]:
    """Points where |gain| has a minimum of 0 without a change of sign, by golden section."""
    with np.errstate(invalid="ignore"):
        size = np.where(np.abs(gap) < _ROUNDING, np.inf, np.abs(gap))
        inner = (size[1:-1] < size[:-2]) & (size[1:-1] <= size[2:]) & (size[1:-1] < 0.05)
        inner &= (np.sign(gap[1:-1]) == np.sign(gap[:-2])) & (np.sign(gap[1:-1]) == np.sign(gap[2:]))
    found = []
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for index in np.flatnonzero(inner) + 1:
        low, high = np.log(grid[index - 1]), np.log(grid[index + 1])
        for _ in range(80):
            first, second = high - ratio * (high - low), low + ratio * (high - low)
            values = np.abs(_log_gain(map_, np.exp(np.array([first, second]))))
            low, high = (low, second) if values[0] <= values[1] else (first, high)
        point = np.exp(np.array([0.5 * (low + high)]))
        if abs(float(_log_gain(map_, point)[0])) < _FLAT:
            found.append(float(point[0]))
    return found


def _classified(map_: Map, q: float) -> FixedPoint:
    # F = q there, so dF/dq = 1 + d log(F/q) / d log q: a difference of small numbers, four points
    step = 1e-3
    gains = _log_gain(map_, q * np.exp(step * np.array([-2.0, -1.0, 1.0, 2.0])))
    slope = 1.0 + float(gains @ np.array([1.0, -8.0, 8.0, -1.0])) / (12.0 * step)
    if abs(abs(slope) - 1.0) < _NEUTRAL:
        return FixedPoint(q, slope, "neutral")
    return FixedPoint(q, slope, "stable" if abs(slope) < 1.0 else "unstable")


def _at_zero(map_: Map, low: float) -> FixedPoint | None:
    near = np.array([low, low * 1e-3])
    gains = _log_gain(map_, near)
    value = np.exp(gains) * near
    if not (np.all(value < 1e3 * near) or (value[1] < 0.5 * value[0] and value[0] < 1e-3)):
        return None
    slope = float(np.exp(gains[1]))
    if abs(slope - 1.0) < _NEUTRAL:
        return FixedPoint(0.0, slope, "neutral")
    return FixedPoint(0.0, slope, "stable" if slope < 1.0 else "unstable")


def _distinct(roots: list[float]) -> list[float]:
    kept: list[float] = []
    for root in sorted(roots):
        if not kept or root > kept[-1] * (1 + 1e-9):
            kept.append(root)
    return kept
