"""The law of a logarithm over weight draws, by its cumulants.

A deep chain multiplies: q = q_0 r_1 r_2 ... r_L with a random factor per layer. Its logarithm is a sum, and cumulants
of independent sums add. So a law is kept as its first four cumulants, exact wherever the factor's law is known:

    dense layer, Gaussian weights   r = chi^2_n / n                       one input: |W x|^2/|x|^2
    rectifier                       r = 2 Beta(K/2, (n - K)/2)            K ~ Binomial(n, 1/2) units are on
    both together                   r = 2 chi^2_K / n                     (Hanin and Rolnick 2018: E r^2 = 1 + 5/n)
    any other sum of n neurons      from the cumulants of one neuron's energy, two orders in 1/n

ln chi^2_k has the cumulants psi(k/2) + ln 2, psi'(k/2), psi''(k/2), psi'''(k/2). Quantiles are those of a log-gamma
variable with the same first three cumulants: exact for one chi^2 factor, and normal in the limit of many.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, isfinite, log, pi, sqrt

import numpy as np


@dataclass(frozen=True)
class LogLaw:
    """Cumulants of ln Q over weight draws (nats, nats^2, ...), dead networks (Q = 0) left out."""

    mean: float = 0.0
    variance: float = 0.0
    third: float = 0.0
    fourth: float = 0.0

    def __add__(self, other: LogLaw) -> LogLaw:
        """Of the product of two independent factors."""
        return LogLaw(*(a + b for a, b in zip(self.cumulants, other.cumulants, strict=True)))

    def __sub__(self, other: LogLaw) -> LogLaw:
        """Of the factor that is left when an independent one is taken out."""
        return LogLaw(*(a - b for a, b in zip(self.cumulants, other.cumulants, strict=True)))

    @property
    def cumulants(self) -> tuple[float, float, float, float]:
        return self.mean, self.variance, self.third, self.fourth

    def power(self, exponent: float) -> LogLaw:
        """Of Q**exponent."""
        return LogLaw(*(k * exponent**order for order, k in enumerate(self.cumulants, start=1)))

    def averaged(self, share: float) -> LogLaw:
        """Of an average over terms of which 1/share are independent: the variance falls by `share`, and so on."""
        return LogLaw(*(k * share ** max(order - 1, 1) for order, k in enumerate(self.cumulants, start=1)))

    @property
    def scatter(self) -> float:
        """Standard deviation of ln Q over weight draws, in nats."""
        return sqrt(max(self.variance, 0.0))

    @property
    def log_mean(self) -> float:
        """ln E Q: the four cumulants at 1."""
        return self.mean + self.variance / 2 + self.third / 6 + self.fourth / 24

    @property
    def mean_factor(self) -> float:
        """E Q, in units of exp(0)."""
        return exp(self.log_mean) if self.log_mean < 700 else inf

    def quantile(self, probability: float) -> float:
        """Quantile of ln Q: of the log-gamma variable (or its mirror image) with the same three cumulants."""
        from scipy.special import gammainccinv, gammaincinv, ndtri, polygamma, psi

        if self.variance <= 0:
            return self.mean
        skewness = self.third / self.variance**1.5
        if not isfinite(skewness) or abs(skewness) < 1e-4:
            return self.mean + self.scatter * float(ndtri(probability))
        shape = _shape_of(abs(skewness))
        inverse = gammaincinv if skewness < 0 else gammainccinv
        standard = (log(float(inverse(shape, probability))) - float(psi(shape))) / sqrt(float(polygamma(1, shape)))
        return self.mean + self.scatter * (standard if skewness < 0 else -standard)

    @property
    def median(self) -> float:
        """Median of ln Q: the typical value."""
        return self.quantile(0.5)

    def band(self, share: float = 0.9) -> tuple[float, float]:
        """The central interval of ln Q that holds this share of the weight draws."""
        return self.quantile((1 - share) / 2), self.quantile((1 + share) / 2)


@lru_cache(maxsize=1024)
def _shape_of(skewness: float) -> float:
    """Shape k of the gamma variable whose logarithm has this skewness in absolute value (below 2)."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    def misfit(log_shape: float) -> float:
        k = exp(log_shape)
        return float(-polygamma(2, k) / polygamma(1, k) ** 1.5) - min(skewness, 1.99)

    return exp(float(brentq(misfit, -6.0, 25.0)))


@lru_cache(maxsize=1024)
def chi_square(n: float) -> LogLaw:
    """ln(chi^2_n / n): the factor of a dense layer of n units with Gaussian weights, for one input."""
    from scipy.special import polygamma, psi

    half = n / 2
    return LogLaw(float(psi(half)) - log(half), *(float(polygamma(order, half)) for order in (1, 2, 3)))


