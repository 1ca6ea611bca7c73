"""Log-determinants of sample matrices: exact values for Gaussian neurons, Monte Carlo for rectified ones, rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma

from lensnet.algebra.random_matrix.log_determinant import equivalent, expected_log_determinant
from lensnet.algebra.random_matrix.marchenko_pastur import log_determinant
from lensnet.algebra.random_matrix.neurons import Neurons, draw_neurons

HUGE = 1e10
"""At this scale the identity in logdet(I + s G) no longer counts, and Wishart's log-determinant is known exactly."""


def wishart(rows: int, neurons: int, scale: float) -> float:
    """E logdet((s/n) sum z z^T) of white Gaussian neurons: sum_i psi((n - i)/2) + log(2 s/n)."""
    return float(sum(digamma((neurons - i) / 2) + np.log(2 * scale / neurons) for i in range(rows)))


def relu(g: np.ndarray) -> np.ndarray:
    return np.maximum(g, 0.0)


def relu_kernel(k: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.outer(np.diag(k), np.diag(k)))
    c = np.clip(k / size, -1, 1)
    return size * (np.sqrt(1 - c * c) + (np.pi - np.arccos(c)) * c) / (2 * np.pi)


def mixed(rows: int, channels: int, common: float, seed: int = 1) -> np.ndarray:
    """A covariance between samples that share a direction."""
    rng = np.random.default_rng(seed)
    x = common * rng.standard_normal(channels) + rng.standard_normal((rows, channels))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_white_gaussian_neurons_at_leading_order_are_the_closed_form() -> None:
    for rows, neurons, scale in ((40, 160, 2.0), (90, 30, 0.5)):
        expected = neurons * log_determinant(scale, rows / neurons)
        assert equivalent(np.ones(rows), scale, neurons).value == pytest.approx(expected, rel=1e-10)


def test_rates_against_width_of_the_infinite_layer_of_the_equivalent_and_of_the_corrected_value() -> None:
    """Against the exact expectation: errors fall like 1/n, 1/n and 1/n^2."""
    rows, widths = 32, np.array([128, 256, 512, 1024])
    infinite, plain, corrected = [], [], []
    for n in widths:
        exact = wishart(rows, n, HUGE)
        infinite.append(rows * np.log1p(HUGE) - exact)
        plain.append(equivalent(np.ones(rows), HUGE, n).value - exact)
        corrected.append(expected_log_determinant(np.ones(rows), HUGE, n) - exact)

    def slope(errors: list[float]) -> float:
        return float(np.polyfit(np.log(widths), np.log(np.abs(errors)), 1)[0])

    assert slope(infinite) == pytest.approx(-1, abs=0.12)
    assert slope(plain) == pytest.approx(-1, abs=0.12)
    assert slope(corrected) < -1.8
    assert np.all(np.abs(corrected) < 0.05 * np.abs(plain))


def test_second_order_in_the_scale_holds_for_any_neurons() -> None:
    """-s^2/(2 n) (E |z|^4 - (tr K)^2 - tr K^2) on top of what the law of large numbers says."""
    draws = draw_neurons(mixed(30, 20, 0.7), relu)
    neurons = Neurons(draws @ draws.T / draws.shape[1], 50, draws)
    s = 1e-5
    k, size = neurons.covariance, (draws**2).sum(axis=0)
    found = neurons.log_determinant(s)
    exact = s * np.trace(k) - s**2 / 2 * (np.sum(k * k) + (np.mean(size**2) - np.sum(k * k)) / 50)
    assert found == pytest.approx(exact, rel=1e-8)
    second = s**2 / 100 * (np.mean(size**2) - np.trace(k) ** 2 - np.sum(k * k))
    assert found - equivalent(neurons.eigenvalues, s, 50).value == pytest.approx(-second, rel=1e-2)


@pytest.mark.parametrize("common", [0.3, 1.5])
def test_rectified_neurons_differ_in_energy(common: float) -> None:
    rows, n, scale, trials = 48, 120, 20.0, 240
    population = 2 * mixed(rows, 36, common)
    neurons = Neurons(relu_kernel(population), n, draw_neurons(population, relu))
    rng = np.random.default_rng(11)
    root = np.linalg.cholesky(population + 1e-12 * np.eye(rows))
    values = []
    for _ in range(trials):
        z = relu(root @ rng.standard_normal((rows, n)))
        values.append(np.linalg.slogdet(np.eye(rows) + scale / n * z @ z.T)[1])
    mean, error = np.mean(values), np.std(values) / np.sqrt(trials)
    assert neurons.log_determinant(scale) == pytest.approx(mean, abs=3 * error + 0.004 * mean)
    assert equivalent(neurons.eigenvalues, scale, n).value - mean > 8 * error


def test_scatter_over_draws_of_gaussian_neurons() -> None:
    rng, rows, n, scale = np.random.default_rng(2), 40, 120, 5.0
    values = []
    for _ in range(400):
        z = rng.standard_normal((rows, n))
        values.append(np.linalg.slogdet(np.eye(rows) + scale / n * z @ z.T)[1])
    assert equivalent(np.ones(rows), scale, n).variance == pytest.approx(np.var(values), rel=4 * np.sqrt(2 / 400))


def test_second_moments_of_the_sample_matrix_are_exact() -> None:
    rng, rows, n = np.random.default_rng(4), 12, 7
    population = mixed(rows, 9, 0.5)
    root = np.linalg.cholesky(population + 1e-12 * np.eye(rows))
    squared_trace, trace_of_square = [], []
    for _ in range(6000):
        z = root @ rng.standard_normal((rows, n))
        g = z @ z.T / n
        squared_trace.append(np.trace(g) ** 2)
        trace_of_square.append(np.sum(g * g))
    for found, values in zip(Neurons(population, n).second_moments(), (squared_trace, trace_of_square), strict=True):
        assert found == pytest.approx(np.mean(values), abs=3.5 * np.std(values) / np.sqrt(6000))
