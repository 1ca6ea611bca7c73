"""E[f(u) g(v)] for two functions made of gates (`gates.py`), in closed form.

    tilting   the normal law times exp(a*u**2 + b*u + c*v**2 + d*v) is a constant times another normal law
    Stein     E[u h(u, v)] = E[u] E[h] + k11 E[dh/du] + k12 E[dh/dv]; it lowers the power of u or v each time
    gates     the derivative of a gate is a normal density (or a point mass), which conditions the law on it
    base      P(u + noise > 0 and v + noise > 0): the bivariate normal distribution function

Arc-cosine kernels (Cho and Saul 2009), erf (Williams 1997), GELU (Tsuchida et al. 2020) and ELU, at any means, are
instances; nothing here knows them by name. Each number travels with the sum of the absolute values of its terms, which
times the unit roundoff bounds what was lost to cancellation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.bivariate.gates import ABOVE, ODD, Gate, Group
from lensnet.algebra.bivariate.law import TINY, Law
from lensnet.algebra.bivariate.normal_cdf import both_positive
from lensnet.algebra.normal import erf, ndtr

Array = NDArray[np.float64]
Number = tuple[Any, Any] | None
"""A value and the sum of the absolute values of its terms; None is an exact 0."""

EPS = 4.0 * np.finfo(float).eps
_ROOT_TWO_PI = math.sqrt(2.0 * math.pi)


def expected_product(first: tuple[Group, ...], second: tuple[Group, ...], law: Law) -> tuple[Array, Array]:
    """E[f(u) g(v)] and a bound on its rounding error, in the shape that the law's arrays broadcast to."""
    total: Number = None
    with np.errstate(all="ignore"):
        for f in first:
            for g in second:
                if not f.is_pure_wave or not g.is_pure_wave:
                    total = _plus(total, _pair(f, g, law))
                elif f.linear.imag > 0 and g.linear.imag > 0:
                    total = _plus(total, _waves(f, g, law))
    shape = np.broadcast_shapes(
        *(np.shape(a) for a in (law.k11, law.k22, law.k12, law.mean1, law.mean2) if a is not None)
    )
    value, size = (0.0, 0.0) if total is None else total
    return np.broadcast_to(np.real(value), shape), EPS * np.broadcast_to(size, shape)


def _pair(f: Group, g: Group, law: Law) -> Number:
    tilted, weight = _tilted(law, f, g)
    if (f.gate, g.gate) not in tilted.averages:
        tilted.averages[f.gate, g.gate] = Averages(tilted.shifted(f.threshold, g.threshold), f.gate, g.gate)
    averages: Averages = tilted.averages[f.gate, g.gate]
    total: Number = None
    for i, a in enumerate(f.polynomial):
        for j, b in enumerate(g.polynomial):
            if a != 0 and b != 0:
                total = _plus(total, _times(averages.moment(i, j), _real(a * b)))
    return total if weight is None or total is None else (total[0] * weight[0], total[1] * weight[1])


def _waves(f: Group, g: Group, law: Law) -> Number:
    """E of 2 Re(c e^(i a u)) times 2 Re(d e^(i b v)): even and odd parts by cosh and sinh, which never cancel."""
    a, b = f.linear.imag, g.linear.imag
    c, d = f.polynomial[0], g.polynomial[0]
    c = c if law.mean1 is None else c * np.exp(1j * a * law.mean1)
    d = d if law.mean2 is None else d * np.exp(1j * b * law.mean2)
    x = a * b * law.k12
    far = np.abs(x)
    exponent = 0.5 * (a * a * law.k11 + b * b * law.k22)
    damping, back = np.exp(far - exponent), np.exp(-2.0 * far)
    even = 2.0 * np.real(c) * np.real(d) * damping * (1.0 + back)
    odd = 2.0 * np.imag(c) * np.imag(d) * damping * np.copysign(np.expm1(-2.0 * far), x)
    return even + odd, (np.abs(even) + np.abs(odd)) * (1.0 + exponent)


def _real(number: complex) -> complex | float:
    return number.real if number.imag == 0 else number


