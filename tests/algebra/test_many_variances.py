"""Dual activations of very many different variances, where Hermite coefficients are interpolated in the variance:
against closed forms, and against quadrature of each variance alone where interpolation cannot hold the digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.bivariate import coefficients
from lensnet.algebra.bivariate.hermite import product
from lensnet.algebra.bivariate.law import Law
from lensnet.algebra.pointwise import PointwiseFunction, pointwise
from lensnet.expressions.symbolic import X

COUNT = 1500
Closed = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def arcsine(one: np.ndarray, other: np.ndarray, both: np.ndarray) -> np.ndarray:
    """E erf(u) erf(v) (Williams 1998, equation 11)."""
    return 2 / np.pi * np.arcsin(2 * both / np.sqrt((1 + 2 * one) * (1 + 2 * other)))


def bell(one: np.ndarray, other: np.ndarray, both: np.ndarray) -> np.ndarray:
    """E exp(-u**2 - v**2) = 1/sqrt(det(1 + 2 K))."""
    return ((1 + 2 * one) * (1 + 2 * other) - 4 * both**2) ** -0.5


def wave(one: np.ndarray, other: np.ndarray, both: np.ndarray) -> np.ndarray:
    """E sin(u) sin(v)."""
    return np.exp(-(one + other) / 2) * np.sinh(both)


@pytest.mark.parametrize(
    ("expression", "closed", "low", "high"),
    [(sp.erf(X), arcsine, 0.005, 0.35), (sp.exp(-(X**2)), bell, 0.1, 0.9), (sp.sin(X), wave, 0.02, 1.9)],
    ids=["erf", "bell", "sine"],
)
def test_many_variances_have_the_closed_form_within_the_bound(
    expression: sp.Expr, closed: Closed, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    integrated = counted(monkeypatch)
    rng = np.random.default_rng(0)
    one, other = (np.exp(rng.uniform(np.log(low), np.log(high), COUNT)) ** 2 for _ in range(2))
    rho = rng.uniform(-1, 1, COUNT)
    both = rho * np.sqrt(one * other)
    f = pointwise(expression)
    value, bound, scale = product(f, f, Law.of(one, other, both), 1e-12)
    assert np.all(np.abs(value - closed(one, other, both)) <= bound + 2e-15 * scale)
    assert np.max(bound / scale) < 1e-12
    assert sum(integrated) < COUNT / 4  # as many as octaves need, whatever the number of variances


def test_a_jump_is_not_interpolated_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coefficients of 1[z > c/s]: Phi(-c/s) and h_{k-1}(c/s) phi(c/s)/sqrt(k), which turn fast in s for large k."""
    integrated = counted(monkeypatch)
    std = np.linspace(0.3, 0.55, 300)
    at = 1.0 / std
    step = pointwise(sp.Heaviside(X - 1, 0), kinks=(1.0,))
    found, _, power, error = coefficients.coefficients_of(step, np.zeros(std.size), std**2, 96)
    before, now = np.zeros_like(at), np.ones_like(at)  # orthonormal polynomials h_{k-1}
    for k in range(1, 97):
        exact = now * np.exp(-at * at / 2) / np.sqrt(2 * np.pi) / np.sqrt(k)
        assert np.all(np.abs(found[k] - exact) <= error + 1e-13 * np.sqrt(power)), k
        before, now = now, (at * now - np.sqrt(k - 1.0) * before) / np.sqrt(k)
    assert sum(integrated) > 100


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs each quadrature is asked for."""
    sizes: list[int] = []
    compute = coefficients._computed

    def counting(function: PointwiseFunction, mean: np.ndarray, std: np.ndarray, terms: int) -> coefficients.Rows:
        sizes.append(mean.size)
        return compute(function, mean, std, terms)

    monkeypatch.setattr(coefficients, "_computed", counting)
    return sizes
