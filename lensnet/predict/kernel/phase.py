"""Phase diagrams of a deep stack: dense layers of one gain and bias_std, an activation after each, over a grid of both.

At large width the second moment follows q -> gain**2 E f(sqrt(q) z)**2 + bias_std**2 to a fixed point q*. There, two
inputs of correlation 1 - e separate or merge by the factor chi_1 = gain**2 E f'(sqrt(q*) z)**2 per layer: below 1 all
inputs end up alike (ordered), above 1 neighbours end up apart, at correlation c* (chaotic). The edge between carries
signals deepest; elsewhere differences live for xi = -1/ln(chi at c*) layers.

Poole et al. 2016 (arXiv:1606.05340), Schoenholz et al. 2017 (arXiv:1611.01232).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.gaussian import expect
from lensnet.algebra.moment_map import HIGH, LOW, MomentMap, moment_map
from lensnet.algebra.parallel import in_parts
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.predict.kernel.phase_correlation import correlations

Array = NDArray[np.float64]

ORDERED, CHAOTIC, CRITICAL = "ordered", "chaotic", "critical"
_PER_E_FOLD = 16
_CONVERGED, _MOST_STEPS = 1e-13, 12
_CRITICAL = 1e-9


@dataclass(frozen=True)
class PhaseDiagram:
    """Fixed points over a grid; every field has shape (gains, bias_stds).

    Attributes:
        name: of the activation.
        gain, bias_std: the axes, 1-d.
        second_moment: q*, of the preactivations, reached from q = `start`; 0 where the signal dies, inf where it
            diverges.
        chi: chi_1, the factor per layer on a small squared distance between two inputs, and on the second moment of a
            gradient. At q* = inf its limit.
        correlation: c*, of two inputs after many layers: 1 in the ordered phase, nan where q* is 0 or inf.
        chi_correlation: slope of the correlation map at c*; chi_1 in the ordered phase.
        chi_variance: slope of the map of q at q*.
        error: relative error of the interpolated averages behind, measured between their knots; the fields amplify it
            by 1/|1 - chi|.
    """

    name: str
    gain: Array
    bias_std: Array
    second_moment: Array
    chi: Array
    correlation: Array
    chi_correlation: Array
    chi_variance: Array
    error: float

    @property
    def depth(self) -> Array:
        """xi: layers over which the distance of the correlation from c* falls by e; inf at the edge of chaos."""
        return _depth(self.chi_correlation)

    @property
    def variance_depth(self) -> Array:
        """Layers over which the distance of the second moment from q* falls by e."""
        return _depth(self.chi_variance)

    @property
    def phase(self) -> NDArray[np.str_]:
        """ "ordered", "chaotic" or "critical" (chi_1 = 1 to 1e-9)."""
        names = np.where(self.chi > 1, CHAOTIC, ORDERED)
        return np.where(np.abs(self.chi - 1.0) < _CRITICAL, CRITICAL, names)


@dataclass(frozen=True)
class Edge:
    """The edge of chaos, chi_1 = 1: arrays of one shape; nan where there is none.

    A gain without a second moment is on the edge at every second moment (relu at gain sqrt(2), without bias).
    """

    bias_std: Array
    gain: Array
    second_moment: Array


def phase_diagram(
    function: PointwiseFunction,
    gain: ArrayLike,
    bias_std: ArrayLike,
    *,
    correlation: bool = True,
    start: float = 1.0,
) -> PhaseDiagram:
    """Fixed points of the second moment and of the correlation for every pair of gain and bias_std.

    q* is the fixed point next to `start` on the side to which the map moves it: where iteration leads, for maps that
    rise with q.

    Args:
        gain, bias_std: 1-d (or numbers), >= 0: weights have standard deviation gain/sqrt(fan_in).
        correlation: also solve for c* (about as much work again).

    Raises:
        ValueError: a gain or bias_std is negative or not finite, or an axis has more than one dimension.
    """
    gains, biases = _axis(gain, "gain"), _axis(bias_std, "bias_std")
    moments = moment_map(function)
    q = _fixed_points(moments, gains, biases, start)
    chi, rate = _factors(moments, q, gains)
    alone = np.where((q > 0) & np.isfinite(q), 1.0, np.nan)
    chi_c, error = chi.copy(), moments.error
    if correlation:
        chaotic = (chi > 1.0) & np.isfinite(alone)
        if chaotic.any():
            alone[chaotic], chi_c[chaotic], off = correlations(function, q[chaotic], chi[chaotic])
            error = max(error, off)
    else:
        alone = np.where(chi > 1.0, np.nan, alone)
        chi_c = np.where(chi > 1.0, np.nan, chi_c)
    return PhaseDiagram(function.name, gains, biases, q, chi, alone, chi_c, rate, error)


def edge_of_chaos(function: PointwiseFunction, bias_std: ArrayLike) -> Edge:
    """The gain at which chi_1 = 1, for each bias_std, and the fixed point q* there, by a solve.

    At given q, chi_1 = 1 fixes the gain and the fixed point then fixes bias_std, so the edge is a curve in q; its
    crossings with bias_std are bracketed on a grid and bisected. A crossing counts when the second moment settles
    there; of several, the one with the smallest gain.
    """
    wanted = np.atleast_1d(np.asarray(bias_std, dtype=np.float64))
    squares = wanted.ravel() ** 2
    grid = np.exp(np.linspace(np.log(LOW), np.log(HIGH), int(_PER_E_FOLD * np.log(HIGH / LOW)) + 1))
    moments = moment_map(function)
    gains, needed = _on_edge(moments.second_moment(grid), moments.mean_square_slope(grid), grid)
    gap = needed - squares[:, None]
    flat = np.abs(gap) <= 1e-12 * grid
    place, cell = np.nonzero((gap[:, :-1] * gap[:, 1:] < 0) & ~flat[:, :-1] & ~flat[:, 1:])
    q = _crossings(function, moments, grid[cell], grid[cell + 1], squares[place])
    exact = expect(function, 0.0, np.sqrt(q))
    at, _ = _on_edge(exact.second_moment.value, exact.slope_second_moment.value, q)
    settles = at * at * moments.second_moment_and_rate(q)[1] < 1.0
    gain, second = np.full(squares.shape, np.nan), np.full(squares.shape, np.nan)
    # without bias small signals may sit on the edge: where the second moment falls to 0, or at every one
    fades = bool(np.abs(needed[0]) < 1e-6 * grid[0] and gains[0] ** 2 * moments.second_moment(1e-3) < 1e-3)
    if fades:
        gain[squares == 0], second[squares == 0] = gains[0], 0.0
    every = flat.all(axis=1)
    gain[every], second[every] = gains[grid.size // 2], np.nan
    for index in np.flatnonzero(settles)[np.argsort(-at[settles])]:  # the smallest gain is written last
        if not flat[place[index]].all() and not gain[place[index]] < at[index]:
            gain[place[index]], second[place[index]] = at[index], q[index]
    return Edge(*(np.reshape(a, np.shape(bias_std)) for a in (wanted, gain, second)))


def _on_edge(second_moment: Array, slope: Array, q: Array) -> tuple[Array, Array]:
    """Gain and bias variance (negative: none) at which q is a fixed point with chi_1 = 1, from E f**2 and E f'**2."""
    with np.errstate(all="ignore"):
        return 1.0 / np.sqrt(slope), q - second_moment / slope


