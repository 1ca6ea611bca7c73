"""How the logarithm of a second moment responds to the noise that the weights of each component bring in.

Every component with random weights (and every activation) is a *source*: an independent random factor near 1. At each
edge ln Q is a weighted sum of the sources' logarithms; the weights are elasticities, 1 along a homogeneous chain, 0
behind a normalisation, a share below 1 where a branch joins. Sources that reach an edge along two paths add as
amplitudes, which is what separates a residual network from a sum of independent parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from lensnet.predict.fluctuation.log_law import LogLaw, average_of

Array = NDArray[np.float64]

FORGOTTEN = 1e-3
"""Elasticity below which nothing of what came before is left."""


class Sources:
    """The sources of a network: the law of each for a single row, and the part that all rows have in common."""

    def __init__(self, most: int) -> None:
        self.names: list[tuple[str, str]] = []
        self._common = np.zeros((most, 4))
        self._row = np.zeros((most, 4))
        self._turned = np.zeros(most)
        self._coupled: list[tuple[int, int, float, float]] = []

    @property
    def most(self) -> int:
        return len(self._row)

    def add(self, path: str, kind: str, row: LogLaw, share: float, turned: float = 0.0) -> Array:
        """A new source, of which two different rows share so much of the variance; returns the gains of an edge that
        sees it alone, undiminished.

        `turned`: the part of the variance that rows do not share only because they point elsewhere.
        """
        index = len(self.names)
        self.names.append((path, kind))
        self._row[index] = row.cumulants
        common = min(max(share, 0.0), 1.0)
        self._common[index] = row.averaged(common).cumulants
        self._turned[index] = row.variance * min(max(turned, 0.0), 1.0 - common)
        gains = np.zeros(self.most)
        gains[index] = 1.0
        return gains

    def couple(self, first: int, second: int, row: float, common: float) -> None:
        """Two sources that vary together: their covariance for one row, and between two different rows."""
        self._coupled.append((first, second, row, common))

    def index(self, path: str, kind: str) -> int | None:
        """Where the source of this name is; None where there is none."""
        return self.names.index((path, kind)) if (path, kind) in self.names else None

    def row(self, index: int) -> LogLaw:
        """The law of one source for a single row."""
        return LogLaw(*(float(value) for value in self._row[index]))

    def law(self, response: Response, rows: int) -> LogLaw:
        """The law of ln Q relative to the infinitely wide network, Q averaged over so many rows."""
        powers = response.gains[:, None] ** np.arange(1, 5)
        mean, _, third, fourth = (float(value) for value in np.sum(powers * self._common, axis=0))
        common = LogLaw(mean, max(self.common_variance(response.gains), 0.0), third, fourth)
        left = np.broadcast_to(1.0 / np.asarray(response.inside), self.most)[:, None] ** np.array([1, 1, 2, 3])
        own = LogLaw(*(float(value) for value in np.sum(powers * (self._row - self._common) * left, axis=0)))
        own = own + LogLaw(0.0, max(self._together(response.gains), -own.variance))
        turned = float(response.gains**2 @ (self._turned * left[:, 1])) / own.variance if own.variance > 0 else 0.0
        return common + average_of(own, rows, turned) + LogLaw(response.shift)

    def variance(self, response: Response, rows: int = 1) -> float:
        """Of ln Q averaged over so many rows, to leading order; of a single row by default."""
        own = response.gains**2 @ ((self._row[:, 1] - self._common[:, 1]) / response.inside)
        return self.common_variance(response.gains) + (float(own) + self._together(response.gains)) / rows

    def gathered(self, response: Response, share: float, ratio: float) -> tuple[float, Array]:
        """Where rows are averages over rows of which two shared `share` of a dense layer's noise: what they then have
        in common of their own noise, `ratio` of what is shared like that and less of what is shared less; and what
        becomes of `Response.inside`."""
        row, common = self._row[:, 1], self._common[:, 1]
        alike = np.divide(common, row, out=np.zeros_like(row), where=row > 0) / max(share, 1e-12)
        part = np.clip(ratio, 0.0, 1 - 1e-6) * np.minimum(alike, 1.0)
        own = response.gains**2 * np.maximum(row - common, 0.0) / np.asarray(response.inside)
        return float(own @ part), np.asarray(response.inside) / (1 - part)

    def apart(self, response: Response, rows: int) -> float:
        """Variance of ln Q of a single row that different rows do not share; 0 for one row."""
        return 0.0 if rows < 2 else self.variance(response) - self.common_variance(response.gains)

    def common_variance(self, gains: Array) -> float:
        both = sum(2 * gains[i] * gains[j] * common for i, j, _, common in self._coupled)
        return float(gains**2 @ self._common[:, 1] + both)

    def _together(self, gains: Array) -> float:
        """What coupled sources add to a row's own variance."""
        return sum(2 * float(gains[i] * gains[j]) * (row - common) for i, j, row, common in self._coupled)


@dataclass(frozen=True)
class Response:
    """Of one edge.

    gains: (sources,) elasticities of ln Q to each source.
    shift: what curvature moves in the mean of ln Q (order 1/width).
    width: of the narrowest layer whose noise arrives here.
    bent: by how much of itself the elasticity of the whole way here changes within one standard deviation.
    inside: rows that a row here was made of, by source, `(sources,)`: over them its own part is an average.
    doubts: what is not known on the way here, one sentence each.
    """

    gains: Array
    shift: float = 0.0
    width: float = inf
    bent: float = 0.0
    inside: Array | float = 1.0
    doubts: tuple[str, ...] = ()

    def passed(self, elasticity: float, shift: float = 0.0, bent: float = 0.0) -> Response:
        """Behind a component with this elasticity d ln Q_out/d ln Q_in; what is scale-invariant forgets everything."""
        if abs(elasticity) < FORGOTTEN:
            return Response(elasticity * self.gains, elasticity * self.shift + shift)
        return replace(
            self,
            gains=elasticity * self.gains,
            shift=elasticity * self.shift + shift,
            bent=self.bent + bent,
        )

    def moved(self, shift: float) -> Response:
        """With another mean."""
        return replace(self, shift=self.shift + shift) if shift else self

    def gathered(self, rows: float) -> Response:
        """Where one row is made of so many."""
        if rows == 1:
            return self
        return replace(self, inside=np.where(self.gains != 0, rows * np.asarray(self.inside), self.inside))

    def with_noise(self, gains: Array, width: float, doubts: Iterable[str] = ()) -> Response:
        """With a new source of its own, brought in by a layer of this width."""
        known = tuple(dict.fromkeys((*self.doubts, *doubts)))
        return replace(self, gains=self.gains + gains, width=min(self.width, width), doubts=known)


def met(responses: Sequence[Response], shares: Sequence[float], shift: float = 0.0) -> Response:
    """Where several edges meet, each with its share (its elasticity)."""
    parts = [response.passed(share) for response, share in zip(responses, shares, strict=True)]
    return Response(
        np.sum([part.gains for part in parts], axis=0),
        sum(part.shift for part in parts) + shift,
        min(part.width for part in parts),
        max((part.bent for part in parts), key=abs),
        np.max([np.broadcast_to(part.inside, part.gains.shape) for part in parts], axis=0),
        tuple(dict.fromkeys(doubt for part in parts for doubt in part.doubts)),
    )
