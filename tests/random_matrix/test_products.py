"""Products of Gaussian matrices and Jacobians of networks against exact recursions and sampled matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import ortho_group

from lensnet.algebra.random_matrix.products import (
    JacobianLaw,
    gated_density,
    gaussian_product_moments,
    product_participation_ratio,
    slope_moments,
)


def test_the_closed_form_of_square_products_is_the_recursion() -> None:
    for width, depth in ((10, 1), (10, 5), (50, 50)):
        u, v = gaussian_product_moments([width] * depth, width, [1 / width] * depth)
        assert product_participation_ratio(width, depth) == pytest.approx(v / u, rel=1e-10)
    assert product_participation_ratio(100_000, 4) == pytest.approx(100_000 / 5, rel=1e-3)


def test_rectangular_products_against_sampled_ones() -> None:
    rng, widths, variances, samples = np.random.default_rng(0), [12, 5, 9], [0.2, 0.1, 0.3], 6
    squares, traces = [], []
    for _ in range(20_000 // 4):
        y = np.eye(samples)
        for m, variance in zip(widths, variances, strict=True):
            y = rng.standard_normal((m, len(y))) * np.sqrt(variance) @ y
        g = y.T @ y
        squares.append(np.sum(g * g))
        traces.append(np.trace(g) ** 2)
    for found, values in zip(gaussian_product_moments(widths, samples, variances), (squares, traces), strict=True):
        assert found == pytest.approx(np.mean(values), abs=3.5 * np.std(values) / np.sqrt(len(values)))


def jacobian(kind: str, weights: str, width: int, depth: int, q: float, seed: int) -> np.ndarray:
    """Squared singular values of a product of weights and slopes at independent normal preactivations."""
    rng = np.random.default_rng(seed)
    j = np.eye(width)
    for _ in range(depth):
        w = (
            ortho_group.rvs(width, random_state=rng)
            if weights == "orthogonal"
            else (rng.standard_normal((width, width)) / np.sqrt(width))
        )
        z = np.sqrt(q) * rng.standard_normal(width)
        slope = {"relu": np.sqrt(2) * (z > 0), "hardtanh": 1.0 * (np.abs(z) < 1), "tanh": 1 / np.cosh(z) ** 2}[kind]
        j = slope[:, None] * (w @ j)
    return np.linalg.svd(j, compute_uv=False) ** 2


def slopes(kind: str, q: float) -> tuple[float, float, float]:
    """gain, E phi'^2, E phi'^4."""
    if kind == "relu":
        return 2.0, 0.5, 0.5
    if kind == "hardtanh":
        share = float(erf(1 / np.sqrt(2 * q)))
        return 1.0, share, share
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    return (1.0, *slope_moments(np.cosh(np.sqrt(q) * nodes) ** -4.0, weights / weights.sum()))


@pytest.mark.parametrize(
    ("kind", "weights", "q"),
    [
        ("relu", "gaussian", 1.0),
        ("relu", "orthogonal", 1.0),
        ("hardtanh", "orthogonal", 1.0),
        ("tanh", "orthogonal", 0.05),
    ],
)
def test_mean_and_variance_of_squared_singular_values(kind: str, weights: str, q: float) -> None:
    depth, width = 6, 100
    law = JacobianLaw(*slopes(kind, q), depth, weights)  # type: ignore[arg-type]
    found = np.array([jacobian(kind, weights, width, depth, q, seed) for seed in range(12)])
    mean = found.mean(axis=1)
    assert law.mean == pytest.approx(mean.mean(), abs=3.5 * mean.std() / np.sqrt(12))
    square = (found**2).mean(axis=1)
    error = square.std() / np.sqrt(12) / law.mean**2
    assert law.relative_variance + 1 == pytest.approx(square.mean() / law.mean**2, abs=3.5 * error + 0.02)


def test_orthogonal_tanh_is_isometric_and_a_rectifier_never_is() -> None:
    small = slopes("tanh", 1e-3)
    assert JacobianLaw(*small, 10, "orthogonal").isometric()
    assert not JacobianLaw(*small, 10, "gaussian").isometric()
    for weights in ("gaussian", "orthogonal"):
        assert not any(JacobianLaw(2.0, 0.5, 0.5, depth, weights).isometric() for depth in (1, 2, 10))


@pytest.mark.parametrize(
    ("kind", "weights", "depth"),
    [("relu", "gaussian", 1), ("relu", "gaussian", 3), ("relu", "orthogonal", 3), ("hardtanh", "orthogonal", 2)],
)
def test_density_by_s_transforms_against_sampled_jacobians(kind: str, weights: str, depth: int) -> None:
    gain, share, _ = slopes(kind, 1.0)
    values = np.concatenate([jacobian(kind, weights, 100, depth, 1.0, seed) for seed in range(30)])
    atom = max(1 - depth * (1 - share), 0.0) if weights == "orthogonal" else 0.0
    # a density in log x is smooth at both ends
    x = np.geomspace(1e-4, 40, 500)
    mass = gated_density(x, gain, share, depth, weights) * x  # type: ignore[arg-type]
    cumulative = np.concatenate([[0], np.cumsum((mass[1:] + mass[:-1]) / 2 * np.diff(np.log(x)))])
    for level in (0.05, 0.3, 0.9, 2.0, 4.0):
        above = cumulative[-1] - np.interp(np.log(level), np.log(x), cumulative) + atom * (level < 1)
        assert above == pytest.approx(np.mean(values > level), abs=0.02)
