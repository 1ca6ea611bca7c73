"""How the gradients of two different rows turn towards each other on their way back.

Every row sends back a random question of its own, so at first two gradients u, v are unrelated: cos^2 is 1/n on
average. A dense layer of n inputs replaces both by n samples of a Gaussian pair of the same correlation. A sample
correlation has mean rho - rho(1 - rho^2)/(2n) and variance (1 - rho^2)^2/n (Fisher), so s = cos^2 drifts and spreads,

    E ds = (1 - s)(1 - 2s)/n,        E (ds)^2 = 4 s (1 - s)^2/n,

and two rows end up with parallel gradients however they started. Slopes d = f'(x) that differ between the rows turn
the gradients apart, s -> o s with o = (E f'_a f'_b/E f'^2)^2, and add noise k/n like a layer, k = 1 + D - o with
D = Cov(d_a^2, d_b^2)/(E d^2)^2: for shared gates of a rectifier k = 1, half of the terms are left. The moments E s and
E s^2 are followed, the third is that of a beta variable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

APART = 0.3
"""Share of what rows do not have in common that counts as a quadratic form where slopes turned them apart. Measured
on stacks of rectifiers, not derived: without slopes it is 1 (rows differ by r^T A r alone), with gates of independent
weights 0 (by products of independent factors). Gates made by the weights that carry the gradient leave covariances
between different layers, of 0.5 to 0.75 (depth/width)^2, which nobody follows; this share takes off as much."""


@dataclass(frozen=True)
class Alignment:
    """First two moments of the squared cosine of two gradients."""

    mean: float
    square: float
    same: float = 1.0
    """Product of the overlaps of slopes so far: 1 where both were sent through the same matrices."""

    def mixed(self, n: int, strength: float = 1.0) -> Alignment:
        """Behind a dense layer of n inputs, or noise of that many times its strength."""
        m1, m2, m3 = self.mean, self.square, self._cube()
        mean = m1 + strength * (1 - 3 * m1 + 2 * m2) / n
        square = m2 + strength * (6 * m1 - 14 * m2 + 8 * m3) / n
        return replace(bounded(mean, square), same=self.same)

    def sloped(self, n: int, overlap: float, pair: float) -> Alignment:
        """Behind slopes with overlap o and pair covariance D."""
        turned = Alignment(overlap * self.mean, overlap**2 * self.square, overlap * self.same)
        return turned.mixed(n, max(1 + pair - overlap, 0.0))

    def with_others(self, share: float, other: Alignment) -> Alignment:
        """Of a set of pairs of which `share` are like another one."""
        mean = (1 - share) * self.mean + share * other.mean
        return Alignment(mean, (1 - share) * self.square + share * other.square, self.same)

    @property
    def turned(self) -> float:
        """Of the noise that two rows do not share, the part by which they only point elsewhere."""
        return APART + (1 - APART) * self.same

    def _cube(self) -> float:
        """Third moment of the beta variable with these two."""
        spread = self.square - self.mean**2
        if spread <= 1e-12 or self.mean >= 1 - 1e-12:
            return self.mean**3
        total = max(self.mean * (1 - self.mean) / spread - 1, 1e-9)
        return self.square * (self.mean * total + 2) / (total + 2)


def bounded(mean: float, square: float) -> Alignment:
    """Moments that some variable in [0, 1] has."""
    mean = min(max(mean, 0.0), 1.0)
    return Alignment(mean, min(max(square, mean**2), mean))


def unrelated(n: int) -> Alignment:
    """Two independent Gaussian vectors of length n."""
    return bounded(1 / n, 3 / (n * (n + 2)))


EQUAL = Alignment(1.0, 1.0)
