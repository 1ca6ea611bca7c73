"""Splines of degree 5: what has degree 5 they reproduce, everything else to the sixth order of the spacing."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.algebra.quintic import Quintic, QuinticSurface

X, Y = np.linspace(-1.0, 2.0, 13), np.linspace(0.0, 1.0, 9)
AT = np.random.default_rng(0).uniform(X[0], X[-1], 500), np.random.default_rng(1).uniform(Y[0], Y[-1], 500)


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (1 - x + 0.5 * x**5) * (2 + y**2 - 3 * y**5) + x**3 * y


def along_y(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (1 - x + 0.5 * x**5) * (2 * y - 15 * y**4) + x**3


def test_polynomials_of_degree_five_are_reproduced() -> None:
    curve = Quintic(X, polynomial(X, 0.3 + 0 * X))
    np.testing.assert_allclose(curve(AT[0]), polynomial(AT[0], 0.3), atol=1e-11)
    across = QuinticSurface(X, Y, polynomial(*np.meshgrid(X, Y, indexing="ij")))
    np.testing.assert_allclose(across(*AT), polynomial(*AT), atol=1e-11)
    np.testing.assert_allclose(across.section(*AT).slope(AT[1]), along_y(*AT), atol=1e-9)
    np.testing.assert_allclose(Quintic(Y, Y**4).slope(AT[1]), 4 * AT[1] ** 3, atol=1e-10)


def test_the_error_falls_with_the_sixth_power_of_the_spacing() -> None:
    def error(cells: int) -> float:
        x, y = np.linspace(0, 2, cells + 1), np.linspace(0, 1, cells + 1)
        surface = QuinticSurface(x, y, np.exp(x)[:, None] * np.sin(4 * y))
        inside = 0.3 + np.abs(AT[0]) % 1.4, 0.2 + 0.6 * AT[1]
        return float(np.max(np.abs(surface(*inside) - np.exp(inside[0]) * np.sin(4 * inside[1]))))

    assert np.log2(error(24) / error(48)) == pytest.approx(6, abs=0.7)


def test_a_section_says_where_it_holds() -> None:
    """The root of cos(pi y) e^x = t, by Newton's method in a section: exact where the section holds."""
    surface = QuinticSurface(X, np.linspace(0, 1, 65), np.exp(X)[:, None] * np.cos(np.pi * np.linspace(0, 1, 65)))
    x, root = AT[0], 0.2 + 0.6 * AT[1]
    near, far = np.clip(root + 1e-3, 0, 1), np.clip(root + 0.1, 0, 1)
    section = surface.section(x, near)
    assert section.holds(near).all() and not section.holds(far).any()
    found = near.copy()
    for _ in range(4):
        found -= (section.value(found) - np.exp(x) * np.cos(np.pi * root)) / section.slope(found)
    inside = section.holds(found)
    assert 0.8 < inside.mean() < 1
    np.testing.assert_allclose(found[inside], root[inside], atol=1e-5)  # 4 knots for every unit of x: h**6 = 2e-4


def test_outside_the_knots_the_last_polynomial_goes_on() -> None:
    surface = QuinticSurface(X, Y, polynomial(*np.meshgrid(X, Y, indexing="ij")))
    assert surface(np.array([2.1]), np.array([1.05]))[0] == pytest.approx(polynomial(np.array(2.1), np.array(1.05)))
