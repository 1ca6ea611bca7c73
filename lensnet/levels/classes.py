"""Pairs of positions sorted into classes, of which only the average is known: by displacement, or same and different.

What differs from place to place (dark rims, bright patches) is kept in fields beside it: a single pair is its class's
average correlation times the sizes at both ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.pairs import Field, Mode, Pairs, Samples


@dataclass(frozen=True)
class ClassedPairs(Samples):
    """A pair field is `(E, E, *classes)`: averages over the pairs of positions of two examples, class by class."""

    mode: Mode

    @property
    def classes(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def centre(self) -> tuple[int, ...]:
        """The class of equal positions."""
        raise NotImplementedError

    @property
    def counts(self) -> Pairs:
        """How many pairs of positions a class has, `(*classes)`."""
        raise NotImplementedError

    def correlated(self, fields: Iterable[tuple[Field, Field]]) -> Pairs:
        """Sum over the pairs of a class of a_e[p] b_f[p'], added up over couples of fields `(E, *positions)`."""
        raise NotImplementedError

    def moved(self, pairs: Pairs, made: Any, stride: tuple[int, ...], circular: bool) -> Pairs:
        """The classes of `made` read at the pairs that its positions stand for: p and p' at stride times as much."""
        raise NotImplementedError

    def apart(
        self, pairs: Pairs, made: Any, stride: tuple[int, ...], offset: tuple[int, ...], left: Field, right: Field
    ) -> Pairs:
        """Sum over the pairs (p, p') of a class of `made` of left_e[p] right_f[p'] times the pairs of this layout that
        lie stride*(p' - p) + offset apart."""
        raise NotImplementedError

    def at(self, pairs: Pairs, offsets: NDArray[np.int64]) -> Pairs:
        """Pairs at displacements `(..., axes)`: `(E, E, ...)`."""
        raise NotImplementedError

    def steps(self) -> NDArray[np.int64]:
        """A displacement for each class, `(classes, axes)`; of different positions one that reaches across."""
        raise NotImplementedError

    def mirrored(self, upper: Pairs) -> Pairs:
        """A symmetric pair field from the pairs of examples e <= f (`upper`, `(n, *classes)`)."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.examples, self.examples, *self.classes)

    @property
    def axes(self) -> tuple[int, ...]:
        """The class axes of a pair field."""
        return tuple(range(2, 2 + len(self.classes)))

    @property
    def tail(self) -> tuple[int, ...]:
        """Ones for the class axes: what a table over pairs of examples is reshaped with to broadcast."""
        return (1,) * len(self.classes)

    def typical(self, field: Any) -> Field:
        """The average over positions, `(E,)`."""
        field = np.broadcast_to(np.asarray(field, dtype=float), self.field_shape)
        return np.asarray(field.reshape(self.examples, -1).mean(axis=1))

    def first(self, field: Any) -> Pairs:
        """The typical value of the first sample's example."""
        return self.typical(field).reshape(-1, 1, *self.tail)

    def second(self, field: Any) -> Pairs:
        return self.typical(field).reshape(1, -1, *self.tail)

    def whole(self, pairs: Any) -> Pairs:
        return np.broadcast_to(np.asarray(pairs, dtype=float), self.shape)

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
        return self.whole(np.eye(self.examples).reshape(self.examples, self.examples, *self.tail))

    @cached_property
    def same(self) -> Pairs:
        return self.same_place * self.same_example

    def diagonal(self, pairs: Pairs) -> Field:
        """Samples with themselves, averaged over positions, as a field."""
        own = np.diagonal(self.whole(pairs)[self.at_centre])
        return np.broadcast_to(own.reshape(-1, *([1] * len(self.positions))), self.field_shape)

    def products(self, a: Field, b: Field) -> Pairs:
        """Average of a_e[p] b_f[p'] over the pairs of a class, from two fields `(E, *positions)`."""
        if not self.positions:
            return np.multiply.outer(a, b)
        return self.correlated([(a, b)]) / np.maximum(self.counts, 1.0)

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

    def cosines(self, pairs: Pairs, size: Field) -> Pairs:
        """Pairs over the average product of the sizes (root mean squares, a field) at both ends."""
        scale = self.products(size, size)
        return np.divide(self.whole(pairs), scale, out=np.zeros(self.shape), where=scale > 0)

    def between(self, pairs: Pairs, size: Field, examples: int, places: tuple[int, ...]) -> Pairs:
        """Pairs of single samples `(R, R)`, where each is its class's average scaled by `size` at both ends."""
        if not self.positions:
            return np.array(pairs[:examples, :examples])
        where = np.stack(np.unravel_index(np.array(places), self.positions), axis=-1)
        cosine = self.at(self.cosines(pairs, size)[:examples, :examples], where[None, :] - where[:, None])
        local = size.reshape(self.examples, -1)[:examples][:, list(places)]
        found = cosine * local[:, None, :, None] * local[None, :, None, :]
        return np.asarray(found.transpose(0, 2, 1, 3).reshape(examples * len(places), -1))


@dataclass(frozen=True)
class StationaryPairs(ClassedPairs):
    """By displacement: axis i of the classes has 2 n_i - 1 entries, for delta_i from -(n_i - 1) to n_i - 1."""

    mode: Mode = "stationary"

    @property
    def classes(self) -> tuple[int, ...]:
        return tuple(2 * n - 1 for n in self.positions)

    @property
    def centre(self) -> tuple[int, ...]:
        return tuple(n - 1 for n in self.positions)

    @cached_property
    def counts(self) -> Pairs:
        out = np.ones(())
        for n in self.positions:
            out = np.multiply.outer(out, n - np.abs(np.arange(1 - n, n)))
        return out

    def correlated(self, fields: Iterable[tuple[Field, Field]]) -> Pairs:
        axes = tuple(range(1, 1 + len(self.positions)))
        size = [_fast(n) for n in self.classes]
        total: Any = 0.0
        for a, b in fields:
            left = np.fft.rfftn(a, size, axes)
            right = left if b is a else np.fft.rfftn(b, size, axes)
            total = total + np.conj(left)[:, None] * right[None]
        found = np.fft.irfftn(total, size, self.axes)
        for axis, (n, whole) in zip(self.axes, zip(self.positions, size, strict=True), strict=True):
            found = np.take(found, np.arange(1 - n, n) % whole, axis=axis)
        return np.asarray(found)

    def moved(self, pairs: Pairs, made: Any, stride: tuple[int, ...], circular: bool) -> Pairs:
        return self._read(pairs, made, stride, (0,) * len(self.positions), circular)

    def apart(
        self, pairs: Pairs, made: Any, stride: tuple[int, ...], offset: tuple[int, ...], left: Field, right: Field
    ) -> Pairs:
        return self._read(pairs, made, stride, offset) * made.correlated([(left, right)])

    def _read(
        self, pairs: Pairs, made: Any, stride: tuple[int, ...], offset: tuple[int, ...], circular: bool = False
    ) -> Pairs:
        for axis, (n, out) in enumerate(zip(self.positions, made.positions, strict=True)):
            apart = np.arange(1 - out, out) * stride[axis] + offset[axis]
            apart = (apart + n // 2) % n - n // 2 if circular else np.clip(apart, 1 - n, n - 1)
            pairs = np.take(pairs, apart + n - 1, axis=2 + axis)
        return pairs

    def at(self, pairs: Pairs, offsets: NDArray[np.int64]) -> Pairs:
        limit = np.array(self.positions) - 1
        index = np.clip(offsets, -limit, limit) + limit
        return np.asarray(pairs[(slice(None), slice(None), *np.moveaxis(index, -1, 0))])

    def steps(self) -> NDArray[np.int64]:
        axes = np.meshgrid(*(np.arange(1 - n, n) for n in self.positions), indexing="ij")
        return np.stack(axes, axis=-1).reshape(-1, len(axes))

    def mirrored(self, upper: Pairs) -> Pairs:
        """K(f, e, -delta) = K(e, f, delta)."""
        out = np.empty(self.shape)
        first, second = self.upper
        out[first, second] = upper
        out[second, first] = np.flip(upper, axis=tuple(range(1, 1 + len(self.positions))))
        return out


@dataclass(frozen=True)
class AveragedPairs(ClassedPairs):
    """Two numbers for every two examples: the average over equal positions, and over pairs of different ones.

    No classes where there is one position alone.
    """

    mode: Mode = "averaged"

    @property
    def classes(self) -> tuple[int, ...]:
        return (2,) if self.positions else ()

    @property
    def centre(self) -> tuple[int, ...]:
        return (0,) if self.positions else ()

    @cached_property
    def counts(self) -> Pairs:
        return np.array([self.places, self.places**2 - self.places], dtype=float) if self.positions else np.ones(())

    def correlated(self, fields: Iterable[tuple[Field, Field]]) -> Pairs:
        total = np.zeros(self.shape)
        for a, b in fields:
            a, b = (np.broadcast_to(x, self.field_shape).reshape(self.examples, -1) for x in (a, b))
            same = a @ b.T
            total[..., 0] += same
            total[..., 1] += np.multiply.outer(a.sum(axis=1), b.sum(axis=1)) - same
        return total

    def moved(self, pairs: Pairs, made: Any, stride: tuple[int, ...], circular: bool) -> Pairs:
        return pairs

    def apart(
        self, pairs: Pairs, made: Any, stride: tuple[int, ...], offset: tuple[int, ...], left: Field, right: Field
    ) -> Pairs:
        out = pairs[..., 1, None] * made.correlated([(left, right)])
        steps = [divmod(-by, step) for by, step in zip(offset, stride, strict=True)]
        if any(rest for _, rest in steps):
            return np.asarray(out)
        move = [whole for whole, _ in steps]  # here two different outputs see one and the same position
        to = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(move, made.positions, strict=True))
        source = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(move, made.positions, strict=True))
        if any(part.stop <= part.start for part in to):
            return np.asarray(out)
        here, there = left[(slice(None), *to)], right[(slice(None), *source)]
        met = here.reshape(self.examples, -1) @ there.reshape(self.examples, -1).T
        out[..., int(any(move))] += (pairs[..., 0] - pairs[..., 1]) * met
        return np.asarray(out)

    def at(self, pairs: Pairs, offsets: NDArray[np.int64]) -> Pairs:
        return np.asarray(pairs[:, :, np.any(offsets != 0, axis=-1).astype(int)])

    def steps(self) -> NDArray[np.int64]:
        return np.array([[0] * len(self.positions), list(self.positions)])

    def mirrored(self, upper: Pairs) -> Pairs:
        out = np.empty(self.shape)
        first, second = self.upper
        out[first, second] = out[second, first] = upper
        return out


def _fast(n: int) -> int:
    """The next length whose Fourier transform is quick: without a prime factor above 5."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1
