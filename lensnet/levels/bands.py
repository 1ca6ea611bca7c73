"""Covariances of those displacements only that later components ask for: exact at a fraction of the pairs.

A convolution takes pairs of samples a displacement delta apart to pairs delta/stride apart, a pool adds what lies
inside its window, and a head that flattens asks for equal positions alone. So of the (HW)^2 pairs few are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.pairs import Field, Mode, Pairs, Samples

Displacements = NDArray[np.int64]
"""Rows of integers, `(D, axes)`, sorted, without repetition, with each its negative."""


AT_ONCE = 1 << 17
"""Pairs that are worked out together: what is made on the way is a few dozen times that."""


def displacement_set(rows: Any, positions: tuple[int, ...]) -> Displacements:
    """Sorted, unique, within a grid of these positions, with zero and every negative."""
    rows = np.asarray(rows, dtype=np.int64).reshape(-1, len(positions))
    rows = np.concatenate([rows, -rows, np.zeros((1, len(positions)), np.int64)])
    return np.unique(rows[np.all(np.abs(rows) < np.array(positions), axis=1)], axis=0)


def every_displacement(positions: tuple[int, ...]) -> Displacements:
    axes = np.meshgrid(*(np.arange(1 - n, n) for n in positions), indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, len(positions))


@dataclass(frozen=True, eq=False)
class BandPairs(Samples):
    """Chosen displacements at every position: a pair field is `(E, E, D, *positions)`.

    Entry [e, f, d, p] is the pair of example e at p with example f at p + displacements[d]; 0 where that is outside.
    """

    displacements: Displacements
    mode: Mode = "banded"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BandPairs) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def key(self) -> tuple[int, tuple[int, ...], bytes]:
        return self.examples, self.positions, self.displacements.tobytes()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.examples, self.examples, len(self.displacements), *self.positions)

    @cached_property
    def index(self) -> dict[tuple[int, ...], int]:
        """Where a displacement stands."""
        return {tuple(int(x) for x in row): place for place, row in enumerate(self.displacements)}

    @property
    def centre(self) -> int:
        return self.index[(0,) * len(self.positions)]

    @cached_property
    def inside(self) -> Pairs:
        """1 where p + delta is a position, `(D, *positions)`."""
        return self._shifted(np.ones(self.positions), 0.0)

    @property
    def complete(self) -> bool:
        return len(self.displacements) == prod(2 * n - 1 for n in self.positions)

    def halves(self, most: int = 0) -> Iterator[tuple[slice, BandPairs]]:
        """Of every displacement and its negative one, as many at a time as make `most` numbers (or `AT_ONCE`, if that
        is more); zero too."""
        count = max(1, max(most, AT_ONCE) * len(self.displacements) // prod(self.shape))
        for start in range(0, self.centre + 1, count):
            part = slice(start, min(start + count, self.centre + 1))
            yield part, BandPairs(self.examples, self.positions, self.displacements[part])

    def mirror(self, pairs: Pairs) -> None:
        """Write the pairs of opposite displacements over those behind the centre: samples exchanged."""
        for d, row in enumerate(self.displacements[: self.centre]):
            to, source = overlap(row, self.positions)
            back = self.index[tuple(-int(x) for x in row)]
            pairs[pairs_at(back, source)] = pairs[pairs_at(d, to)].swapaxes(0, 1)

    def field(self, field: Any) -> Field:
        field = np.asarray(field, dtype=float)
        if field.ndim == 1:
            field = field.reshape(-1, *([1] * len(self.positions)))
        return np.broadcast_to(field, self.field_shape)

    def flat(self, field: Any) -> Field:
        """A field as a vector over samples, `(N,)`."""
        return self.field(field).reshape(-1)

    def first(self, field: Any) -> Pairs:
        """A field as seen by the first sample of a pair, ready to broadcast."""
        return self.field(field)[:, None, None]

    def second(self, field: Any) -> Pairs:
        return np.stack([self._shifted(one, 1.0) for one in self.field(field)])[None]

    def _shifted(self, field: Field, outside: float) -> Pairs:
        """field[p + delta]: `(*positions)` -> `(D, *positions)`."""
        out = np.full((len(self.displacements), *self.positions), outside)
        for d, row in enumerate(self.displacements):
            to, source = overlap(row, self.positions)
            here: Any = (d, *to)
            out[here] = field[source]
        return out

    def whole(self, pairs: Any) -> Pairs:
        """Anything that broadcasts, as a pair field of full shape, 0 outside."""
        return np.where(self.inside > 0, np.broadcast_to(np.asarray(pairs, dtype=float), self.shape), 0.0)

    def transposed(self, pairs: Pairs) -> Pairs:
        """First and second sample exchanged."""
        out = np.zeros(self.shape)
        pairs = np.broadcast_to(pairs, self.shape)
        for d, row in enumerate(self.displacements):
            to, source = overlap(row, self.positions)
            back = self.index[tuple(-int(x) for x in row)]
            out[pairs_at(d, to)] = pairs[pairs_at(back, source)].swapaxes(0, 1)
        return out

    @cached_property
    def same_place(self) -> Pairs:
        """1 for two samples at equal positions."""
        out = np.zeros((1, 1, *self.shape[2:]))
        out[:, :, self.centre] = 1.0
        return out

    @cached_property
    def same_example(self) -> Pairs:
        return np.eye(self.examples).reshape(self.examples, self.examples, *([1] * (1 + len(self.positions))))

    @cached_property
    def same(self) -> Pairs:
        return self.same_place * self.same_example

    def diagonal(self, pairs: Pairs) -> Field:
        """The numbers of samples with themselves, as a field."""
        pairs = np.broadcast_to(pairs, self.shape)
        return np.stack([pairs[e, e, self.centre] for e in range(self.examples)])

    def with_diagonal(self, pairs: Pairs, field: Field) -> Pairs:
        out = self.whole(pairs)
        for e, own in enumerate(self.field(field)):
            out[e, e, self.centre] = own
        return out

    def chosen_from(self, pairs: Pairs, other: BandPairs) -> Pairs:
        """The displacements of another layout out of a pair field of this one."""
        if self == other:
            return pairs
        where = [self.index[tuple(int(x) for x in row)] for row in other.displacements]
        return np.broadcast_to(pairs, self.shape)[:, :, where]

    def holds(self, other: BandPairs) -> bool:
        return all(tuple(int(x) for x in row) in self.index for row in other.displacements)

    def chosen(self, pairs: Pairs, examples: int, places: tuple[int, ...]) -> Pairs:
        """The rows and columns of the first `examples` at these places, `(R, R)`.

        What is not followed takes the correlation, averaged over positions, of the nearest displacement that is.
        """
        pairs = np.broadcast_to(np.asarray(pairs, dtype=float), self.shape)
        rows = (np.arange(examples)[:, None] * self.places + np.array(places)).ravel()
        slots = self.slots(rows[:, None], rows[None, :])
        table = pairs.reshape(-1)[slots]
        if np.all(slots >= 0):
            return np.asarray(table)
        pairs = self.whole(pairs)
        size = np.sqrt(np.maximum(self.diagonal(pairs), 0.0))
        axes = tuple(range(3, pairs.ndim))
        scale = (self.first(size) * self.second(size)).sum(axis=axes)
        cosine = np.divide(pairs.sum(axis=axes), scale, out=np.zeros(scale.shape), where=scale > 0)
        (e, p), (f, q) = np.divmod(rows, self.places), np.divmod(rows, self.places)
        where = [np.stack(np.unravel_index(at, self.positions), axis=-1) for at in (p, q)]
        apart = (where[1][None, :] - where[0][:, None]).reshape(-1, len(self.positions))
        unique, inverse = np.unique(apart, axis=0, return_inverse=True)
        near = np.array([((self.displacements - row) ** 2).sum(axis=1).argmin() for row in unique])[inverse.ravel()]
        local = size.reshape(-1)[rows]
        filled = cosine[e[:, None], f[None, :], near.reshape(table.shape)] * local[:, None] * local[None, :]
        return np.asarray(np.where(slots >= 0, table, filled))

    def follows(self, places: tuple[int, ...]) -> bool:
        """Whether every pair of these places is followed."""
        rows = np.array(places)
        return bool(np.all(self.slots(rows[:, None], rows[None, :]) >= 0))

    @cached_property
    def _table(self) -> NDArray[np.intp]:
        """Displacement -> its place, by displacement + n - 1; -1 where it is not followed."""
        out = np.full([2 * n - 1 for n in self.positions], -1, dtype=np.intp)
        out[tuple((self.displacements + np.array(self.positions) - 1).T)] = np.arange(len(self.displacements))
        return out

    def slots(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where pairs of samples stand in a pair field laid flat; -1 for pairs that are not followed."""
        (e, p), (f, q) = (np.divmod(samples, self.places) for samples in (first, second))
        apart = zip(self._places(p), self._places(q), self.positions, strict=True)
        found = self._table[tuple(b - a + n - 1 for a, b, n in apart)]
        at = ((e * self.examples + f) * len(self.displacements) + found) * self.places + p
        return np.asarray(np.where(found >= 0, at, -1))

    def _places(self, flat: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Coordinates of flat positions (`numpy.unravel_index` 2.4 errs on large arrays in transposed order)."""
        out = []
        for n in reversed(self.positions):
            flat, rest = np.divmod(flat, n)
            out.append(rest)
        return out[::-1]

    def unordered(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """All pairs of samples that are followed, each once, with itself too."""
        at = np.arange(self.places).reshape(self.positions)
        firsts, seconds = [], []
        for d, row in enumerate(self.displacements):
            if d > self.centre:
                continue
            to, source = overlap(row, self.positions)
            for e in range(self.examples):
                for f in range(e if d == self.centre else 0, self.examples):
                    firsts.append((e * self.places + at[to]).ravel())
                    seconds.append((f * self.places + at[source]).ravel())
        return np.concatenate(firsts), np.concatenate(seconds)

    def mean_same(self, pairs: Any) -> Pairs:
        """Average over equal positions, `(E, E)`."""
        at = self.whole(pairs)[:, :, self.centre]
        return np.asarray(at.reshape(self.examples, self.examples, -1).mean(axis=2))

    def mean_all(self, pairs: Any) -> Pairs:
        """Average over all pairs of positions, `(E, E)`: of those that are followed, unequal ones standing for all."""
        return np.asarray(self.mean_second(pairs).reshape(self.examples, self.examples, -1).mean(axis=2))

    def mean_second(self, pairs: Any) -> Pairs:
        """Average over the positions of the second sample, `(E, E, *positions)`, unequal ones standing for all."""
        pairs = self.whole(pairs)
        own = pairs[:, :, self.centre]
        others = self.inside.sum(axis=0) - 1.0
        found = (pairs.sum(axis=2) - own) / np.maximum(others, 1.0)
        return np.asarray(own / self.places + found * (1 - 1 / self.places))

    def to_full(self, pairs: Any) -> Pairs:
        """The matrix `(N, N)` of a complete band."""
        rows = np.arange(self.count)
        return np.asarray(self.whole(pairs).reshape(-1)[self.slots(rows[:, None], rows[None, :])])

    def from_full(self, matrix: Pairs) -> Pairs:
        split = matrix.reshape(self.examples, self.places, self.examples, self.places)
        at = np.arange(self.places).reshape(self.positions)
        out = np.zeros(self.shape)
        for d, row in enumerate(self.displacements):
            to, source = overlap(row, self.positions)
            out[pairs_at(d, to)] = split[:, at[to], :, at[source]].transpose(-2, -1, *range(len(self.positions)))
        return out


def pairs_at(place: int, positions: Any) -> Any:
    """Index of a pair field: one displacement, some positions, all pairs of examples."""
    return (slice(None), slice(None), place, *positions)


def overlap(row: Any, positions: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where p and p + delta are both positions: slices of p, and of p + delta."""
    to, source = [], []
    for step, n in zip(row, positions, strict=True):
        step = int(step)
        to.append(slice(max(0, -step), min(n, n - step)))
        source.append(slice(max(0, step), min(n, n + step)))
    return tuple(to), tuple(source)