@lru_cache(maxsize=1024)
def rectified(n: int) -> LogLaw:
    """ln(2 chi^2_K / n) with K ~ Binomial(n, 1/2) given K > 0: a dense layer and its rectifier together."""
    from scipy.special import gammaln, polygamma, psi

    on = np.arange(1, n + 1, dtype=float)
    weight = np.exp(gammaln(n + 1) - gammaln(on + 1) - gammaln(n - on + 1) - n * log(2.0))
    weight /= weight.sum()
    mean = psi(on / 2) + log(4.0 / n)
    second, third, fourth = (polygamma(order, on / 2) for order in (1, 2, 3))
    center = float(weight @ mean)
    d = mean - center
    variance = float(weight @ (d**2 + second))
    skew = float(weight @ (d**3 + 3 * d * second + third))
    moment = float(weight @ (d**4 + 6 * d**2 * second + 4 * d * third + fourth + 3 * second**2))
    return LogLaw(center, variance, skew, moment - 3 * variance**2)


def average_of(row: LogLaw, rows: int, turned: float = 0.0) -> LogLaw:
    """ln of the average of `rows` independent factors, each with this law.

    While the factors are near 1 the variance falls as 1/rows. Widely scattered ones are dominated by the largest, and
    the upper tail of their law matters. Rows that go through gates of their own differ by products of many factors: an
    average of log-normal ones (sampled once per number of rows, interpolated in the variance). Rows that are sent
    through the same matrices and only point elsewhere differ by r^T A r for normal r: chi-square factors, of as few
    degrees of freedom as A has directions left, whose average is much smaller at the same variance of the logarithm.
    `turned`: part of the variance that is of the second kind.
    """
    size = LogLaw(row.log_mean)  # a power of a factor of mean 1 (behind a norm: its inverse) has another mean
    row = row - size
    if rows <= 1 or row.variance <= NARROW:
        return size + row.averaged(1 / max(rows, 1))
    apart = _lognormal_average(row, rows)
    if not turned:
        return size + apart
    m = _freedom(min(row.variance, _LEAST_FREE))
    common = row.mean - chi_square(m).mean + chi_square(m * rows).mean
    return size + apart + LogLaw(turned * (common - apart.mean))


_LEAST_FREE = pi**2 / 2
"""Variance of ln chi^2_1: a single direction is left."""


@lru_cache(maxsize=1024)
def _freedom(variance: float) -> float:
    """m with Var ln chi^2_m = psi'(m/2) = `variance`."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    return 2 * exp(float(brentq(lambda half: float(polygamma(1, exp(half))) - variance, -2.0, 10.0)))


def _lognormal_average(row: LogLaw, rows: int) -> LogLaw:
    variances, cumulants = _averages(min(rows, MOST_ROWS))
    found = [float(np.interp(log(row.variance), np.log(variances), column)) for column in cumulants.T]
    excess = min(rows, MOST_ROWS) / rows  # more rows than were sampled: the rest of the 1/rows law
    return LogLaw(found[0] * excess, found[1] * excess, found[2] * excess**2, found[3] * excess**3)


NARROW = 0.02
"""Variance of a logarithm up to which an average of factors needs no sampling."""
MOST_ROWS = 256
_SAMPLES = 2**20


@lru_cache(maxsize=32)
def _averages(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """For a grid of variances V: the cumulants of ln of the average of `rows` factors exp(N(-V/2, V))."""
    draws = max(_SAMPLES // rows, 2048)
    normal = np.random.default_rng(0).standard_normal((draws // 2, rows))
    normal = np.concatenate([normal, -normal])
    variances = np.geomspace(NARROW, 64.0, 28)
    out = np.zeros((variances.size, 4))
    for place, variance in enumerate(variances):
        exponent = sqrt(variance) * normal - variance / 2
        top = exponent.max(axis=1, keepdims=True)
        logs = np.log(np.exp(exponent - top).mean(axis=1)) + top[:, 0]
        d = logs - logs.mean()
        second = float((d**2).mean())
        out[place] = logs.mean(), second, (d**3).mean(), (d**4).mean() - 3 * second**2
    return variances, out


def gates(n: int) -> LogLaw:
    """ln(2 Beta(K/2, (n - K)/2)): what a rectifier adds, whatever the length of the vector that it cuts.

    The length of a Gaussian vector and its direction are independent, so `rectified` is `chi_square` times this; the
    same factor acts on a gradient whose gates are open with probability 1/2.
    """
    return rectified(n) - chi_square(n)


def dead_probability(n: int, on: float = 0.5) -> float:
    """That all n neurons of a layer are shut for one input, each open with probability `on`."""
    return float((1.0 - on) ** n)


def neurons(n: float, second: float, third: float, fourth: float = 0.0) -> LogLaw:
    """ln of the average of n independent energies with relative cumulants c2, c3, c4 (mean 1): two orders in 1/n.

    Delta method: E ln = -c2/(2n) + (c3/3 - 3 c2^2/4)/n^2, var = c2/n + (5 c2^2/2 - c3)/n^2,
    third = (c3 - 3 c2^2)/n^2, fourth = (c4 - 12 c2 c3 + 20 c2^3)/n^3. Third-order terms in the mean and the variance
    are dropped, as is everything beyond the leading term of the third and the fourth cumulant.
    """
    return LogLaw(
        -second / (2 * n) + (third / 3 - 0.75 * second**2) / n**2,
        second / n + (2.5 * second**2 - third) / n**2,
        (third - 3 * second**2) / n**2,
        (fourth - 12 * second * third + 20 * second**3) / n**3,
    )