def _tilted(law: Law, f: Group, g: Group) -> tuple[Law, Number]:
    """The law times both exponentials, normalised, and the constant that was taken out (None: 1)."""
    a, c = f.square, g.square
    b: Any = _real(f.linear)
    d: Any = _real(g.linear)
    if a == 0 and c == 0 and b == 0 and d == 0:
        return law, None
    divisor = (1.0 - 2.0 * a * law.k11) * (1.0 - 2.0 * c * law.k22) - 4.0 * a * c * law.k12 * law.k12
    if a or c:
        # beyond these the integral diverges
        open_ = (divisor > 0) & (1.0 - 2.0 * a * law.k11 > 0)
        divisor = np.where(open_, divisor, np.nan)
        k11, k22 = (law.k11 - 2.0 * c * law.det) / divisor, (law.k22 - 2.0 * a * law.det) / divisor
        k12, det = law.k12 / divisor, law.det / divisor
    else:
        k11, k22, k12, det = law.k11, law.k22, law.k12, law.det
    exponent: Any = 0.0
    size: Any = 0.0
    mean1, mean2 = law.mean1, law.mean2
    for mean, square, linear in ((mean1, a, b), (mean2, c, d)):
        if mean is not None:
            term = mean * (square * mean + linear)
            exponent, size = exponent + term, size + abs(term)
    b = b if mean1 is None else b + 2.0 * a * mean1
    d = d if mean2 is None else d + 2.0 * c * mean2
    shift1, shift2 = k11 * b + k12 * d, k12 * b + k22 * d
    for term in (0.5 * b * b * k11, b * d * k12, 0.5 * d * d * k22):
        exponent, size = exponent + term, size + abs(term)
    weight = np.exp(exponent) / np.sqrt(divisor)
    moved = any(np.any(x) for x in (b, d))
    means = (shift1 if mean1 is None else mean1 + shift1, shift2 if mean2 is None else mean2 + shift2)
    tilted = Law(k11, k22, k12, det, *(means if moved else (mean1, mean2)))
    return tilted, (weight, abs(weight) * (1.0 + size))


class Averages:
    """E[u**i v**j g1(u) g2(v)] under one law, each worked out once; the gates' thresholds are at 0."""

    def __init__(self, law: Law, first: Gate | None, second: Gate | None) -> None:
        self._law, self._first, self._second = law, first, second
        self._known: dict[tuple[int, int], Number] = {}
        self._on_first: tuple[Averages, Number] | None = None
        self._on_second: tuple[Averages, Number] | None = None

    def moment(self, i: int, j: int) -> Number:
        if i < 0 or j < 0:
            return None
        if (i, j) not in self._known:
            self._known[i, j] = self._lowered(i, j) if i or j else self._base()
        return self._known[i, j]

    def _lowered(self, i: int, j: int) -> Number:
        law = self._law
        if i == 0:
            own, other, mean, p, q = law.k22, law.k12, law.mean2, j, i
            down: Callable[[int, int], tuple[int, int]] = lambda x, y: (y, x)  # noqa: E731
            own_gate, other_gate = self._at_second, self._at_first
        else:
            own, other, mean, p, q = law.k11, law.k12, law.mean1, i, j
            down = lambda x, y: (x, y)  # noqa: E731
            own_gate, other_gate = self._at_first, self._at_second
        total = None if mean is None else _times(self.moment(*down(p - 1, q)), mean)
        inside = own_gate(*down(p - 1, q))
        if p > 1:
            inside = _plus(inside, _times(self.moment(*down(p - 2, q)), float(p - 1)))
        across = other_gate(*down(p - 1, q))
        if q > 0:
            across = _plus(across, _times(self.moment(*down(p - 1, q - 1)), float(q)))
        return _plus(_plus(total, _times(inside, own)), _times(across, other))

    def _at_first(self, i: int, j: int) -> Number:
        """E[u**i v**j g1'(u) g2(v)]."""
        if self._first is None:
            return None
        if self._on_first is None:
            law, weight = _conditioned(self._law, self._first)
            self._on_first = Averages(law, None, self._second), weight
        averages, weight = self._on_first
        return _product(averages.moment(i, j), weight)

    def _at_second(self, i: int, j: int) -> Number:
        if self._second is None:
            return None
        if self._on_second is None:
            law, weight = _conditioned(self._law.swapped, self._second)
            self._on_second = Averages(law.swapped, self._first, None), weight
        averages, weight = self._on_second
        return _product(averages.moment(i, j), weight)

    def _base(self) -> Number:
        law, first, second = self._law, self._first, self._second
        if first is None or second is None:
            if first is None and second is None:
                return 1.0, 1.0
            if first is None:
                assert second is not None
                return _one_gate(second, law.k22, law.mean2, law.slack2)
            return _one_gate(first, law.k11, law.mean1, law.slack1)
        a, b = law.k11 + first.variance + TINY, law.k22 + second.variance + TINY
        s, t = np.sqrt(a), np.sqrt(b)
        rest = law.det + first.variance * law.k22 + second.variance * law.k11 + first.variance * second.variance
        r, rest = law.k12 / s / t, np.sqrt(np.maximum(rest, 0.0)) / s / t
        if law.centred and first.kind == second.kind == ODD:
            value = np.arctan2(r, rest) * (2.0 / math.pi)
            return value, np.abs(value)
        h = None if law.mean1 is None else law.mean1 / s * _side(first)
        k = None if law.mean2 is None else law.mean2 / t * _side(second)
        value = both_positive(h, k, r * (_side(first) * _side(second)), rest)
        size = np.ones_like(value)
        if first.kind != ODD and second.kind != ODD:
            return value, size
        below1 = 0.5 if h is None else ndtr(h)
        below2 = 0.5 if k is None else ndtr(k)
        if first.kind == second.kind:
            return 4.0 * value - 2.0 * below1 - 2.0 * below2 + 1.0, 4.0 * size
        return 2.0 * value - (below2 if first.kind == ODD else below1), 2.0 * size


