"""Distributions that are not a Gaussian pushed through functions, as averages of pointwise functions see them.

Two are known beyond `Law`. What a batch norm divides by the spread of its own channel lies on a sphere, not in a
Gaussian: with few independent terms in that spread, extreme values are rarer. And where a pushforward meets an
independent Gaussian (a rectified skip, a branch that ends in fresh weights), the sum is a mixture of Gaussians.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from lensnet.algebra.gaussian import Expectation, GaussianMoments, expect
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.catalog.effects import relative_slack
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Law
from lensnet.predict.prediction import Check

_NODES = 16
"""Gauss-Legendre nodes between two kinks."""
_REACH = 8.0  # standard deviations
_CHUNK = 1 << 12
_SAMPLE = 64
"""Elements that are integrated with twice as many nodes too, for the error."""
_FEWEST_DIMENSIONS = 2.5
"""Of a sphere: there its average of abs(x) is off by 1 % when the terms of the spread are unequal."""


@dataclass(frozen=True)
class Distribution(ABC):
    """Values at an edge over weight draws; fields `(E, *positions)`. `terms`: as for a law."""

    terms: float
    known: dict[PointwiseFunction, GaussianMoments] = field(
        default_factory=dict, repr=False, compare=False, kw_only=True
    )

    @abstractmethod
    def check(self) -> Check:
        """The assumption under which this is the distribution."""

    @abstractmethod
    def _size(self) -> tuple[int, ...]: ...

    @abstractmethod
    def _averages(self, function: PointwiseFunction, places: slice, nodes: int) -> Field:
        """f, f**2, f', f'**2, x*f averaged, `(5, elements)`, of some elements of the flattened fields."""

    def averages(self, function: PointwiseFunction) -> GaussianMoments:
        """Averages of a function and its square, its slope and the slope's square; with error estimates."""
        if function not in self.known:
            shape = self._size()
            size = int(np.prod(shape))
            blocks = [slice(start, start + _CHUNK) for start in range(0, size, _CHUNK)]
            with np.errstate(all="ignore"):
                value = np.concatenate([self._averages(function, block, _NODES) for block in blocks], axis=1)
                some = slice(0, size, max(1, size // _SAMPLE))
                finer = self._averages(function, some, 2 * _NODES)
                off = np.max(np.abs(finer - value[:, some]), axis=1, keepdims=True)
            rows = zip(value, np.broadcast_to(off, value.shape), strict=True)
            self.known[function] = GaussianMoments(*(Expectation(v.reshape(shape), e.reshape(shape)) for v, e in rows))
        return self.known[function]


@dataclass(frozen=True)
class OnSphere(Distribution):
    """mean + std*sqrt(n)*t, t one coordinate of a random unit vector in n = `dimension` dimensions.

    A sum of n Gaussian terms over the root of the mean of their squares is exactly that; n follows from how much the
    spreads of the channels scatter: D = E V E 1/V is n/(n - 2) then, so n = 2 D/(D - 1).
    """

    mean: Field
    variance: Field
    dimension: float

    @classmethod
    def of(cls, mean: Field, variance: Field, dispersion: Any, terms: float) -> OnSphere | None:
        """None where the spread is as good as the same for all channels."""
        dispersion = float(np.mean(dispersion))
        if not 1 + 1e-9 < dispersion < np.inf:
            return None
        return cls(terms, mean, variance, 2 * dispersion / (dispersion - 1))

    def check(self) -> Check:
        text = (
            f"a Gaussian over its own spread: {self.dimension:.3g} independent terms in that, at least "
            f"{_FEWEST_DIMENSIONS:g}"
        )
        return Check(text, float(relative_slack(self.dimension, _FEWEST_DIMENSIONS)), Level.SPECTRUM)

    def _size(self) -> tuple[int, ...]:
        return np.broadcast_shapes(self.mean.shape, self.variance.shape)

    def _averages(self, function: PointwiseFunction, places: slice, nodes: int) -> Field:
        mean, radius = (f.ravel()[places, None] for f in np.broadcast_arrays(self.mean, np.sqrt(self.variance)))
        radius = radius * np.sqrt(self.dimension)
        end = min(np.pi / 2, _REACH / np.sqrt(self.dimension))
        kinks = [np.arcsin(np.clip((kink - mean) / np.maximum(radius, 1e-300), -1, 1)) for kink in _points(function)]
        angle, weight = _panels(kinks, (-end, 0.0, end), len(mean), nodes)
        weight = weight * np.cos(angle) ** (self.dimension - 2)
        weight /= weight.sum(axis=1, keepdims=True)
        x = mean + radius * np.sin(angle)
        value, slope = function(x), function.derivative(x)
        return np.stack([np.einsum("ek,ek->e", weight, g) for g in (value, value**2, slope, slope**2, x * value)])


@dataclass(frozen=True)
class WithGaussian(Distribution):
    """a*f(z) + r: z as `law` says, f its chain, and an independent Gaussian r of this mean and variance.

    `source`, `factor`: r is that producer's output times the factor.
    """

    law: Law
    scale: float
    mean: Field
    variance: Field
    source: str
    factor: float

    def check(self) -> Check:
        return Check("a function of a Gaussian and an independent Gaussian are added")

    def _size(self) -> tuple[int, ...]:
        parts = (self.law.mean, self.law.variance, self.mean, self.variance)
        return np.broadcast_shapes(*(part.shape for part in parts))

    def _averages(self, function: PointwiseFunction, places: slice, nodes: int) -> Field:
        arrays = np.broadcast_arrays(self.law.mean, np.sqrt(self.law.variance), self.mean, np.sqrt(self.variance))
        mean, std, added, blur = (array.ravel()[places, None] for array in arrays)
        inner: PointwiseFunction = self.law.chain[0]
        kinks = [(kink - mean) / np.maximum(std, 1e-300) for kink in _points(inner)]
        z, weight = _panels(kinks, (-_REACH, 0.0, _REACH), len(mean), nodes)
        weight = weight * np.exp(-(z**2) / 2)
        weight /= weight.sum(axis=1, keepdims=True)
        moments = expect(function, self.scale * inner(mean + std * z) + added, np.broadcast_to(blur, z.shape))
        rows = (getattr(moments, part.name).value for part in fields(moments))
        return np.stack([np.einsum("ek,ek->e", weight, row) for row in rows])


def _points(function: PointwiseFunction) -> Iterable[float]:
    points: tuple[float, ...] = function.kinks.points
    return points


def _panels(kinks: list[Field], fixed: tuple[float, ...], size: int, nodes: int) -> tuple[Field, Field]:
    """Gauss-Legendre nodes and weights between all kinks, `(elements, panels*nodes)`."""
    edges = np.concatenate(
        [*(np.clip(k, fixed[0], fixed[-1]) for k in kinks), np.broadcast_to(fixed, (size, len(fixed)))], axis=1
    )
    edges.sort(axis=1)
    points, weights = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(edges, axis=1)[:, :, None] / 2
    middle = (edges[:, 1:] + edges[:, :-1])[:, :, None] / 2
    return (middle + half * points).reshape(size, -1), (half * weights).reshape(size, -1)
