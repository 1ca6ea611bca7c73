"""The maximum over a window of correlated values: moments forward, and who wins the gradient backward.

The taps of a window are functions f of jointly Gaussian variables (a convolution's outputs over weight draws, after
an activation). Photographs make them strongly and unequally correlated, window by window: treating the taps as
independent, or giving all windows one average correlation, puts the second moment off by 20 to 60 %. So every window
gets its own covariance: variances from the signal, correlations from the measured products of taps, turned back into
correlations of the Gaussians behind f. The moments of the maximum are then integrals over as many dimensions as taps,
done with scrambled Sobol points and their mirror images: few per window where windows are many, since every block of
windows gets points of its own and the errors average out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.signal import Law, Signal
from lensnet.network.geometry import Window
from lensnet.predict.gaussian_copula import Chain, push
from lensnet.predict.window_integrals import gaussian_correlations, normal_points, points_for, square_roots
from lensnet.predict.window_taps import TapTable, tap_table

Array = NDArray[np.float64]

# A pool of any size takes some tenths of a second: of many windows only so many are integrated, and the others take the
# gain of one whose taps are as much alike; the fewer the windows, the more points for each.
_WINDOWS = 1 << 12
_EVALUATIONS = 1 << 17
_BLOCK = 1 << 10
_ENTRIES = 1 << 24  # of the matrices of all windows at once: a pool of hundreds of places has few windows
_NODES = 32


@dataclass(frozen=True)
class Maximum:
    """`mean`, `second_moment`: fields `(E, *positions_out)`; `wins`: probability that a tap is the largest (the first
    of equals), `(E, outputs, taps)`."""

    mean: Array
    second_moment: Array
    wins: Array


class WindowMaximum:
    """The maximum over every window of one signal.

    `products`: E[x_s x_t] of the taps s <= t of every window over the channels of a measured signal,
    `(E, *positions_out, taps*(taps+1)/2)`; or one number: the correlation common to all pairs of Gaussians. Where the
    law of the signal is unknown its values themselves are taken as Gaussian. The law gives the shape of the
    distribution and the signal's second moment its size, so a law known up to a factor is enough.
    """

    def __init__(self, taps: TapTable, signal: Signal, products: Array | float) -> None:
        self.taps = taps
        self.products = np.asarray(products, dtype=float)
        law = signal.law or Law(signal.mean, signal.variance, float("inf"), "")
        self.chain: Chain = tuple(law.chain)
        fields = np.broadcast_arrays(law.mean, law.variance, signal.second_moment, signal.mean)
        self.level, variance, self.second_moment, self.mean = (np.asarray(field, dtype=float) for field in fields)
        self.sd = np.sqrt(np.maximum(variance, 1e-300))
        self.question: tuple[Any, ...] = (None,) * 5

    def answers(self, window: Window, positions: tuple[int, ...], signal: Signal, products: Array | float) -> bool:
        """Whether this is the maximum over these windows of this very signal."""
        asked, places, second_moment, law, given = self.question
        same = second_moment is signal.second_moment and law is signal.law
        same &= given is products or (np.ndim(given) == 0 and np.ndim(products) == 0 and given == products)
        return bool(same and asked == window and places == positions)

    @cached_property
    def result(self) -> Maximum:
        sample = self._sample
        windows, count = sample.sds.shape
        first, second, wins = np.zeros(windows), np.zeros(windows), np.zeros((windows, count))
        for block, largest, winner, _ in self._draws():
            first[block] += largest.mean(axis=1, dtype=float) / 2
            second[block] += np.einsum("wp,wp->w", largest, largest) / (2 * largest.shape[1])
            for tap in range(count):
                wins[block, tap] += np.count_nonzero(winner == tap, axis=1) / (2 * winner.shape[1])
        law_mean, law_second = self._law_averages
        lead = (first - law_mean) / np.sqrt(law_second)  # of the largest over the average, in root mean squares
        mean, power = self._average(self.mean), self._average(self.second_moment)
        shape = (len(mean), *self.taps.positions_out)
        return Maximum(
            (mean + np.sqrt(power) * self._everywhere(lead)).reshape(shape),
            (power * self._everywhere(second / law_second)).reshape(shape),
            self._shares(wins),
        )

    def winner_mean(self, function: Callable[[Array], Array]) -> Array:
        """E[function(z) of the Gaussian z behind a tap, where that tap is the largest], `(E, outputs, taps)`."""
        windows, count = self._sample.sds.shape
        out, wins = np.zeros((windows, count)), np.zeros((windows, count))
        for block, _, winner, gaussian in self._draws():
            values = np.asarray(function(gaussian))
            for tap in range(count):
                won = winner == tap
                out[block, tap] += np.where(won, values, 0.0).mean(axis=1) / 2
                wins[block, tap] += won.mean(axis=1) / 2
        return self.result.wins * self._everywhere(np.divide(out, wins, out=np.zeros_like(out), where=wins > 0))

    @cached_property
    def _likeness(self) -> Array:
        """How alike the taps of each window are, one number per window in the order (example, row, column)."""
        windows, count = len(self.sd) * len(self.taps.index), self.taps.index.shape[1]
        if self.products.ndim == 0:
            return np.zeros(windows)
        rows, columns = np.triu_indices(count)
        products = self.products.reshape(-1, len(rows))
        power = np.maximum(products[:, rows == columns], 0.0)
        alone, most = power.sum(axis=1), np.sqrt(power).sum(axis=1) ** 2
        likeness = 2 * (products.sum(axis=1) - alone) / np.maximum(most - alone, 1e-300)
        if len(products) != windows:
            likeness = np.tile(likeness.reshape(-1, len(self.taps.index)).mean(axis=0), len(self.sd))
        return np.asarray(likeness)

    @cached_property
    def _ranks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The windows that are integrated (every so many in the order of real taps and likeness), and for every window
        the place of its representative among them."""
        real = np.tile(self.taps.inside.sum(axis=1), len(self.sd))
        order = np.lexsort((self._likeness, real))
        most = max(1, min(_WINDOWS, _ENTRIES // self.taps.index.shape[1] ** 2))
        step = max(1, -(-len(order) // most))
        chosen = order[step // 2 :: step]
        representative = np.empty(len(order), dtype=np.int64)
        representative[order] = np.minimum(np.arange(len(order)) // step, len(chosen) - 1)
        return chosen, representative

    def _everywhere(self, values: Array) -> Array:
        """What was found for the chosen windows, for all: `(E, outputs, ...)`."""
        return values[self._ranks[1]].reshape(len(self.sd), len(self.taps.index), *values.shape[1:])

    def _shares(self, wins: Array) -> Array:
        """Win probabilities for all windows; at an edge the neighbour's are confined to the real taps."""
        shares = np.where(self.taps.inside, self._everywhere(wins) + 1e-12, 0.0)
        return np.asarray(shares / shares.sum(axis=-1, keepdims=True))

    def _average(self, field: Array) -> Array:
        """Average over the real taps of every window, `(E, outputs)`."""
        taken = self.taps.take(field)
        return np.asarray(np.where(self.taps.inside, taken, 0.0).sum(axis=-1) / self.taps.inside.sum(axis=-1))

    @cached_property
    def _sample(self) -> _Windows:
        outputs = len(self.taps.index)
        example, output = np.divmod(self._ranks[0], outputs)
        index, inside = self.taps.index[output], self.taps.inside[output]

        def taps(field: Array) -> Array:
            return np.asarray(field.reshape(len(field), -1)[example[:, None], index])

        levels, sds = np.where(inside, taps(self.level), 0.0), taps(self.sd)
        if self.products.ndim == 0:
            count = inside.shape[1]
            common = np.clip(self.products, -1 / max(count - 1, 1), 1.0)
            correlations = np.broadcast_to(np.eye(count) * (1 - common) + common, (len(levels), count, count))
            return _Windows(levels, sds, inside, correlations)
        share = taps(self.mean / np.sqrt(np.maximum(self.second_moment, 1e-300)))
        products = self.products.reshape(len(self.products), outputs, -1)
        if len(products) == len(self.sd):
            pairs = products[example, output]
        else:  # all examples are alike: one typical window for each position
            pairs = products.mean(axis=0)[output]
        correlations = gaussian_correlations(self.chain, levels, sds, share, pairs)
        # Taps outside the input have no products: they are made independent of the real ones, whatever they read.
        together = inside[:, :, None] & inside[:, None, :]
        correlations = np.where(together, correlations, np.eye(inside.shape[1], dtype=correlations.dtype))
        return _Windows(levels, sds, inside, correlations)

    @cached_property
    def _law_averages(self) -> tuple[Array, Array]:
        """Mean and second moment that the law says, averages over the real taps of the chosen windows."""
        sample = self._sample
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        first, second = np.zeros_like(sample.sds), np.zeros_like(sample.sds)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            values = push(self.chain, sample.levels + sample.sds * node)
            first += weight * values
            second += weight * values**2
        real = sample.inside.sum(axis=-1)
        averages = [np.where(sample.inside, field, 0.0).sum(axis=-1) / real for field in (first, second)]
        return averages[0], np.maximum(averages[1], 1e-300)

    def _draws(self) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.int16], NDArray[Any]]]:
        """Blocks of chosen windows, twice each (points and their mirror images): the largest value, the tap that has it
        and the Gaussian behind that tap, `(windows, points)`."""
        sample = self._sample
        windows, count = sample.sds.shape
        points = points_for(count, windows, max(_EVALUATIONS, 2 * count * windows))
        for number, start in enumerate(range(0, windows, _BLOCK)):
            block = slice(start, start + _BLOCK)
            roots = (sample.sds[block, :, None] * square_roots(sample.correlations[block])).astype(np.float32)
            spread = (roots.reshape(-1, count) @ normal_points(count, points, number)).reshape(
                len(roots), count, points
            )
            for sign in (np.float32(1), np.float32(-1)):
                largest = np.full((len(roots), points), -np.inf, np.float32)
                gaussian, winner = np.zeros_like(largest), np.zeros(largest.shape, np.int16)
                for tap in range(count):
                    z = sample.levels[block, tap, None].astype(np.float32) + sign * spread[:, tap]
                    values = push(self.chain, z)
                    better = (values > largest) & sample.inside[block, tap, None]
                    np.copyto(largest, values, where=better, casting="unsafe")
                    np.copyto(gaussian, z, where=better)
                    np.copyto(winner, np.int16(tap), where=better)
                yield block, largest, winner, gaussian


@dataclass(frozen=True)
class _Windows:
    """Chosen windows: mean and standard deviation of the Gaussians behind their taps, which taps are real, and the
    correlations."""

    levels: Array
    sds: Array
    inside: NDArray[np.bool_]
    correlations: Array


_RECENT: deque[WindowMaximum] = deque(maxlen=3)


def window_maximum(
    window: Window, positions: tuple[int, ...], signal: Signal, products: Array | float
) -> WindowMaximum:
    """The maximum over these windows. The last few are kept: forward, backward and what lies before the pool ask for
    the same one."""
    for known in _RECENT:
        if known.answers(window, positions, signal, products):
            return known
    found = WindowMaximum(tap_table(window, positions), signal, products)
    found.question = (window, positions, signal.second_moment, signal.law, products)
    _RECENT.append(found)
    return found


def selected_mean(maximum: WindowMaximum, function: Callable[[Array], Array], gradient: Array) -> Array:
    """E[g**2 function(z)]/E[g**2] at the pool's input, `(E, *positions)`: an average over the Gaussians z behind the
    taps as the gradient g sees them.

    The gradient behind a pool goes to winners, and winners are mostly large: of two rectified taps the winner is active
    far more often than half of the time, so the rectifier below blocks little. Where no gradient arrives the answer is
    the plain 1, which is then multiplied by nothing. `gradient`: `(E, *positions_out)`.
    """
    arriving = maximum_gradient(maximum.taps, maximum.result.wins, gradient)
    passed = maximum_gradient(maximum.taps, maximum.winner_mean(function), gradient)
    return np.where(arriving > 0, passed / np.maximum(arriving, 1e-300), 1.0)


def maximum_gradient(taps: TapTable, wins: Array, gradient: Array) -> Array:
    """Second moment of the gradient at the pool's input: each output's gradient goes to its winner alone.

    `gradient`: `(E, *positions_out)`. The gradients of overlapping windows are taken as uncorrelated.
    """
    outputs = np.broadcast_to(gradient, (max(len(gradient), len(wins)), *taps.positions_out))
    return taps.give(wins * outputs.reshape(len(outputs), -1, 1))
