"""What travels on an edge of the network at the kernel level: covariances between samples, and where they come from.

state.mean                    E z over channels and weight draws, field (E, *positions)
state.pairs                   E z_a z_b for pairs of samples, in the layout `state.layout`
state.second_moment           E z_a^2, field
state.population              the Gaussian that the channels are independent draws of, and the functions since
state.rows_gram(sample)       E z_a z_b over the rows of a sample, (R, R)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.bands import BandPairs
from lensnet.levels.classes import ClassedPairs
from lensnet.levels.pairs import Field, Pairs, Samples

Matrix = NDArray[np.float64]


class Rows(Protocol):
    """Which samples are asked for: see `lensnet.quantities.rows.RowSample`."""

    @property
    def examples(self) -> int: ...
    @property
    def places(self) -> tuple[int, ...]: ...


class Nearby(Protocol):
    """Covariances of samples with others of the same example, where they are known place by place."""

    def at(self, offset: tuple[int, ...]) -> Field:
        """Of every sample with the one so far away, 0 where there is none, `(E, *positions)`."""
        ...

    def gram(self, examples: int, places: tuple[int, ...]) -> Matrix | None:
        """E z_a z_b over the first examples at some places, `(R, R)`; None where only covariances near by are known."""
        ...


class OverSamples:
    """First and second moments of channels over samples: what a state and the Gaussian behind it have in common."""

    mean: Field
    pairs: Pairs
    layout: Any
    own: Field | None

    @property
    def second_moment(self) -> Field:
        """E z_a^2, a field."""
        return self.layout.diagonal(self.pairs) if self.own is None else self.own

    @property
    def variance(self) -> Field:
        return np.maximum(self.second_moment - self.mean**2, 0.0)

    @property
    def covariance(self) -> Pairs:
        """E z_a z_b - E z_a E z_b, in the layout."""
        if not self.mean.any():
            return self.pairs
        if isinstance(self.layout, ClassedPairs):
            return np.asarray(self.pairs - self.layout.products(self.mean, self.mean))
        return self.pairs - self.layout.first(self.mean) * self.layout.second(self.mean)

    def rows_mean(self, sample: Rows) -> NDArray[np.float64]:
        """E z_a over the rows of a sample, (R,)."""
        return chosen_rows(self.layout, self.mean, sample)


@dataclass(frozen=True)
class Population(OverSamples):
    """Channels as independent draws: z_a = scale_a * f(g_a) + shift_a with g Gaussian over samples.

    `origin`: path of the component whose fresh weights made the Gaussian; `width`: how many independent channels there
    are; `terms`: how many terms each is a sum of (it is Gaussian up to O(1/terms)). `mean`, `pairs`: E g_a, a field,
    and E g_a g_b, in `layout`. `chain`: the functions since, composed to at most one. `near`: what is known place by
    place where the pairs are averages.
    """

    origin: str
    width: int
    terms: float
    mean: Field
    pairs: Pairs = field(repr=False)
    layout: Any = field(repr=False)
    chain: tuple[Any, ...] = ()
    scale: Field | float = 1.0
    shift: Field | float = 0.0
    own: Field | None = field(default=None, repr=False)
    near: Nearby | None = field(default=None, repr=False)

    @property
    def plain(self) -> bool:
        """Whether the channels are the Gaussian itself, up to one factor per sample."""
        return not self.chain

    def rows_covariance(self, sample: Rows) -> Matrix:
        """Cov(g_a, g_b) over the rows of a sample, (R, R)."""
        if isinstance(self.layout, ClassedPairs):
            gram = self.layout.between(self.pairs, np.sqrt(self.second_moment), sample.examples, sample.places)
            mean = self.rows_mean(sample)
            return np.asarray(gram - np.outer(mean, mean))
        return np.asarray(self.layout.chosen(self.covariance, sample.examples, sample.places))


@dataclass(frozen=True)
class Covariance(OverSamples):
    """The kernel state of one edge. `population` is None where the channels are not known to be functions of a
    Gaussian; `own`: second moments where the pairs do not tell them (displacements only).
    """

    mean: Field
    pairs: Pairs = field(repr=False)
    layout: Any = field(repr=False)
    population: Population | None = field(default=None, repr=False)
    own: Field | None = field(default=None, repr=False)

    def rows_gram(self, sample: Rows) -> Matrix | None:
        """E z_a z_b over the rows of a sample, (R, R); None where the layout cannot tell."""
        if sample.examples > self.layout.examples or max(sample.places) >= self.layout.places:
            return None
        if isinstance(self.layout, ClassedPairs):
            near = self.population.near if self.population is not None and self.population.plain else None
            exact = near.gram(sample.examples, sample.places) if near is not None else None
            return self.by_class(sample) if exact is None else exact
        return np.asarray(self.layout.chosen(self.pairs, sample.examples, sample.places))

    def by_class(self, sample: Rows) -> Matrix:
        """The same where pairs are known by class: each as its class has it."""
        size = np.sqrt(self.second_moment)
        return np.asarray(self.layout.between(self.pairs, size, sample.examples, sample.places))

    def follows(self, sample: Rows) -> bool:
        """Whether every pair of places of a sample is followed, or stands in for by a rule of the layout."""
        return not isinstance(self.layout, BandPairs) or self.layout.follows(sample.places)


def chosen_rows(layout: Samples, values: Field, sample: Rows) -> NDArray[np.float64]:
    """A field at the rows of a sample, (R,)."""
    flat = np.broadcast_to(values, layout.field_shape).reshape(layout.examples, -1)
    return flat[: sample.examples][:, list(sample.places)].reshape(-1).copy()
