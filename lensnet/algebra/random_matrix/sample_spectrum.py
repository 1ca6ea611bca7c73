"""Eigenvalues of a sample covariance whose population is not white: deformed Marchenko-Pastur.

The matrix is A + (m/n) sum_i z_i z_i^T over n independent neurons z of R samples. In the eigenbasis of the population
covariance the squared components of a neuron have the mean `profile[j]` when the neuron belongs to class j (a share
`share[j]` of all); neurons of one energy are the classical case with a single class. A is diagonal in that basis.

With e_j the mean resolvent seen by a neuron of class j, the resolvent Q = (M - z)^-1 is, in the mean and up to O(1/n),

    q_k = 1/(A_k - z + m sum_j share_j profile_jk/(1 + m e_j)),      e_j = (1/n) sum_k profile_jk q_k

(Marchenko and Pastur 1967; Silverstein and Bai 1995 for one class; variance profiles as in Hachem, Loubaton and Najim
2007). It holds for z outside the spectrum, so the density is read from just above the real axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_ABOVE_AXIS = 3e-4
"""Imaginary part over real part where the density is read: eigenvalues are smoothed by that fraction."""
_APPROACH = 6
_SWEEPS = 60
_TOLERANCE = 1e-8
_ON_THE_WAY = 1e-2
_POINTS_PER_DECADE = 80
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class SampleSpectrum:
    """A + (m/n) sum z z^T in the eigenbasis of E z z^T.

    Attributes:
        profile: `(J, R)`, mean squared component of a neuron of each class along each eigenvector; no row is zero.
        share: `(J,)`, how many of the neurons are of each class; what is missing from 1 is silent.
        neurons: n.
        fixed: `(R,)` eigenvalues of A, or 0.
        slope: m > 0.
    """

    profile: Array
    share: Array
    neurons: float
    fixed: Array | float = 0.0
    slope: float = 1.0

    @classmethod
    def of(cls, eigenvalues: ArrayLike, neurons: float) -> SampleSpectrum:
        """Neurons of equal energy with these population eigenvalues `(R,)` (Gaussian neurons, for example)."""
        values = np.maximum(np.asarray(eigenvalues, dtype=float), 0.0)
        return cls(values[None], np.ones(1), neurons)

    @property
    def population(self) -> Array:
        """Eigenvalues of E M, `(R,)`."""
        return np.asarray(self.fixed + self.slope * (self.share @ self.profile))

    @property
    def rank(self) -> int:
        """Eigenvalues that are not zero."""
        positive = int(np.sum(self.population > _NEGLIGIBLE * self.population.max(initial=0.0)))
        return positive if np.any(self.fixed) else min(positive, int(self.neurons))

    def resolvent(self, z: ArrayLike) -> Complex:
        """Mean diagonal of (M - z)^-1 in the eigenbasis, `(len(z), R)`, for z in the upper half plane.

        Newton steps from far above the axis downwards, so that the right root is followed.
        """
        points = np.atleast_1d(np.asarray(z, dtype=complex))
        seen = self.profile @ np.ones(self.profile.shape[1]) / self.neurons
        above = np.maximum(np.abs(points.real), points.imag)
        state = np.outer(-1 / (points.real + 1j * above), seen)
        heights = _descent(points.imag / above)
        for height in heights:
            at = points.real + 1j * np.maximum(above * height, points.imag)
            state = self._solved(state, at, _TOLERANCE if height == heights[-1] else _ON_THE_WAY)
        return self._diagonal(state, points)

    def _diagonal(self, e: Complex, z: Complex) -> Complex:
        carried = (self.slope * self.share / (1 + self.slope * e)) @ self.profile
        return np.asarray(1 / (self.fixed + carried - z[:, None]))

    def _solved(self, e: Complex, z: Complex, tolerance: float) -> Complex:
        """Newton's method at every point that has not settled; where it leaves the half plane, half an iteration."""
        classes, _ = self.profile.shape
        pairs = (self.profile[:, None] * self.profile[None]).reshape(classes**2, -1).T
        found, open_points = e.copy(), np.arange(len(z))
        for _ in range(_SWEEPS):
            here = found[open_points]
            q = self._diagonal(here, z[open_points])
            image = q @ self.profile.T / self.neurons
            missing = here - image
            unsettled = np.max(np.abs(missing) / np.abs(here), axis=1) > tolerance
            if not unsettled.any():
                break
            open_points, here, q = open_points[unsettled], here[unsettled], q[unsettled]
            image, missing = image[unsettled], missing[unsettled]
            weight = self.share * (self.slope / (1 + self.slope * here)) ** 2
            jacobian = ((q * q) @ pairs).reshape(-1, classes, classes) / self.neurons * weight[:, None, :]
            with np.errstate(all="ignore"):
                step = np.linalg.solve(np.eye(classes) - jacobian, missing[..., None])[..., 0]
            after = here - step
            lost = ((after.imag <= 0) | ~np.isfinite(after)).any(axis=1)
            after[lost] = 0.5 * (image + here)[lost]
            found[open_points] = after
        return found

    def density(self, x: ArrayLike) -> Array:
        """How many eigenvalues per unit of x > 0, `(len(x),)`; integrates to `rank`."""
        points = np.atleast_1d(np.asarray(x, dtype=float))
        q = self.resolvent(points * (1 + 1j * _ABOVE_AXIS))
        return np.asarray(q.sum(axis=1).imag / np.pi)

    @cached_property
    def curve(self) -> tuple[Array, Array]:
        """x on a logarithmic grid over the support, and the density there."""
        values = self.population[self.population > _NEGLIGIBLE * self.population.max()]
        spread = (1 + np.sqrt(len(values) / self.neurons)) ** 2
        uneven = self.profile.sum(axis=1).max() / (self.share @ self.profile).sum()
        low = values.min() * 0.02 * min(1.0, _gap(self.rank, self.neurons))
        high = values.max() * min(spread, 1 + 8 / np.sqrt(self.neurons) + 4 * len(values) / self.neurons) * uneven * 1.5
        x = np.geomspace(low, high, max(int(_POINTS_PER_DECADE * np.log10(high / low)), 64))
        return x, self.density(x)

    def eigenvalues(self) -> Array:
        """Where the R eigenvalues lie typically: quantiles (k - 1/2)/rank of the density, ascending, zeros first.

        Their sum is made exact. All zero for a population without energy.
        """
        out = np.zeros(self.profile.shape[1])
        total = float(self.population.sum())
        if total <= 0 or self.rank == 0:
            return out
        x, density = self.curve
        mass = density * x
        count = np.concatenate([[0.0], np.cumsum((mass[1:] + mass[:-1]) / 2 * np.diff(np.log(x)))])
        places = (np.arange(self.rank) + 0.5) / self.rank * count[-1]
        found = np.exp(np.interp(places, count, np.log(x)))
        out[len(out) - self.rank :] = found * total / found.sum()
        return out