def _crossings(function: PointwiseFunction, moments: MomentMap, low: Array, high: Array, squares: Array) -> Array:
    """Where the bias variance of the edge meets the one asked for: bisected in the tables, then two exact steps."""

    def tabled(q: Array) -> Array:
        return _on_edge(moments.second_moment(q), moments.mean_square_slope(q), q)[1] - squares

    below = tabled(low) < 0
    for _ in range(50):
        middle = 0.5 * (low + high)
        same = (tabled(middle) < 0) == below
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    q = 0.5 * (low + high)
    rise = (tabled(q * (1 + 1e-4)) - tabled(q * (1 - 1e-4))) / (2e-4 * q)
    for _ in range(2):
        exact = expect(function, 0.0, np.sqrt(q))
        off = _on_edge(exact.second_moment.value, exact.slope_second_moment.value, q)[1] - squares
        with np.errstate(all="ignore"):
            step = off / rise
        q = q - np.where(np.abs(step) < 1e-3 * q, step, 0.0)
    return q


def _axis(values: ArrayLike, name: str) -> Array:
    axis = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if axis.ndim > 1:
        raise ValueError(f"{name} is an axis of the diagram: one dimension, not {axis.ndim}")
    if not np.all(np.isfinite(axis)) or np.any(axis < 0):
        raise ValueError(f"{name} must be finite and not negative")
    return axis


