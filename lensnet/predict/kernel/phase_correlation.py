"""The correlation that two inputs keep behind many layers: c* of a phase diagram, at chaotic fixed points."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.dual import dual
from lensnet.algebra.gaussian import expect
from lensnet.algebra.parallel import in_parts
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quintic import QuinticSurface

Array = NDArray[np.float64]

_MOST_STEPS = 12
_ROOTS, _ROWS_PER_E_FOLD, _MOST_ROWS = 97, 16, 160


def correlations(function: PointwiseFunction, q: Array, chi: Array) -> tuple[Array, Array, float]:
    """c* and the slope of the correlation map there, for chaotic fixed points; and the error of the tables used.

    q* gap = gain**2 D(gap) with D the semivariogram: the bias drops out, and D/(q* gap) over its value at gap 0 has to
    be 1/chi_1. Both are tables over log q and the root of the gap.
    """
    low, high = float(np.log(q.min())) - 1e-3, float(np.log(q.max())) + 1e-3
    rows = np.linspace(low, high, min(max(8, int(_ROWS_PER_E_FOLD * (high - low)) + 2), _MOST_ROWS))
    roots = np.linspace(0.0, 1.0, _ROOTS)
    mean_slope, slope = _tables(function, np.exp(rows), roots)
    first, second = (QuinticSurface(rows, roots, table) for table in (mean_slope, slope))
    log_q, target = np.log(q), 1.0 / chi
    guess = _first_roots(rows, roots, mean_slope, log_q, target)
    root, there = in_parts(partial(_solved, first, second), log_q, target, guess)
    return 1.0 - root * root, chi * there, _table_error(function, (first, second), rows, roots)


def _solved(
    first: QuinticSurface, second: QuinticSurface, log_q: Array, target: Array, guess: Array
) -> tuple[Array, Array]:
    """The root of the gap at which the first table meets its target, and the second table there."""
    root, active = guess.copy(), np.arange(guess.size)
    for _ in range(_MOST_STEPS):
        now, wanted = root[active], target[active]
        section = first.section(log_q[active], now)
        off = section.value(now) - wanted
        below = off < 0
        with np.errstate(all="ignore"):
            moved = now - off / section.slope(now)  # Newton's method: the guess is good to a part in a thousand
            off = section.value(moved) - wanted
            moved -= off / section.slope(moved)
        ends = np.abs(moved - 0.5) < 0.5 + 1e-6  # at most a rounding beyond
        moved = np.where(ends, np.clip(moved, 0.0, 1.0), moved)
        lost = ~((moved >= 0.0) & (moved <= 1.0))
        moved[lost] = np.where(below[lost], 0.5 * now[lost], 0.5 * (now[lost] + 1.0))
        root[active] = moved
        # the second step leaves the square of what the first has left
        active = active[lost | ~(np.abs(off) < 1e-6) | ~section.holds(moved)]
        if not active.size:
            break
    return root, second(log_q, root)


def _table_error(
    function: PointwiseFunction, tables: tuple[QuinticSurface, QuinticSurface], rows: Array, roots: Array
) -> float:
    """Largest difference between table and truth half-way between some of the knots, 1 being the value at gap 0."""
    at = 0.5 * (rows[1:] + rows[:-1])[:: max(1, rows.size // 12)]
    root = np.concatenate([[0.0], 0.5 * (roots[1:] + roots[:-1])[::5]])
    activation, q = dual(function), np.exp(at)[:, None]
    top = _steepness(function, np.exp(at))
    mean = activation.semivariogram(root[None, 1:] ** 2, q).value / (q * root[None, 1:] ** 2) / top
    truth = (np.concatenate([np.ones((at.size, 1)), mean], axis=1), _slopes(function, np.exp(at), root))
    places = np.meshgrid(at, root, indexing="ij")
    return max(float(np.max(np.abs(t(*places) - exact))) for t, exact in zip(tables, truth, strict=True))


def _tables(function: PointwiseFunction, q: Array, root: Array) -> tuple[Array, Array]:
    """D(gap)/(q*gap) and E f'(u) f'(v), both over E f'**2, at every variance and root of the gap from 0 on.

    The first is the average of the second over all smaller gaps (dD/dgap = q E f'(u) f'(v)), which is smooth in the
    root; not so behind a jump, whose slope is nowhere.
    """
    there = _slopes(function, q, root)
    if function.jumps:
        gap = root[None, 1:] ** 2
        below = dual(function).semivariogram(gap, q[:, None]).value / (q[:, None] * gap) / _steepness(function, q)
    else:
        smooth = function.kinks.complete and not function.kinks.points
        below = _integrated(root, 2.0 * root * there, smooth)[:, 1:] / root[1:] ** 2
    return np.concatenate([np.ones((q.size, 1)), below], axis=1), there


def _integrated(root: Array, values: Array, odd: bool) -> Array:
    """The integral along the last axis from 0 on, by splines; those of an odd function have no end at 0."""
    from scipy.interpolate import make_interp_spline

    knots, at = root, values
    if odd:
        knots, at = np.concatenate([-root[:0:-1], root]), np.concatenate([-values[:, :0:-1], values], axis=1)
    primitive = make_interp_spline(knots, at, k=5, axis=1).antiderivative()
    return np.asarray(primitive(root) - primitive(0.0)[:, None])


def _slopes(function: PointwiseFunction, q: Array, root: Array) -> Array:
    """E f'(u) f'(v) over E f'**2."""
    variance, correlation = q[:, None], 1.0 - root[None, 1:] ** 2
    there = dual(function).gradient_kernel(variance, variance, variance * correlation).value
    return np.concatenate([np.ones((q.size, 1)), there / _steepness(function, q)], axis=1)


def _steepness(function: PointwiseFunction, q: Array) -> Array:
    """E f'**2, as a column."""
    return np.asarray(expect(function, 0.0, np.sqrt(q)).slope_second_moment.value)[:, None]


def _first_roots(rows: Array, roots: Array, table: Array, log_q: Array, target: Array) -> Array:
    """Where the rows of the table on both sides, which fall with the root, meet the target, interpolated."""
    place = (log_q - rows[0]) / (rows[1] - rows[0])
    below = np.clip(place.astype(np.intp), 0, rows.size - 2)
    share = place - below
    result = np.empty(log_q.shape)
    order = np.argsort(below, kind="stable")
    starts = np.searchsorted(below[order], np.arange(rows.size))
    falling = -np.minimum.accumulate(table, axis=1)
    for row in range(rows.size - 1):
        members = order[starts[row] : starts[row + 1]]
        if members.size:
            low, high = (np.interp(-target[members], falling[at], roots) for at in (row, row + 1))
            result[members] = low + share[members] * (high - low)
    return np.maximum(result, 1e-6)