def _side(gate: Gate) -> float:
    return 1.0 if gate.kind in (ABOVE, ODD) else -1.0


def _one_gate(gate: Gate, variance: Array, mean: Any, slack: Array | None) -> Number:
    if mean is None:
        return None if gate.kind == ODD else (0.5, 0.5)
    std = np.sqrt(variance + gate.variance + TINY)
    h = mean / std * _side(gate)
    # a mean that is the rest of a subtraction is as wrong as its terms are; at std 0 it has been set right
    loose: Any = 0.0
    if slack is not None:
        apart = np.where(variance + gate.variance > 0, slack / std, 0.0)
        loose = apart * np.exp(-0.5 * np.maximum(np.abs(h) - EPS * apart, 0.0) ** 2)
    if gate.kind == ODD:
        value = erf(h / math.sqrt(2.0))
        return value, np.abs(value) + loose
    value = ndtr(h)
    return value, np.abs(value) * (1.0 + np.minimum(np.real(h), 0.0) ** 2 * (np.abs(value) > 0)) + loose


def _conditioned(law: Law, gate: Gate) -> tuple[Law, Number]:
    """The law given that u + noise of the gate's variance is 0, and the density of that times the gate's height."""
    spread = law.k11 + gate.variance + TINY
    height = {ABOVE: 1.0, ODD: 2.0}.get(gate.kind, -1.0)
    left = gate.variance / spread
    k22 = (law.det + gate.variance * law.k22) / spread
    mean1, mean2, slack = None, law.mean2, law.slack2
    weight = height / _ROOT_TWO_PI / np.sqrt(spread)
    size: Any = 1.0
    if law.mean1 is not None:
        h2 = law.mean1 * law.mean1 / spread
        weight, size = weight * np.exp(-0.5 * h2), 1.0 + np.abs(h2)
        mean1 = None if gate.variance == 0 else law.mean1 * left
        slope = law.k12 / spread
        if mean2 is None:
            mean2, slack = -slope * law.mean1, None
        else:
            mean2, slack = _regressed(
                law, gate, slope, (law.less1 if law.less1 is not None else law.k11 - law.k12) / spread
            )
    conditioned = Law(law.k11 * left, k22, law.k12 * left, law.det * left, mean1, mean2, None, slack)
    return conditioned, (weight, np.abs(weight) * size)


def _regressed(law: Law, gate: Gate, slope: Array, lag: Array) -> tuple[Any, Any]:
    """mean2 - slope*mean1, and the size of what was subtracted; slope = 1 - lag near correlation 1."""
    mean1, mean2 = law.mean1, law.mean2
    assert mean1 is not None and mean2 is not None
    near = slope > 0.5
    apart, lagging = mean2 - mean1, (lag + gate.variance / (law.k11 + gate.variance + TINY)) * mean1
    mean = np.where(near, apart + lagging, mean2 - slope * mean1)
    slack = np.where(near, np.abs(apart) + np.abs(lagging), np.abs(mean2) + np.abs(slope * mean1))
    return np.where(np.abs(mean) <= EPS * slack, 0.0, mean), slack


def _plus(first: Number, second: Number) -> Number:
    if first is None or second is None:
        return second if first is None else first
    return first[0] + second[0], first[1] + second[1]


def _times(number: Number, factor: Any) -> Number:
    return None if number is None else (number[0] * factor, number[1] * abs(factor))


def _product(first: Number, second: Number) -> Number:
    return None if first is None or second is None else (first[0] * second[0], first[1] * second[1])