def _gap(rank: int, neurons: float) -> float:
    """How far the smallest eigenvalues are pushed towards zero: (1 - sqrt(rank/n))^2, for either side of 1."""
    ratio = rank / neurons
    return max((1 - np.sqrt(min(ratio, 1 / ratio))) ** 2, 1e-4)


def _descent(heights: Array) -> Array:
    """From the height of the point itself to the axis, in equal ratios."""
    last = float(heights.min())
    return np.ones(1) if last >= 1 else np.geomspace(1.0, last, _APPROACH)


def largest(eigenvalues: ArrayLike, neurons: float) -> tuple[float, float]:
    """Mean and standard deviation of the largest eigenvalue for n neurons of equal energy.

    A population eigenvalue that stands out (a spike, Baik, Ben Arous and Peche 2005) moves to
    l (1 + (1/n) sum_j l_j/(l - l_j)); otherwise the largest follows Tracy and Widom's law at the edge of the bulk
    (El Karoui 2007). Relative error O(1/n) and O(n^(-2/3)).
    """
    from lensnet.algebra.random_matrix.marchenko_pastur import TRACY_WIDOM_MEAN, TRACY_WIDOM_VARIANCE

    values = np.sort(np.maximum(np.asarray(eigenvalues, dtype=float), 0.0))
    if values.size == 0 or values[-1] <= 0:
        return 0.0, 0.0
    top, rest = values[-1], values[:-1]
    with np.errstate(divide="ignore"):
        pressure = float(np.sum((rest / (top - rest)) ** 2)) / neurons if np.all(rest < top) else np.inf
    if pressure < _STANDS_OUT:
        place = top * (1 + float(np.sum(rest / (top - rest))) / neurons)
        return place, top * np.sqrt(2 * (1 - pressure) / neurons)
    critical = _edge_point(values, neurons)
    seen = values * critical
    edge = (1 + float(np.sum(seen / (1 - seen))) / neurons) / critical
    scale = (1 + float(np.sum((seen / (1 - seen)) ** 3)) / neurons) ** (1 / 3) / critical * neurons ** (-2 / 3)
    return edge + TRACY_WIDOM_MEAN * scale, float(np.sqrt(TRACY_WIDOM_VARIANCE) * scale)


_STANDS_OUT = 0.5


def _edge_point(values: Array, neurons: float) -> float:
    """c in (0, 1/max) with (1/n) sum (l c/(1 - l c))^2 = 1."""
    from scipy.optimize import brentq

    def excess(share: float) -> float:
        seen = values / values[-1] * share
        return float(np.sum((seen / (1 - seen)) ** 2)) / neurons - 1

    return float(brentq(excess, 1e-12, 1 - 1e-12)) / float(values[-1])
