"""How a covariance between samples is laid out in memory: every pair of samples, or fewer numbers that stand for them.

A sample is an example at a position. A *field* `(E, *positions)` has a number for each sample, a *pair field* one for
each pair. `full` keeps all of them; `banded` those at chosen displacements (`lensnet.levels.bands`); `stationary`
describes the pairs of two examples by the displacement between the two positions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Pairs = NDArray[np.float64]
Mode = Literal["full", "banded", "stationary"]


@dataclass(frozen=True)
class Samples:
    """The samples of a batch, example-major: `examples` at each of `positions`."""

    examples: int
    positions: tuple[int, ...]

    @property
    def places(self) -> int:
        return prod(self.positions)

    @property
    def count(self) -> int:
        return self.examples * self.places

    @property
    def field_shape(self) -> tuple[int, ...]:
        return (self.examples, *self.positions)


@dataclass(frozen=True)
class FullPairs(Samples):
    """Every pair: a pair field is a matrix `(N, N)` over the samples, example-major, N = examples * positions."""

    mode: Mode = "full"

    @property
    def shape(self) -> tuple[int, int]:
        return (self.count, self.count)

    def flat(self, field: Any) -> Field:
        """A field as a vector over samples, `(N,)`."""
        field = np.asarray(field, dtype=float)
        if field.ndim == 1 and self.positions:
            field = field.reshape(-1, *([1] * len(self.positions)))
        return np.broadcast_to(field, self.field_shape).reshape(-1)

    def first(self, field: Any) -> Pairs:
        """A field as seen by the first sample of a pair, ready to broadcast."""
        return self.flat(field)[:, None]

    def second(self, field: Any) -> Pairs:
        return self.flat(field)[None, :]

    @cached_property
    def same(self) -> Pairs:
        """1 for a sample with itself."""
        return np.eye(self.count)

    @cached_property
    def same_place(self) -> Pairs:
        """1 for two samples at equal positions."""
        return np.tile(np.eye(self.places), (self.examples, self.examples))

    @cached_property
    def same_example(self) -> Pairs:
        """1 for two samples of one example."""
        return np.asarray(np.kron(np.eye(self.examples), np.ones((self.places, self.places))), dtype=float)

    def diagonal(self, pairs: Pairs) -> Field:
        """The numbers of samples with themselves, as a field."""
        return np.diagonal(pairs).reshape(self.field_shape).copy()

    def with_diagonal(self, pairs: Pairs, field: Field) -> Pairs:
        out = np.array(np.broadcast_to(pairs, self.shape))
        np.fill_diagonal(out, self.flat(field))
        return out

    def whole(self, pairs: Any) -> Pairs:
        """A number or a broadcastable array as a pair field of full shape."""
        return np.broadcast_to(np.asarray(pairs, dtype=float), self.shape)

    def split(self, pairs: Any) -> Pairs:
        """`(E, P, E, P)`."""
        return self.whole(pairs).reshape(self.examples, self.places, self.examples, self.places)

    def joined(self, split: Pairs) -> Pairs:
        return split.reshape(self.shape)

    def slots(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where pairs of samples stand in a pair field laid flat."""
        return first * self.count + second

    def unordered(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """All pairs of samples, each once, with itself too."""
        return np.triu_indices(self.count)

    def transposed(self, pairs: Pairs) -> Pairs:
        """First and second sample exchanged."""
        return self.whole(pairs).T

    def mean_all(self, pairs: Any) -> Pairs:
        """Average over all pairs of positions, `(E, E)`."""
        return np.asarray(self.split(pairs).mean(axis=(1, 3)))

    def follows(self, places: tuple[int, ...]) -> bool:
        """Whether every pair of these places is followed."""
        return True

    def chosen(self, pairs: Pairs, examples: int, places: tuple[int, ...]) -> Pairs:
        """The rows and columns of the first `examples` at these places, `(R, R)`."""
        rows = (np.arange(examples)[:, None] * self.places + np.array(places)).ravel()
        return np.array(self.whole(pairs)[np.ix_(rows, rows)])


@dataclass(frozen=True)
class StationaryPairs(Samples):
    """Displacements only: a pair field is `(E, E, *D)`, its average over all positions p and p + delta of two examples.

    Axis i of D has 2 n_i - 1 entries, for delta_i from -(n_i - 1) to n_i - 1. What differs from place to place (dark
    rims, bright patches) is kept in fields beside it; of pairs only the average at each displacement is known.
    """

    mode: Mode = "stationary"

    @property
    def spread(self) -> tuple[int, ...]:
        return tuple(2 * n - 1 for n in self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.examples, self.examples, *self.spread)

    @property
    def axes(self) -> tuple[int, ...]:
        """The displacement axes of a pair field."""
        return tuple(range(2, 2 + len(self.positions)))

    @cached_property
    def counts(self) -> Pairs:
        """How many pairs of positions have each displacement, `(*D)`."""
        out = np.ones(())
        for n in self.positions:
            out = np.multiply.outer(out, n - np.abs(np.arange(1 - n, n)))
        return out

    def typical(self, field: Any) -> Field:
        """The average over positions, `(E,)`."""
        field = np.broadcast_to(np.asarray(field, dtype=float), self.field_shape)
        return np.asarray(field.reshape(self.examples, -1).mean(axis=1))

    def first(self, field: Any) -> Pairs:
        """The typical value of the first sample's example."""
        return self.typical(field).reshape(-1, 1, *([1] * len(self.positions)))

    def second(self, field: Any) -> Pairs:
        return self.typical(field).reshape(1, -1, *([1] * len(self.positions)))

    def whole(self, pairs: Any) -> Pairs:
        return np.broadcast_to(np.asarray(pairs, dtype=float), self.shape)

    @property
    def centre(self) -> tuple[int, ...]:
        """Where the displacement is zero."""
        return tuple(n - 1 for n in self.positions)

    @property
    def at_centre(self) -> tuple[Any, ...]:
        """Index of the pairs at equal positions."""
        return (slice(None), slice(None), *self.centre)

    @cached_property
    def same_place(self) -> Pairs:
        out = np.zeros(self.shape)
        out[self.at_centre] = 1.0
        return out

    @cached_property
    def same_example(self) -> Pairs:
        return self.whole(np.eye(self.examples).reshape(self.examples, self.examples, *([1] * len(self.positions))))

    @cached_property
    def same(self) -> Pairs:
        return self.same_place * self.same_example

    def diagonal(self, pairs: Pairs) -> Field:
        """Samples with themselves, averaged over positions, as a field."""
        own = np.diagonal(self.whole(pairs)[self.at_centre])
        return np.broadcast_to(own.reshape(-1, *([1] * len(self.positions))), self.field_shape)

    def products(self, a: Field, b: Field) -> Pairs:
        """Average of a_e[p] b_f[p + delta] over positions, from two fields `(E, *positions)`."""
        if not self.positions:
            return np.multiply.outer(a, b)
        return self.correlated(a, b) / self.counts

    def correlated(self, a: Field, b: Field) -> Pairs:
        """The sum in place of the average."""
        axes = tuple(range(1, 1 + len(self.positions)))
        left = np.fft.rfftn(a, self.spread, axes)
        right = np.fft.rfftn(b, self.spread, axes)
        found = np.fft.irfftn(np.conj(left)[:, None] * right[None], self.spread, self.axes)
        return np.asarray(np.roll(found, [n - 1 for n in self.positions], self.axes))

    def mean_all(self, pairs: Any) -> Pairs:
        """Average over all pairs of positions, `(E, E)`."""
        weight = self.counts / self.places**2
        return np.asarray((self.whole(pairs) * weight).sum(axis=self.axes))

    def mean_same(self, pairs: Any) -> Pairs:
        """Average over equal positions, `(E, E)`."""
        return self.whole(pairs)[self.at_centre].copy()

    @property
    def upper(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pairs of examples (e, f) with e <= f."""
        return np.triu_indices(self.examples)

    def mirrored(self, upper: Pairs) -> Pairs:
        """A symmetric pair field from the pairs of examples e <= f: K(f, e, -delta) = K(e, f, delta)."""
        out = np.empty(self.shape)
        first, second = self.upper
        out[first, second] = upper
        out[second, first] = np.flip(upper, axis=tuple(range(1, 1 + len(self.positions))))
        return out

    def between(self, pairs: Pairs, size: Field, examples: int, places: tuple[int, ...]) -> Pairs:
        """Pairs of single samples `(R, R)`, where each is its displacement's average scaled by `size` at both ends."""
        if not self.positions:
            return np.array(pairs[:examples, :examples])
        where = np.stack(np.unravel_index(np.array(places), self.positions))
        apart = where[:, None, :] - where[:, :, None] + np.array(self.centre).reshape(-1, 1, 1)
        scale = self.products(size, size)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = np.where(scale > 0, pairs / scale, 0.0)[:examples, :examples]
            cosine = cosine[(slice(None), slice(None), *apart)]
        local = size.reshape(self.examples, -1)[:examples][:, list(places)]
        found = cosine * local[:, None, :, None] * local[None, :, None, :]
        return np.asarray(found.transpose(0, 2, 1, 3).reshape(examples * len(places), -1))


Layout = FullPairs | StationaryPairs
