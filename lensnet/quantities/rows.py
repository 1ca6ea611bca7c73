"""Which samples stand for a representation: the rows of the matrix whose Gram matrix is predicted and measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
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
def row_sample(examples: int, positions: int, most: int = DEFAULT_ROWS) -> RowSample:
    """At most `most` rows out of `examples` x `positions`: examples first, then evenly spaced positions of each."""
    examples = min(examples, most)
    k = min(positions, max(1, most // examples))
    return RowSample(examples, tuple(int((i + 0.5) * positions / k) for i in range(k)))
