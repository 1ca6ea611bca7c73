"""How alike the rows of a batch are: what an average over a batch leaves of the scatter of a single row.

A row is one example at one position. All rows pass through the same weights, so their second moments scatter together
where they are alike and apart where they are not. Of a layer's noise the rows have in common what two different rows
share on average; the rest is each row's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_GRID = np.linspace(-1.0, 1.0, 1025)


@dataclass(frozen=True)
class RowPairs:
    """Correlations between pairs of different rows, each with its weight in the average over the batch.

    `rows`: how many there are. `beside`: average correlation of two positions of one example. `known` is False where
    nobody could tell: the rows are then taken as equal, which gives the scatter of one row.
    """

    correlation: Array
    weight: Array
    rows: int = 1
    known: bool = True
    beside: float = 1.0

    def average(self, function: Callable[[Array], Array]) -> float:
        """Average over all pairs of different rows of a smooth function of their correlation."""
        return float(self._histogram @ function(_GRID))

    def square(self) -> float:
        """Average of the squared correlation: what two rows share of the noise of a dense layer."""
        return float(self.weight @ self.correlation**2)

    @cached_property
    def _histogram(self) -> Array:
        """Weights on a grid of correlations, linearly shared between neighbours."""
        place = (np.clip(self.correlation, -1.0, 1.0) + 1.0) / 2 * (_GRID.size - 1)
        low = np.minimum(place.astype(np.intp), _GRID.size - 2)
        part = place - low
        out = np.bincount(low, self.weight * (1 - part), _GRID.size)
        return np.asarray(out + np.bincount(low + 1, self.weight * part, _GRID.size), dtype=np.float64)


ONE_ROW = RowPairs(np.ones(1), np.ones(1))
UNKNOWN = RowPairs(np.ones(1), np.ones(1), known=False)


def pairs_of(gram: Array, examples: int, positions: int, places: int) -> RowPairs:
    """From the Gram matrix of a sample of rows to all pairs of the whole batch.

    Args:
        gram: `(R, R)`, example by example, `places` rows each; covariances of the pre-activations over neurons.
        examples, positions: of the whole batch, where a row meets `positions - 1` rows of its own example and
            `(examples - 1) * positions` of others.
    """
    count = len(gram)
    power = np.maximum(np.diagonal(gram), 0.0)
    scale = np.sqrt(np.outer(power, power))
    correlation = np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0)
    example = np.arange(count) // places
    same = example[:, None] == example[None, :]
    equal = np.eye(count, dtype=bool)
    weight = np.outer(power, power)
    weight /= weight.mean() if weight.mean() > 0 else 1.0
    parts = ((same & ~equal, positions - 1), (~same, (examples - 1) * positions))
    out = np.zeros_like(gram)
    for mask, number in parts:
        if mask.any() and number > 0:
            out[mask] = weight[mask] / mask.sum() * number
    if not out.sum() > 0:
        return UNKNOWN
    out /= out.sum()
    near = same & ~equal
    beside = float(correlation[near].mean()) if near.any() else 1.0
    return RowPairs(correlation[~equal], out[~equal], examples * positions, beside=beside)
