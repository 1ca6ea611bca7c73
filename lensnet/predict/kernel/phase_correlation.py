"""The correlation that two inputs keep behind many layers: c* of a phase diagram, at chaotic fixed points."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.dual import dual
from lensnet.algebra.gaussian import expect
from lensnet.algebra.parallel import in_parts
from lensnet.algebra.pointwise import PointwiseFunction

if TYPE_CHECKING:
    from scipy.interpolate import RectBivariateSpline

Array = NDArray[np.float64]

_MOST_STEPS = 12
_ROOTS, _ROWS_PER_E_FOLD, _MOST_ROWS = 97, 16, 160


def correlations(function: PointwiseFunction, q: Array, chi: Array) -> tuple[Array, Array, float]:
    """c* and the slope of the correlation map there, for chaotic fixed points; and the error of the tables used.

    q* gap = gain**2 D(gap) with D the semivariogram: the bias drops out, and D/(q* gap) over its value at gap 0 has to
    be 1/chi_1. Both are tables over log q and the root of the gap.
    """
    from scipy.interpolate import RectBivariateSpline

    low, high = float(np.log(q.min())) - 1e-3, float(np.log(q.max())) + 1e-3
    rows = np.linspace(low, high, min(max(8, int(_ROWS_PER_E_FOLD * (high - low)) + 2), _MOST_ROWS))
    roots = np.linspace(0.0, 1.0, _ROOTS)
    mean_slope, slope = _slope_tables(function, np.exp(rows), roots)
    first, second = (RectBivariateSpline(rows, roots, table, kx=5, ky=5) for table in (mean_slope, slope))
    log_q, target = np.log(q), 1.0 / chi
    guess = _first_roots(rows, roots, mean_slope, log_q, target)
    root, there = in_parts(partial(_solved, first, second), log_q, target, guess)
    return 1.0 - root * root, chi * there, _table_error(function, (first, second), rows, roots)


def _solved(
    first: RectBivariateSpline, second: RectBivariateSpline, log_q: Array, target: Array, guess: Array
) -> tuple[Array, Array]:
    """The root of the gap at which the first table meets its target, and the second table there."""
    root, active = guess.copy(), np.arange(guess.size)
    rise = first.ev(log_q, root, dy=1)
    for _ in range(_MOST_STEPS):  # Newton's method with the first slope: the guess is good to a part in a thousand
        now = root[active]
        off = first.ev(log_q[active], now) - target[active]
        with np.errstate(all="ignore"):
            moved = now - off / rise[active]
        lost = ~((moved >= 0.0) & (moved <= 1.0))
        moved[lost] = np.where(off[lost] < 0, 0.5 * now[lost], 0.5 * (now[lost] + 1.0))
        root[active] = moved
        active = active[np.abs(off) > 1e-11]
        if not active.size:
            break
    return root, second.ev(log_q, root)


def _table_error(
    function: PointwiseFunction, tables: tuple[RectBivariateSpline, RectBivariateSpline], rows: Array, roots: Array
) -> float:
    """Largest difference between table and truth half-way between some of the knots, 1 being the value at gap 0."""
    at = 0.5 * (rows[1:] + rows[:-1])[:: max(1, rows.size // 12)]
    root = np.concatenate([[0.0], 0.5 * (roots[1:] + roots[:-1])[::5]])
    truth = _slope_tables(function, np.exp(at), root)
    return max(float(np.max(np.abs(t(at, root) - exact))) for t, exact in zip(tables, truth, strict=True))


def _slope_tables(function: PointwiseFunction, q: Array, root: Array) -> tuple[Array, Array]:
    """D(gap)/(q*gap) and E f'(u) f'(v), both over E f'**2, at every variance and root of the gap."""
    activation = dual(function)
    variance, gap = q[:, None], root[None, 1:] ** 2
    top = expect(function, 0.0, np.sqrt(q)).slope_second_moment.value[:, None]
    mean = activation.semivariogram(gap, variance).value / (variance * gap) / top
    there = activation.gradient_kernel(variance, variance, variance * (1.0 - gap)).value / top
    ones = np.ones((q.size, 1))
    return np.concatenate([ones, mean], axis=1), np.concatenate([ones, there], axis=1)


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
