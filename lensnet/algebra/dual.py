"""Dual activations: what a pointwise function does to the covariance of two inputs.

    relu = dual(function)                            # a PointwiseFunction, as the moments level uses it
    value, error = relu.kernel(k11, k22, k12)        # E f(u) f(v), u and v normal with these (co)variances
    value, error = relu.gradient_kernel(k11, k22, k12)
    relu.pair(dual(tanh)).kernel(k11, k22, k12)      # E f(u) g(v)
    relu.cross(k11, k22, k12)                        # E u f(v)

Everything broadcasts: for a batch of inputs with Gram matrix K pass `d[:, None], d[None, :], K` with d its diagonal.
Closed forms are used where the function has one (`bivariate/gates.py` says which do), Mehler series otherwise; each
value comes with an error bound.
"""

from __future__ import annotations

from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.bivariate import hermite, homogeneous, nested, semivariogram
from lensnet.algebra.bivariate.gates import Group, gated
from lensnet.algebra.bivariate.homogeneous import Angle, sides
from lensnet.algebra.bivariate.law import Law
from lensnet.algebra.bivariate.moments import expected_product
from lensnet.algebra.gaussian import expect, jump_density
from lensnet.algebra.pointwise import PointwiseFunction, pointwise

Array = NDArray[np.float64]

_LOSS = 1e-9
"""A closed form that loses more of its scale than this to cancellation is replaced by the series."""
_SERIES = 1e-12
"""Relative to sqrt(E f**2 E g**2): the series stops where its bound is below."""

_NEAR = 0.01
"""Gaps below which the difference of two kernels has lost too many digits."""


class Bounded(NamedTuple):
    """Values and absolute bounds on their errors; the bound broadcasts against the value."""

    value: Array
    error: Array


class PairDual:
    """E f(u) g(v) for two functions of jointly normal u and v, and the same for their slopes."""

    def __init__(self, first: PointwiseFunction, second: PointwiseFunction) -> None:
        self.first, self.second = first, second

    def kernel(
        self, k11: ArrayLike, k22: ArrayLike, k12: ArrayLike, mean1: ArrayLike = 0.0, mean2: ArrayLike = 0.0
    ) -> Bounded:
        """E f(u) g(v).

        Args:
            k11, k22: variances of u and v, >= 0.
            k12: their covariance; beyond sqrt(k11*k22) it is taken as that.
            mean1, mean2: their means.

        Raises:
            ValueError: a variance is negative.
        """
        return self._values.of(k11, k22, k12, mean1, mean2)

    def gradient_kernel(
        self, k11: ArrayLike, k22: ArrayLike, k12: ArrayLike, mean1: ArrayLike = 0.0, mean2: ArrayLike = 0.0
    ) -> Bounded:
        """E f'(u) g'(v), slopes almost everywhere as autograd has them: 0 for a step. Arguments as for `kernel`."""
        return self._slopes.of(k11, k22, k12, mean1, mean2)

    def both(
        self, k11: ArrayLike, k22: ArrayLike, k12: ArrayLike, mean1: ArrayLike = 0.0, mean2: ArrayLike = 0.0
    ) -> tuple[Bounded, Bounded]:
        """`kernel` and `gradient_kernel` of the same inputs, which share work."""
        if self._values.sides is not None and self._slopes.sides is not None and _zero(mean1) and _zero(mean2):
            values, slopes = homogeneous.both(*self._values.sides, _angle(k11, k22, k12))
            return Bounded(*values), Bounded(*slopes)
        law = Law.of(k11, k22, k12, mean1, mean2)
        given = k11, k22, k12, mean1, mean2, law
        return self._values.of(*given), self._slopes.of(*given)

    @cached_property
    def _values(self) -> _Product:
        return _Product(self.first, self.second)

    @cached_property
    def _slopes(self) -> _Product:
        return _Product(slope_of(self.first), slope_of(self.second))

    @property
    def method(self) -> str:
        """ "arc-cosine", "closed form" or "series": how `kernel` is computed."""
        return self._values.method


