"""Marchenko and Pastur's law and its deformation against closed forms, quadrature and sampled matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from lensnet.algebra.random_matrix import marchenko_pastur as mp
from lensnet.algebra.random_matrix.sample_spectrum import SampleSpectrum, largest

RNG = np.random.default_rng


def sampled(population: np.ndarray, neurons: int, draws: int, seed: int = 0) -> np.ndarray:
    """Eigenvalues (draws, R) of (1/n) sum z z^T, z normal with these population eigenvalues."""
    rng = RNG(seed)
    out = []
    for _ in range(draws):
        z = np.sqrt(population)[:, None] * rng.standard_normal((len(population), neurons))
        out.append(np.linalg.eigvalsh(z @ z.T / neurons))
    return np.array(out)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.5])
def test_moments_are_integrals_of_the_density(ratio: float) -> None:
    low, high = mp.edges(ratio)

    def over(power: int) -> float:  # x = low + (high - low) sin^2, which removes the square roots at both ends
        width = high - low

        def along(angle: float) -> float:
            x = low + width * np.sin(angle) ** 2
            return float(x**power * mp.density(x, ratio) * width * np.sin(2 * angle))

        return float(quad(along, 0, np.pi / 2, epsabs=1e-12)[0])

    assert over(0) == pytest.approx(min(1.0, 1 / ratio), rel=1e-8)
    for power in range(1, 5):
        assert over(power) == pytest.approx(mp.moment(power, ratio), rel=1e-9)


@pytest.mark.parametrize(("ratio", "snr"), [(0.25, 3.0), (2.0, 0.7)])
def test_log_determinant_is_an_integral_of_the_density(ratio: float, snr: float) -> None:
    low, high = mp.edges(ratio)  # H^T H of (K, K): K of N eigenvalues
    value = quad(lambda x: np.log1p(snr * x) * mp.density(x, ratio), low, high, limit=200)[0] * ratio
    assert mp.log_determinant(snr, ratio) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("rows", "neurons"), [(100, 400), (300, 100)])
def test_a_white_population_gives_the_closed_density(rows: int, neurons: int) -> None:
    spectrum = SampleSpectrum.of(np.ones(rows), neurons)
    ratio = rows / neurons
    low, high = mp.edges(ratio)
    inside = np.linspace(low + 0.1 * (high - low), high - 0.1 * (high - low), 9)
    assert spectrum.density(inside) == pytest.approx(rows * mp.density(inside, ratio), rel=5e-3)
    values = spectrum.eigenvalues()
    assert values.sum() == pytest.approx(rows)
    assert np.sum(values > 0) == min(rows, neurons)
    assert np.mean(values**2) == pytest.approx(mp.moment(2, ratio), rel=5e-3)


@pytest.mark.parametrize("neurons", [60, 200, 1000])
def test_eigenvalues_of_a_population_with_spikes_and_a_tail(neurons: int) -> None:
    population = np.concatenate([[40.0, 9.0], 2.0 / np.arange(1, 119)])
    measured = sampled(population, neurons, 24)
    predicted = SampleSpectrum.of(population, neurons).eigenvalues()
    for power in (0.5, 2.0):
        sums = (np.maximum(measured, 0.0) ** power).sum(axis=1)
        error = sums.std(ddof=1) / np.sqrt(len(sums))
        assert (predicted**power).sum() == pytest.approx(sums.mean(), abs=3 * error + 6 / neurons * sums.mean())
    place, scatter = largest(population, neurons)
    top = measured[:, -1]
    assert place == pytest.approx(top.mean(), abs=3 * top.std() / np.sqrt(len(top)) + 3 / neurons * place)
    assert scatter == pytest.approx(top.std(), rel=0.5)


def test_the_largest_eigenvalue_of_a_white_population_is_johnstones() -> None:
    for rows, neurons in ((100, 400), (400, 400)):
        mean, scatter = largest(np.ones(rows), neurons)
        expected, spread = mp.largest_eigenvalue(neurons, rows)
        assert mean == pytest.approx(expected / neurons, rel=0.01)
        assert scatter == pytest.approx(spread / neurons, rel=0.02)


def test_stable_rank_of_independent_entries() -> None:
    rng = RNG(3)
    found = []
    for _ in range(60):
        matrix = rng.standard_normal((100, 60))
        values = np.linalg.svd(matrix, compute_uv=False) ** 2
        found.append(values.sum() / values[0])
    error = np.std(found) / np.sqrt(len(found))
    assert mp.stable_rank(100, 60) == pytest.approx(np.mean(found), abs=3 * error + 0.01 * np.mean(found))


def test_classes_of_equal_neurons_are_one_class() -> None:
    population = np.geomspace(1e-3, 10, 40)
    together = SampleSpectrum.of(population, 80).eigenvalues()
    apart = SampleSpectrum(np.stack([population] * 3), np.array([0.5, 0.3, 0.2]), 80).eigenvalues()
    assert apart == pytest.approx(together, rel=1e-6)


def test_classes_of_unequal_energy_against_sampled_matrices() -> None:
    population, strong, neurons = np.geomspace(0.02, 5, 60), 1.8, 120
    profile = np.stack([population * strong, population * (2 - strong)])
    rng = RNG(5)
    measured = []
    for _ in range(30):
        size = np.repeat(np.sqrt([strong, 2 - strong]), neurons // 2)
        z = np.sqrt(population)[:, None] * rng.standard_normal((60, neurons)) * size
        measured.append(np.linalg.eigvalsh(z @ z.T / neurons))
    sums = np.log(np.maximum(measured, 1e-300)).sum(axis=1)
    values = SampleSpectrum(profile, np.array([0.5, 0.5]), neurons).eigenvalues()
    error = sums.std(ddof=1) / np.sqrt(len(sums))
    assert np.log(values).sum() == pytest.approx(sums.mean(), abs=3 * error + 0.6)
    one = np.log(SampleSpectrum.of(population, neurons).eigenvalues()).sum()
    assert one > sums.mean() + 4


def test_a_fixed_part_beside_the_sample() -> None:
    population, fixed, slope, neurons = np.geomspace(0.02, 5, 60), np.linspace(0.1, 0.3, 60), 0.7, 90
    rng = RNG(7)
    measured = []
    for _ in range(30):
        z = np.sqrt(population)[:, None] * rng.standard_normal((60, neurons))
        measured.append(np.linalg.eigvalsh(np.diag(fixed) + slope * z @ z.T / neurons))
    sums = np.log(measured).sum(axis=1)
    values = SampleSpectrum(population[None], np.ones(1), neurons, fixed, slope).eigenvalues()
    error = sums.std(ddof=1) / np.sqrt(len(sums))
    assert np.log(values).sum() == pytest.approx(sums.mean(), abs=3 * error + 0.3)
