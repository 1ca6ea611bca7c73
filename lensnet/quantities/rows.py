"""Which samples stand for a representation: the rows of the matrix whose Gram matrix is predicted and measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_ROWS = 128
"""Most rows of a sample matrix unless asked for otherwise (`--rows`)."""


@dataclass(frozen=True)
class RowSample:
    """The first `examples` examples, each at the same `places` (flat indices of positions; `(0,)` without positions).

    Rows are ordered example by example: row `e*len(places) + i` is example `e` at `places[i]`.
    """

    examples: int
    places: tuple[int, ...]

    @property
    def count(self) -> int:
        return self.examples * len(self.places)

    def split(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        """A matrix over rows `(R, R)` with its axes taken apart: `(E, k, E, k)`."""
        k = len(self.places)
        return gram.reshape(self.examples, k, self.examples, k)


@lru_cache(maxsize=256)
def row_sample(examples: int, positions: tuple[int, ...], most: int = DEFAULT_ROWS) -> RowSample:
    """At most `most` rows: examples first, then positions of each, spread over every axis of `positions`.

    Evenly spaced positions, counted row by row, can all lie in one column of an image: their distance need only be a
    multiple of its width. So the positions in the j-th row that has some are moved along it, round the end, by j times
    the golden ratio (by its generalisation in more dimensions, Roberts 2018), which spreads any number of rows evenly.
    """
    examples, count = min(examples, most), prod(positions)
    k = min(count, max(1, most // examples))
    flat = [int((i + 0.5) * count / k) for i in range(k)]
    if len(positions) < 2 or k == count:
        return RowSample(examples, tuple(flat))
    ratio = _golden(len(positions) - 1)
    prefixes = [place // prod(positions[1:]) for place in flat]
    for axis, size in enumerate(positions[1:], start=1):
        below = prod(positions[axis + 1 :])
        along = [place // below % size for place in flat]
        for rank, prefix in enumerate(sorted(set(prefixes))):
            inside = [i for i, one in enumerate(prefixes) if one == prefix]
            own = len({along[i] for i in inside})
            start = int(size / own * ((0.5 + rank * ratio**axis) % 1.0))
            first = min(along[i] for i in inside)
            for i in inside:
                along[i] = (along[i] - first + start) % size
        prefixes = [prefix * size + place for prefix, place in zip(prefixes, along, strict=True)]
    return RowSample(examples, tuple(sorted(prefixes)))


def _golden(dimensions: int) -> float:
    """1/x with x^(d+1) = x + 1: the inverse golden ratio in one dimension."""
    x = 1.5
    for _ in range(60):
        x = (1 + x) ** (1 / (dimensions + 1))
    return 1 / x
