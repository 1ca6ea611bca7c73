"""E logdet(I + (s/n) sum_i z_i z_i^T) over n independent neurons z of R samples, beyond Marchenko-Pastur.

With K = E z z^T, delta = (s/n) tr(K Q) and Q = (I + s K/(1 + delta))^-1 the deterministic equivalent is

    D = logdet(I + s K/(1 + delta)) + n log(1 + delta) - n delta/(1 + delta)

and relative errors are O(1/n). Two terms of order one make it O(1/n) absolutely:

    n (E log(1 + x) - log(1 + delta)) + gamma,      x = (s/n) z^T Q z,      gamma = tr((s K Q/(1 + delta))^2)/n
    1/2 log(1 - gamma)

The first says that neurons differ in energy: Jensen's gap of the logarithm, which for Gaussian neurons is -gamma and
cancels. After a rectifier it is most of what is missing (a neuron whose common input is positive passes nearly
everything, one whose input is negative nearly nothing). The second is the fluctuation of Q itself, as for Gaussian
neurons (Hachem, Khorunzhiy, Loubaton, Najim and Pastur 2008, real case).

To see that the sum is right, expand both sides in s: the second order is
-s^2/(2 n) (E |z|^4 - (tr K)^2 - tr K^2), whatever the law of z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_SWEEPS = 400
_TOLERANCE = 1e-14


@dataclass(frozen=True)
class Equivalent:
    """The deterministic equivalent of a log-determinant.

    Attributes:
        value: D, nats.
        delta: mean of x over neurons.
        gamma: how strongly the matrix answers itself, 0 <= gamma < 1.
        weights: `(R,)`, s/(n (1 + s l/(1 + delta))): x of a neuron is its squared components times these.
        neurons: n.
    """

    value: float
    delta: float
    gamma: float
    weights: Array
    neurons: float

    @property
    def loop(self) -> float:
        """The term of order one for Gaussian neurons, 1/2 log(1 - gamma)."""
        return 0.5 * float(np.log1p(-self.gamma))

    @property
    def variance(self) -> float:
        """Variance of the log-determinant over draws of Gaussian neurons."""
        return -2.0 * float(np.log1p(-self.gamma))

    def gap(self, energies: ArrayLike) -> float:
        """n (E log(1 + x) - log(1 + delta)) + gamma for neurons with these energies x, up to a factor; `(N,)`."""
        x = np.asarray(energies, dtype=float)
        mean = float(x.mean())
        if not mean > 0:
            return 0.0
        jensen = float(np.mean(np.log1p(self.delta * x / mean))) - float(np.log1p(self.delta))
        return self.neurons * jensen + self.gamma


def equivalent(eigenvalues: ArrayLike, scale: float, neurons: float) -> Equivalent:
    """D for population eigenvalues `(R,)`, s = `scale`, n = `neurons`."""
    values = scale * np.maximum(np.asarray(eigenvalues, dtype=float), 0.0)
    delta = float(values.sum()) / neurons
    for _ in range(_SWEEPS):
        before = delta
        delta = float(np.sum(values / (1 + values / (1 + delta)))) / neurons
        if abs(delta - before) <= _TOLERANCE * delta:
            break
    passed = values / (1 + delta) / (1 + values / (1 + delta))
    value = float(np.sum(np.log1p(values / (1 + delta)))) + neurons * float(np.log1p(delta) - delta / (1 + delta))
    weights = scale / neurons / (1 + values / (1 + delta))
    return Equivalent(value, delta, float(np.sum(passed**2)) / neurons, weights, neurons)


def expected_log_determinant(
    eigenvalues: ArrayLike, scale: float, neurons: float, components: NDArray[np.float64] | None = None
) -> float:
    """E logdet(I + (s/n) sum z z^T) with the terms of order one.

    Args:
        eigenvalues: of K = E z z^T, `(R,)`.
        scale: s.
        neurons: n.
        components: squared components `(R, N)` of N typical neurons along the eigenvectors of K; None for neurons
            that are Gaussian.
    """
    found = equivalent(eigenvalues, scale, neurons)
    own = 0.0 if components is None else found.gap(found.weights @ components)
    return found.value + own + found.loop