class Dual(PairDual):
    """The dual activation of one function."""

    def __init__(self, function: PointwiseFunction) -> None:
        super().__init__(function, function)
        self.function = function

    def pair(self, other: Dual) -> PairDual:
        """E f(u) g(v) with the other's function g: two branches with different activations that meet."""
        return pair(self.function, other.function)

    def cross(
        self, k11: ArrayLike, k22: ArrayLike, k12: ArrayLike, mean1: ArrayLike = 0.0, mean2: ArrayLike = 0.0
    ) -> Bounded:
        """E u f(v), where a branch without activation meets one with it: mean1 E f + k12 E f' by Stein's lemma."""
        variance, mean = np.asarray(k22, dtype=np.float64), np.asarray(mean2, dtype=np.float64)
        std = np.sqrt(variance)
        moments = expect(self.function, mean, std)
        both, middle = np.asarray(k12, dtype=np.float64), np.asarray(mean1, dtype=np.float64)
        slope = moments.slope_mean.value + jump_density(self.function, mean, std)
        value = middle * moments.mean.value + both * slope
        error = np.abs(middle) * moments.mean.error + np.abs(both) * moments.slope_mean.error
        rounding = homogeneous.ROUNDING * (np.abs(middle * moments.mean.value) + np.abs(both * slope))
        return Bounded(value, error + rounding)

    def semivariogram(self, gap: ArrayLike, variance: ArrayLike = 1.0, mean: ArrayLike = 0.0) -> Bounded:
        """E (f(u) - f(v))**2 / 2 of two inputs of one mean and variance, at correlation 1 - gap: what the kernel falls
        short of its value at correlation 1.

        Accurate relative to itself down to gap = 1e-300, where `kernel` has no digits left; so iterate
        gap -> gain**2 * semivariogram(gap, q) / q' instead of the correlation.

        Args:
            gap: 0 to 2.
        """
        gaps, variances, means = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (gap, variance, mean)))
        side = self._values.sides
        if side is not None and side[0].degree < 2 and not means.any():
            return Bounded(*semivariogram.homogeneous(side[0], variances, gaps))
        if self._slopes.closed and not self.function.jumps:
            return self._integrated(gaps, variances, means)
        if self.function.jumps and self._values.closed:
            # it falls like the root of the gap: the difference keeps half of the digits of the gap, which is enough
            top = self._values.of_law(Law.of(variances, variances, variances, means, means, 0.0))
            value, error = self._values.of_law(Law.of(variances, variances, variances, means, means, gaps))
            return Bounded(top.value - value, top.error + error)
        slopes = expect(self.function, means, np.sqrt(variances)).slope_second_moment.value * variances
        # as they were given: a grid of variances and gaps needs its powers once per gap, its coefficients once per law
        ndim = gaps.ndim
        at, own = (
            np.asarray(gap, dtype=np.float64),
            np.broadcast_arrays(np.asarray(variance, float), np.asarray(mean, float)),
        )
        value, error = semivariogram.of_series(
            lambda terms: hermite.shaped_series(self.function, own[1], own[0], terms, ndim),
            np.where(bool(self.function.jumps), np.inf, slopes),
            at.reshape((1,) * (ndim - at.ndim) + at.shape),
        )
        poor = np.asarray(error > _LOSS * value)
        if poor.any() and not self.function.jumps:
            value, error = np.array(value), np.array(error)
            other, bound = self._integrated(gaps[poor], variances[poor], means[poor])
            better = bound < error[poor]
            value[poor] = np.where(better, other, value[poor])
            error[poor] = np.where(better, bound, error[poor])
        return Bounded(value, error)

    def _integrated(self, gap: Array, variance: Array, mean: Array) -> Bounded:
        value, error = np.empty(gap.shape), np.empty(gap.shape)
        near = gap < _NEAR
        for part in (near, ~near):
            if not part.any():
                continue
            v, m, g = variance[part], mean[part], gap[part]
            if part is near:
                value[part], error[part] = semivariogram.integrated(partial(self._slopes_at, v, m), v, g)
            else:
                top, there = (self._values.of_law(Law.of(v, v, v, m, m, at)) for at in (np.zeros(()), g))
                value[part], error[part] = top.value - there.value, top.error + there.error
        return Bounded(value, error)

    def _slopes_at(self, variance: Array, mean: Array, gap: Array) -> Bounded:
        v, m = (np.broadcast_to(a[..., None], gap.shape) for a in (variance, mean))
        return self._slopes.of_law(Law.of(v, v, v, m, m, gap))


def dual(function: PointwiseFunction) -> Dual:
    """The dual activation of a function; equal requests share one object and its tables."""
    if "dual" not in function.tables:
        function.tables["dual"] = Dual(function)
    found: Dual = function.tables["dual"]
    return found


@lru_cache(maxsize=1024)
def pair(first: PointwiseFunction, second: PointwiseFunction) -> PairDual:
    """E f(u) g(v) of two functions."""
    return dual(first) if first is second else PairDual(first, second)


