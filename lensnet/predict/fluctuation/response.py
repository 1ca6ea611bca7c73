"""How the logarithm of a second moment responds to the noise that the weights of each component bring in.

Every component with random weights (and every activation) is a *source*: an independent random factor near 1. At each
edge ln Q is a weighted sum of the sources' logarithms; the weights are elasticities, 1 along a homogeneous chain, 0
behind a normalisation, a share below 1 where a branch joins. Sources that reach an edge along two paths add as
amplitudes, which is what separates a residual network from a sum of independent parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lensnet.predict.fluctuation.log_law import LogLaw

Array = NDArray[np.float64]


class Sources:
    """The sources of a network: the law of each, averaged over the batch, and for a single row."""

    def __init__(self, most: int) -> None:
        self.names: list[tuple[str, str]] = []
        self._batch = np.zeros((most, 4))
        self._row = np.zeros((most, 4))

    @property
    def most(self) -> int:
        return len(self._batch)

    def add(self, path: str, kind: str, batch: LogLaw, row: LogLaw) -> Array:
        """A new source; returns the gains of an edge that sees it alone, undiminished."""
        index = len(self.names)
        self.names.append((path, kind))
        self._batch[index], self._row[index] = batch.cumulants, row.cumulants
        gains = np.zeros(self.most)
        gains[index] = 1.0
        return gains

    def law(self, response: Response) -> LogLaw:
        """The law of ln Q relative to the infinitely wide network."""
        powers = response.gains[:, None] ** np.arange(1, 5)
        mean, variance, third, fourth = (float(value) for value in np.sum(powers * self._batch, axis=0))
        return LogLaw(mean + response.shift, variance, third, fourth)

    def variance(self, gains: Array) -> float:
        """Of the batch average."""
        return float(gains**2 @ self._batch[:, 1])

    def row_variance(self, gains: Array) -> float:
        """Of a single row."""
        return float(gains**2 @ self._row[:, 1])

    def covariance(self, first: Array, second: Array) -> float:
        return float((first * second) @ self._batch[:, 1])


@dataclass(frozen=True)
class Response:
    """Of one edge: `gains` (sources,), and `shift`, what curvature moves in the mean of ln Q (order 1/width)."""

    gains: Array
    shift: float = 0.0
    trusted: bool = True
    doubts: tuple[str, ...] = field(default=())

    def passed(self, elasticity: float, shift: float = 0.0) -> Response:
        """Behind a component with this elasticity d ln Q_out/d ln Q_in."""
        return Response(elasticity * self.gains, elasticity * self.shift + shift, self.trusted, self.doubts)
