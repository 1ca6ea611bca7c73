"""Laws of logarithms: against moment generating functions, exact inversion, and weight draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln, loggamma

from lensnet.predict.fluctuation.log_law import LogLaw, chi_square, dead_probability, gates, neurons, rectified
from tests.fluctuation.draws import forward, mean_and_error, variance_and_error


def log_mgf_rectified(n, t):
    """ln E (2 chi^2_K/n)^t over K ~ Binomial(n, 1/2), K > 0; t may be complex."""
    k = np.arange(1, n + 1)
    log_weight = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * np.log(2)
    log_weight -= np.log1p(-(2.0**-n))
    terms = log_weight + t * np.log(4 / n) + loggamma(k / 2 + t) - loggamma(k / 2)
    top = terms.real.max()
    return top + np.log(np.exp(terms - top).sum())


@pytest.mark.parametrize("n", [3, 10, 64])
def test_cumulants_are_the_derivatives_of_the_generating_function(n):
    h = 0.02
    f = [log_mgf_rectified(n, t * h).real for t in range(-4, 5)]
    law = rectified(n)
    weights = {
        1: [1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280],
        2: [-1 / 560, 8 / 315, -1 / 5, 8 / 5, -205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560],
        3: [-7 / 240, 3 / 10, -169 / 120, 61 / 30, 0, -61 / 30, 169 / 120, -3 / 10, 7 / 240],
    }
    for order, w in weights.items():
        assert law.cumulants[order - 1] == pytest.approx(np.dot(w, f) / h**order, rel=1e-5)


@pytest.mark.parametrize("n", [4, 30, 100])
def test_second_moment_of_a_relu_layer_is_one_plus_five_over_n(n):
    """Hanin and Rolnick 2018; the product form, exact at finite width (the dead draws count in the mean)."""
    alive = 1 - dead_probability(n)
    assert np.exp(log_mgf_rectified(n, 1.0).real) * alive == pytest.approx(1, rel=1e-12)
    assert np.exp(log_mgf_rectified(n, 2.0).real) * alive == pytest.approx(1 + 5 / n, rel=1e-12)


def test_length_and_direction_share_the_noise_of_a_relu_layer():
    """(1 + 2/n)(1 + 3/(n+2)) = 1 + 5/n; in logarithms the cumulants add."""
    n = 40
    assert (chi_square(n) + gates(n)).cumulants == pytest.approx(rectified(n).cumulants)
    rng = np.random.default_rng(0)
    on = rng.random((60_000, n)) < 0.5
    u = rng.standard_normal((60_000, n))
    logs = np.log(2 * (on * u**2).sum(1) / (u**2).sum(1))
    for measured, law in zip((mean_and_error(logs), variance_and_error(logs)), gates(n).cumulants, strict=False):
        assert abs(measured[0] - law) < 3.5 * measured[1]


@pytest.mark.parametrize(("n", "depth", "error"), [(64, 100, 3e-4), (16, 3, 6e-3), (100, 1, 1e-3), (32, 20, 1e-3)])
def test_quantiles_against_exact_inversion(n, depth, error):
    """Gil-Pelaez: P(ln Q <= x) from the characteristic function of a sum of independent layers."""
    law = LogLaw()
    for _ in range(depth):
        law = law + rectified(n)
    t = np.linspace(1e-6, 12 / law.scatter, 4001)
    phi = np.exp([depth * log_mgf_rectified(n, 1j * s) for s in t])
    for probability in (0.05, 0.5, 0.95):
        x = law.quantile(probability)
        inside = np.trapezoid((np.exp(-1j * t * x) * phi).imag / t, t) / np.pi
        assert 0.5 - inside == pytest.approx(probability, abs=error)


def test_a_single_chi_square_has_exact_quantiles():
    from scipy.stats import chi2

    for n in (4, 30):
        for probability in (0.05, 0.5, 0.95):
            assert chi_square(n).quantile(probability) == pytest.approx(np.log(chi2.ppf(probability, n) / n), abs=1e-9)


def test_delta_method_reaches_two_orders():
    """On a law that is known: the error of mean and variance falls like n^-3."""
    widths = np.array([16, 32, 64, 128])
    errors = []
    for n in widths:
        guess, law = neurons(n, 2, 8, 48), chi_square(int(n))
        errors.append([abs(a - b) for a, b in zip(guess.cumulants[:2], law.cumulants[:2], strict=True)])
    slopes = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert slopes[0] < -2.8
    assert slopes[1] < -2.8


def test_log_moments_of_relu_networks():
    for n, depth, draws in ((32, 5, 8_000), (100, 5, 600)):
        last = forward(draws, [n] * (depth + 1), lambda h: np.maximum(h, 0), np.sqrt(2))[-1]
        logs = np.log((last**2).mean((1, 2)))
        law = LogLaw()
        for _ in range(depth):
            law = law + rectified(n)
        mean, variance = mean_and_error(logs), variance_and_error(logs)
        assert abs(mean[0] - law.mean) < 3.5 * mean[1]
        assert abs(variance[0] - law.variance) < 3.5 * variance[1]
        assert np.median(logs) == pytest.approx(law.median, abs=4 * mean[1])