def _depth(chi: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(1.0 / np.log(chi))


# --- the second moment ----------------------------------------------------------------------------------------------


def _fixed_points(moments: MomentMap, gains: Array, biases: Array, start: float) -> Array:
    """First fixed point on the way from `start`: bracketed on a grid of q for each gain, then Newton's method."""
    grid = np.exp(np.linspace(np.log(LOW), np.log(HIGH), int(_PER_E_FOLD * np.log(HIGH / LOW)) + 1))
    grid = np.unique(np.append(grid, start))
    home = int(np.searchsorted(grid, start))
    values = moments.second_moment(grid)
    squares = biases**2
    q, low, high = (np.empty((gains.size, biases.size)) for _ in range(3))
    for row, gain in enumerate(gains):
        needed = grid - gain * gain * values  # the bias variance that makes each q a fixed point
        q[row], low[row], high[row] = _bracketed(grid, needed, squares, home)
    open_ = low < high
    squared = np.broadcast_to(gains[:, None] ** 2, q.shape)[open_]
    bias = np.broadcast_to(squares, q.shape)[open_]
    found = in_parts(partial(_polished, moments), q[open_], low[open_], high[open_], squared, bias)
    q[open_] = found[0]
    return q


def _factors(moments: MomentMap, q: Array, gains: Array) -> tuple[Array, Array]:
    """chi_1, and the slope of the map of q, at every fixed point: the tables are asked within their range."""

    def averages(inside: Array) -> tuple[Array, Array]:
        return moments.mean_square_slope(inside), moments.second_moment_and_rate(inside)[1]

    squared, found = gains[:, None] ** 2, in_parts(averages, np.clip(q, LOW, HIGH).ravel())
    chi, rate = (squared * average.reshape(q.shape) for average in found)
    return chi, rate


def _bracketed(grid: Array, needed: Array, squares: Array, home: int) -> tuple[Array, Array, Array]:
    """For each bias variance: first guess, and the grid cell that holds the fixed point (empty: it is exact)."""
    rising = np.maximum.accumulate(np.where(np.isnan(needed[home:]), -np.inf, needed[home:]))
    falling = np.minimum.accumulate(np.where(np.isnan(needed[: home + 1]), np.inf, needed[: home + 1])[::-1])
    up = home + np.searchsorted(rising, squares, side="left")
    down = home - np.searchsorted(-falling, -squares, side="left")
    still = np.abs(needed[home] - squares) <= 1e-13 * grid[home]
    above = squares > needed[home]
    first, last = np.where(above, up - 1, down), np.where(above, up, down + 1)
    outside = np.where(above, up >= grid.size, down < 0)
    first, last = np.clip(first, 0, grid.size - 1), np.clip(last, 0, grid.size - 1)
    low, high = grid[first], grid[last]
    with np.errstate(all="ignore"):
        share = (squares - needed[first]) / (needed[last] - needed[first])
    guess = low + np.clip(np.nan_to_num(share, nan=0.5), 0.0, 1.0) * (high - low)
    # below the grid the signal has died, unless the bias holds it there; above it diverges
    guess = np.where(outside, np.where(above, np.inf, squares), guess)
    guess = np.where(still, grid[home], guess)
    done = outside | still
    return guess, np.where(done, guess, low), np.where(done, guess, high)


def _polished(
    moments: MomentMap, first: Array, low: Array, high: Array, squared: Array, bias: Array
) -> tuple[Array, ...]:
    """Newton's method within brackets from a first guess, for those that have not converged."""
    q = first.copy()
    active = np.arange(q.size)
    for _ in range(_MOST_STEPS):
        now = q[active]
        value, rate = moments.second_moment_and_rate(now)
        gap = squared[active] * value + bias[active] - now
        with np.errstate(all="ignore"):
            step = gap / (1.0 - squared[active] * rate)
        new = now + step
        lost = ~((new >= low[active]) & (new <= high[active]))
        # outside the cell: towards the end that the map points to, half-way
        new[lost] = 0.5 * (now[lost] + np.where(gap[lost] > 0, high[active][lost], low[active][lost]))
        q[active] = new
        # a step of Newton's method leaves the square of its own relative size
        active = active[np.abs(new - now) > np.sqrt(_CONVERGED) * new]
        if not active.size:
            break
    return (q,)
