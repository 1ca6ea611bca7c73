"""A population of neurons: z = f(g) with g Gaussian over samples, as the random-matrix formulas need it.

The energy of a neuron, and with it how much it adds to a sample matrix, varies from neuron to neuron unless f is the
identity. What the formulas need of that variation is an expectation over one neuron, taken here over draws of g with a
fixed seed: no weights and no layer are simulated. With N draws the terms of order one are known to about sqrt(2/N).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.random_matrix.log_determinant import Equivalent, equivalent, expected_log_determinant
from lensnet.algebra.random_matrix.sample_spectrum import SampleSpectrum

Array = NDArray[np.float64]

DRAWS = 4096
CLASSES = 4
_SEED = 20_071_967


def draw_neurons(
    covariance: Array, function: Callable[[Array], Array], mean: Array | float = 0.0, draws: int = DRAWS
) -> Array:
    """`(R, N)`: f(g) for g normal over samples with this mean `(R,)` and covariance `(R, R)`."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    half = np.random.default_rng(_SEED).standard_normal((len(covariance), draws // 2))
    g = root @ half
    return np.asarray(function(np.reshape(mean, (-1, 1)) + np.concatenate([g, -g], axis=1)))


@dataclass(frozen=True)
class Neurons:
    """Independent neurons of one layer.

    Attributes:
        covariance: K = E z z^T over samples, `(R, R)`.
        count: n.
        draws: `(R, N)` typical neurons, or None when they are Gaussian.
    """

    covariance: Array
    count: float
    draws: Array | None = None

    @cached_property
    def _eigen(self) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(self.covariance)
        return np.maximum(values, 0.0), vectors

    @property
    def eigenvalues(self) -> Array:
        """Of K, ascending, `(R,)`."""
        return self._eigen[0]

    @property
    def basis(self) -> Array:
        """Eigenvectors of K as columns, `(R, R)`."""
        return self._eigen[1]

    @cached_property
    def components(self) -> Array | None:
        """Squared components of the draws along the eigenvectors, `(R, N)`, scaled to the exact mean."""
        return None if self.draws is None else _scaled((self.basis.T @ self.draws) ** 2, self.eigenvalues)

    def log_determinant(self, scale: float) -> float:
        """E logdet(I + (s/n) sum z z^T)."""
        return expected_log_determinant(self.eigenvalues, scale, self.count, self.components)

    def equivalent(self, scale: float) -> Equivalent:
        return equivalent(self.eigenvalues, scale, self.count)

    def spectrum(self, scale: float) -> SampleSpectrum:
        """Eigenvalues of the sample matrix. Neurons are classed by their energy as seen at `scale`."""
        if self.components is None:
            return SampleSpectrum.of(self.eigenvalues, self.count)
        profile, share = self._profile(scale, self.components, self.eigenvalues)
        return SampleSpectrum(profile, share, self.count)

    def shifted_spectrum(self, mean: Array, slope: float, scale: float) -> tuple[SampleSpectrum, Array]:
        """Eigenvalues of B + m (G - K) for the sample matrix G, and the basis that they are taken in: that of B.

        `mean`: B, `(R, R)`. What does not commute with B is averaged over; m > 0.
        """
        values, basis = np.linalg.eigh(mean)
        values = np.maximum(values, 0.0)
        # B - m K is what neurons do not share; where rounding makes it negative, there is nothing of it.
        own = np.minimum(np.einsum("ak,ab,bk->k", basis, self.covariance, basis), values / slope)
        if self.draws is None:
            profile, share = own[None], np.ones(1)
        else:
            profile, share = self._profile(scale, (basis.T @ self.draws) ** 2, own)
        return SampleSpectrum(profile, share, self.count, values - slope * own, slope), basis

    def _profile(self, scale: float, components: Array, mean: Array) -> tuple[Array, Array]:
        """Mean squared components `(J, R)` of classes of equal size, in order of energy; silent ones left out."""
        assert self.components is not None
        order = np.argsort(self.equivalent(scale).weights @ self.components)
        classes = np.array_split(order, CLASSES)
        profile = np.stack([components[:, members].mean(axis=1) for members in classes])
        share = np.array([len(members) for members in classes]) / len(order)
        speaking = profile.any(axis=1)
        profile, share = profile[speaking], share[speaking]
        found = share @ profile
        return profile * np.divide(mean, found, out=np.zeros_like(mean), where=found > 0), share

    def second_moments(self) -> tuple[float, float]:
        """E (tr G)^2 and E tr G^2 of the sample matrix G, exact in n (for draws: with their sampling error)."""
        trace, squares = float(self.eigenvalues.sum()), float(np.sum(self.eigenvalues**2))
        spread = self._covariances()[0]
        return trace**2 + spread / self.count, squares + (trace**2 + spread - squares) / self.count

    def participation_ratio(self) -> float:
        """E (tr G)^2/tr G^2, the mean of the ratio, up to O(1/n^2); NaN without energy."""
        trace, square = float(self.eigenvalues.sum()), self.second_moments()[1]
        if not square > 0:
            return float("nan")
        own, crossed, other = (value / self.count for value in self._covariances())
        return trace**2 / square * (1 + own / trace**2 - 4 * crossed / (trace * square) + 4 * other / square**2)

    def _covariances(self) -> tuple[float, float, float]:
        """Var |z|^2, Cov(|z|^2, z^T K z), Var z^T K z: how trace and trace of the square vary with the neurons."""
        values = self.eigenvalues
        if self.components is None:
            return tuple(2 * float(np.sum(values**power)) for power in (2, 3, 4))  # type: ignore[return-value]
        both = np.cov(np.stack([self.components.sum(axis=0), values @ self.components]))
        return float(both[0, 0]), float(both[0, 1]), float(both[1, 1])


def _scaled(components: Array, mean: Array) -> Array:
    found = components.mean(axis=1)
    return components * np.divide(mean, found, out=np.zeros_like(mean), where=found > 0)[:, None]
