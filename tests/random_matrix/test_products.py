"""Products of Gaussian matrices against exact recursions and sampled matrices."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.algebra.random_matrix.products import (
    gaussian_product_moments,
    product_participation_ratio,
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
