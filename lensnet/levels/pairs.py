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
Mode = Literal["full", "banded", "stationary", "averaged"]


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
