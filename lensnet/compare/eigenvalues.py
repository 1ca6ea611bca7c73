"""Eigenvalues of the sample matrix of one output: the predicted density beside those of measured draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMALLEST = 1e-6
"""Eigenvalues below this part of the largest are rounding noise of float32."""

FAINT = 0.01
"""Density, against its largest, from which on it is shown."""


@dataclass(frozen=True)
class Eigenvalues:
    """What is known of the eigenvalues of G = Z Z^T/d at one output.

    Attributes:
        component: path.
        rows, channels: of Z.
        x: ascending, where the predicted density is known; empty where nothing is predicted.
        density: eigenvalues per unit of ln x.
        infinite: eigenvalues at infinite width.
        measured: `(R,)` of every draw.
        smallest: below this part of the largest they are rounding noise and not shown.
    """

    component: str
    rows: int
    channels: int
    x: Array
    density: Array
    infinite: Array
    measured: tuple[Array, ...]
    smallest: float = SMALLEST

    def edges(self, bins: int) -> Array:
        """Ends of `bins` intervals of equal ratio that hold what is predicted and measured; empty without any."""
        seen = [self.x[self.density > FAINT * self.density.max(initial=0.0)], *self.measured]
        values = self._shown(np.concatenate(seen))
        if not values.size:
            return np.zeros(0)
        return np.geomspace(values.min() / 1.02, values.max() * 1.02, bins + 1)

    def predicted_counts(self, edges: Array) -> Array | None:
        """Expected number of eigenvalues between the edges, `(bins,)`."""
        if not self.x.size:
            return None
        along = np.log(self.x)
        steps = (self.density[1:] + self.density[:-1]) / 2 * np.diff(along)
        below = np.concatenate([[0.0], np.cumsum(steps)])
        return np.diff(np.interp(np.log(edges), along, below))

    def measured_counts(self, edges: Array) -> tuple[Array, Array] | None:
        """Mean over draws and its standard error, `(bins,)` each; None without draws. One draw has no error (0)."""
        if not self.measured:
            return None
        counts = np.array([np.histogram(self._shown(draw), edges)[0] for draw in self.measured], dtype=float)
        spread = counts.std(axis=0, ddof=1) / np.sqrt(len(counts)) if len(counts) > 1 else np.zeros(counts.shape[1])
        return counts.mean(axis=0), spread

    def _shown(self, values: Array) -> Array:
        return values[values > self.smallest * values.max(initial=0.0)]