def slope_of(function: PointwiseFunction) -> PointwiseFunction:
    """f' almost everywhere, as a function of its own with the kinks of f."""
    return pointwise(function.slope.expressions[""], name=f"{function.name}'", kinks=function.kinks.points)


class _Product:
    """E f(u) g(v) by the best method that the two functions allow."""

    def __init__(self, f: PointwiseFunction, g: PointwiseFunction) -> None:
        self._f, self._g = f, g
        self.sides = homogeneous.together(sides(f), sides(g))
        self._centred = _groups(f, g, True)
        self._general = _groups(f, g, False)

    @property
    def closed(self) -> bool:
        return self._centred is not None

    @property
    def method(self) -> str:
        if self.sides is not None:
            return "arc-cosine"
        return "series" if self._centred is None else "closed form"

    def of(
        self, k11: ArrayLike, k22: ArrayLike, k12: ArrayLike, mean1: ArrayLike, mean2: ArrayLike, law: Law | None = None
    ) -> Bounded:
        """`law`: that of these moments, where it is there already."""
        if self.sides is not None and _zero(mean1) and _zero(mean2):
            return Bounded(*homogeneous.kernel(*self.sides, _angle(k11, k22, k12)))
        return self.of_law(law or Law.of(k11, k22, k12, mean1, mean2))

    def of_law(self, law: Law) -> Bounded:
        groups = self._centred if law.centred else self._general
        if groups is None:
            return self._by_series(law)
        value, error = expected_product(*groups, law)
        return self._mended(law, value, error + self._jump_error(law))

    def _by_series(self, law: Law) -> Bounded:
        value, bound, scale = hermite.product(self._f, self._g, law, _SERIES)
        return Bounded(*nested.improved(self._f, self._g, law, value, bound, _LOSS * scale))

    def _mended(self, law: Law, value: Array, error: Array) -> Bounded:
        """Where a closed form lost its digits, the series has them."""
        if np.all(error <= _LOSS * np.abs(value)):  # what is good relative to itself needs no scale
            return Bounded(value, error)
        scale = self._scale(law)
        lost = ~(error <= _LOSS * scale) & np.isfinite(scale)
        if not lost.any():
            return Bounded(value, error)
        value, error = np.array(value), np.array(np.broadcast_to(error, value.shape))
        part = law.part(lost)
        other, bound = self._by_series(part)
        better = ~(bound >= error[lost])
        value[lost] = np.where(better, other, value[lost])
        error[lost] = np.where(better, bound, error[lost])
        return Bounded(value, error)

    def _scale(self, law: Law) -> Array:
        """sqrt(E f**2 E g**2), which the value cannot exceed."""
        powers = []
        for function, mean, variance in ((self._f, law.mean1, law.k11), (self._g, law.mean2, law.k22)):
            moments = expect(function, 0.0 if mean is None else mean, np.sqrt(variance))
            powers.append(np.sqrt(np.abs(moments.second_moment.value)))
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(powers[0] * powers[1])

    def _jump_error(self, law: Law) -> Array:
        """Two steps at correlation r have slope 1/sqrt(1 - r**2) in r: what the rounding of r makes of that."""
        heights = [sum(abs(height) for _, height in function.jumps) for function in (self._f, self._g)]
        if law.sharp or not all(heights):
            return np.zeros(())
        with np.errstate(all="ignore"):
            rest = np.sqrt(np.maximum(law.det / (law.k11 * law.k22), 1e-16))
        return np.asarray(np.where(np.isfinite(rest), 2e-16 * heights[0] * heights[1] / rest, 0.0))


def _groups(
    f: PointwiseFunction, g: PointwiseFunction, centred: bool
) -> tuple[tuple[Group, ...], tuple[Group, ...]] | None:
    first, second = gated(f, centred), gated(g, centred)
    if first is None or second is None:
        return None
    for own, other in ((first, second), (second, first)):
        # a wave seen through two gates needs the distribution function at complex arguments
        if any(group.is_wave and group.gate for group in own) and any(group.gate for group in other):
            return None
    return first, second


def _angle(k11: ArrayLike, k22: ArrayLike, k12: ArrayLike) -> Angle:
    variances = [np.asarray(k, dtype=np.float64) for k in (k11, k22)]
    for variance in variances:
        if variance.size and variance.min() < 0:
            raise ValueError("a variance is negative")
    return Angle(variances[0], variances[1], np.asarray(k12, dtype=np.float64))


def _zero(mean: ArrayLike) -> bool:
    return isinstance(mean, float | int) and mean == 0 or not np.any(mean)
