"""Local response normalisation: expectations over a sum of squares of neighbouring channels.

Each channel is divided by D**beta, D = offset + alpha*S, where S is the sum of the squares of `size` neighbouring
channels. Channels behind fresh weights are independent, so an expectation that contains a power of D factorises once
that power is written as an integral,

    D**-r = 1/Gamma(r) * Integral t**(r-1) exp(-t*D) dt,

which leaves products of one-channel expectations E x**(2j) exp(-t*alpha*x**2) and a Gauss-Laguerre sum over t. A
channel's x**2 is taken as zero with the probability its law says (half of a rectified Gaussian) and else as a gamma
variable with the right mean and kurtosis: exact for a Gaussian and for a rectified Gaussian of mean zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.signal import Signal
from lensnet.predict.gaussian_copula import push

Array = NDArray[np.float64]

_NODES = 32
_FEW_NODES = 4  # where the sum is below _SMALL of the offset: exact to seven orders in it
_SMALL = 0.02
_MANY_CHANNELS = 48  # from here on the shorter windows at both ends count as an average length
_LAW_NODES = 80


class NeighbourResponse:
    """Expectations E[x**order * D**-power] of one signal, averaged over channels: fields `(E, *positions)`."""

    def __init__(self, signal: Signal, channels: int, size: int, alpha: float, offset: float) -> None:
        self.signal = signal
        self.alpha = alpha
        self.offset = offset
        before, after = size // 2, size - 1 - size // 2
        lengths = [min(c + after, channels - 1) - max(c - before, 0) + 1 for c in range(channels)]
        self.windows: Counter[float] = Counter(lengths)
        if channels >= _MANY_CHANNELS:
            self.windows = Counter({sum(lengths) / channels: channels})
        self.channels = channels
        self.nodes = _NODES
        if alpha * size * float(np.max(signal.second_moment)) < _SMALL * offset:
            self.nodes = _FEW_NODES

    def moment(self, order: float, power: float) -> Array:
        """E[x**order D**-power] for order 0, 1, 2 or 4: x a channel, D its own divisor."""
        return self._integral(power, lambda t, n: self._one(int(order), t) * self._one(0, t) ** (n - 1))

    def pair(self, power: float) -> Array:
        """Sum over the channels c of a window of E[x**2 x_c**2 D**-power], x any one channel of it."""

        def over(t: float, n: float) -> Array:
            own = self._one(4, t) * self._one(0, t) ** (n - 1)
            if n == 1:
                return own
            return own + (n - 1) * self._one(2, t) ** 2 * self._one(0, t) ** (n - 2)

        return self._integral(power, over)

    def _integral(self, power: float, over: Callable[[float, float], Array]) -> Array:
        """Integral over t of the weight of D**-power times what `over(t, n)` says of a window of n channels."""
        total = np.zeros_like(self.signal.second_moment)
        nodes, weights = _laguerre(power, self.nodes) if power else (np.zeros(1), np.ones(1))
        for node, weight in zip(nodes, weights, strict=True):
            for n, count in self.windows.items():
                total = total + weight * count / self.channels * over(self.alpha * node / self.offset, n)
        return total * self.offset**-power

    def _one(self, order: int, t: float) -> Array:
        """E[x**order exp(-t x**2)] of one channel."""
        share, shape = self._law
        q = self.signal.second_moment / share
        fall = 1 + t * q / shape
        if order == 0:
            return 1 - share + share * fall**-shape
        if order == 1:
            return self.signal.mean * fall ** -(shape + 0.5)
        if order == 2:
            return share * q * fall ** -(shape + 1)
        return share * q**2 * (1 + 1 / shape) * fall ** -(shape + 2)

    @cached_property
    def _law(self) -> tuple[Array, Array]:
        """Probability that a channel is not zero, and the shape of the gamma law of its square when it is not."""
        law = self.signal.law
        if law is None:
            second, mean = self.signal.second_moment, self.signal.mean
            share, kurtosis = np.ones_like(second), 3 - 2 * mean**4 / np.maximum(second, 1e-300) ** 2
        else:
            nodes, weights = _normal_nodes()
            sd = np.sqrt(law.variance)
            share, second, fourth = np.zeros_like(sd), np.zeros_like(sd), np.zeros_like(sd)
            for node, weight in zip(nodes, weights, strict=True):
                square = push(law.chain, law.mean + sd * node) ** 2
                share = share + weight * (square > 0)
                second = second + weight * square
                fourth = fourth + weight * square**2
            kurtosis = fourth / np.maximum(second, 1e-300) ** 2
        share = np.clip(share, 1e-6, 1.0)
        return share, 1 / np.maximum(kurtosis * share - 1, 1e-3)


@lru_cache(maxsize=32)
def _laguerre(power: float, count: int) -> tuple[Array, Array]:
    from scipy.special import gamma, roots_genlaguerre

    nodes, weights = roots_genlaguerre(count, power - 1)
    return nodes, weights / gamma(power)


@lru_cache(maxsize=1)
def _normal_nodes() -> tuple[Array, Array]:
    """Midpoints over +-7 standard deviations: an even number, so that none lies on a kink at the mean."""
    nodes = (np.arange(_LAW_NODES) + 0.5) / _LAW_NODES * 14 - 7
    weights = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()
