"""Attention's second moments, forward and backward, per position, against brute force over weight draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lensnet.algebra.mixing import attention
from lensnet.algebra.mixing.attention import attention_gradient, attention_mix
from tests.mixing.brute import Setting, truth

# Inside the regime the formulas are exact to about 0.3 %; what is left of the tolerance is Monte Carlo noise.
TOLERANCE = 0.006
NOISE = 3.5


@pytest.fixture
def many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled logits in such numbers that their noise does not hide an error of the formula."""
    for drawn in (True, False):
        monkeypatch.setitem(attention._ROWS, drawn, 2**17)
        monkeypatch.setitem(attention._WORK, drawn, 1e12)


GRID = [
    Setting(8, 64),
    Setting(8, 64, heads=4, gain=1.5),
    Setting(8, 64, heads=2, gain=1.2, causal=True),
    Setting(16, 64, heads=4, gain=0.3, correlation=0.5),
    Setting(16, 128, heads=8, gain=1.5, correlation=0.3, causal=True),
    Setting(16, 64, heads=1, gain=1.5, correlation=0.9),
    Setting(12, 64, heads=2, correlation=0.1, mean=0.5),
    Setting(12, 64, heads=2, gain=0.7, query_bias=0.8, correlation=0.2),
    Setting(48, 64, heads=1, gain=1.5),
    Setting(48, 64, heads=2, correlation=0.7, causal=True),
    Setting(96, 64, heads=4, correlation=0.3),
]


def arguments(at: Setting) -> tuple:
    """Everything that the special functions take besides the Gram matrices."""
    q = np.full((1, at.tokens), at.second_moment)
    gain = at.gain**2 * q + at.query_bias**2
    return q, (gain, at.gain**2, at.width, at.channels, float(at.causal), 1.0)


@pytest.mark.parametrize("at", GRID, ids=str)
def test_equal_tokens_against_brute_force(at: Setting) -> None:
    q, rest = arguments(at)
    correlation = np.array((at.correlation + at.mean**2) / at.second_moment)
    forward = attention_mix(q, correlation, *rest)[0]
    backward = attention_gradient(np.ones_like(q), q, correlation, np.array(0.0), *rest)[0]
    draws = min(6000, int(2.5e9 / (at.tokens * at.channels**2 * 12 + at.tokens**2 * at.channels * 12)))
    seen = truth(at, draws)
    pairs = (
        (forward, seen.output, seen.output_error, seen.whole_error[0]),
        (backward, seen.gradient, seen.gradient_error, seen.whole_error[1]),
    )
    for predicted, measured, error, whole in pairs:
        assert predicted.mean() == pytest.approx(measured.mean(), abs=TOLERANCE * measured.mean() + NOISE * whole)
        np.testing.assert_array_less(np.abs(predicted - measured), TOLERANCE * measured + (NOISE + 1) * error)


def unequal_tokens(at: Setting) -> np.ndarray:
    """Tokens with a positional code, an offset and lengths of their own: nothing Gaussian, nothing equicorrelated."""
    rng = np.random.default_rng(at.tokens)
    place, channel = np.arange(at.tokens)[:, None], np.arange(at.channels)
    code = np.sin(place / 50 ** (channel / at.channels) + math.pi / 2 * (channel % 2))
    return code + 0.7 * rng.uniform(0.3, 1.5, (at.tokens, 1)) * rng.standard_normal((at.tokens, at.channels)) + 0.2


@pytest.mark.usefixtures("many_samples")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_given_tokens_against_brute_force(causal: bool, alike: bool) -> None:
    at = Setting(12, 64, heads=4, gain=1.2, causal=causal)
    x = unequal_tokens(at)
    rng = np.random.default_rng(1)
    factor = rng.standard_normal((at.tokens, 3)) + 1
    upstream = factor @ factor.T / 3 * alike + np.diag(rng.uniform(0.3, 1.5, at.tokens))
    gram, q = (x @ x.T / at.channels)[None], (x**2).mean(1)[None]
    rest = (at.gain**2 * q, at.gain**2, at.width, at.channels, float(causal), 0.0)
    forward = attention_mix(q, gram, *rest)[0]
    gradient_gram = upstream[None] if alike else np.array(0.0)
    backward = attention_gradient(np.diag(upstream)[None], q, gram, gradient_gram, *rest)[0]
    seen = truth(at, 4000, tokens=torch.tensor(x), upstream=torch.linalg.cholesky(torch.tensor(upstream)))
    assert forward.mean() == pytest.approx(seen.output.mean(), rel=0.015)
    assert backward.mean() == pytest.approx(seen.gradient.mean(), rel=0.02)
    np.testing.assert_allclose(forward, seen.output, rtol=0.06)
    np.testing.assert_allclose(backward, seen.gradient, rtol=0.09)


@pytest.mark.usefixtures("many_samples")
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("causal", [0.0, 1.0])
def test_sampled_logits_agree_with_the_integrals(correlation: float, causal: float) -> None:
    q = np.ones((1, 16))
    rest = (1.44 * q, 1.44, 16, 64, causal, 1.0)
    gram = (correlation + (1 - correlation) * np.eye(16))[None]
    one, none = np.array(correlation), np.array(0.0)
    np.testing.assert_allclose(attention_mix(q, gram, *rest), attention_mix(q, one, *rest), rtol=0.03)
    sampled, exact = (attention_gradient(q, q, g, none, *rest) for g in (gram, one))
    assert sampled.mean() == pytest.approx(exact.mean(), rel=0.01)
    np.testing.assert_allclose(sampled, exact, rtol=0.04)


def test_alike_gradients_add_as_amplitudes() -> None:
    """A common gradient at all positions comes back through nearly uniform attention in full, not divided by T."""
    q = np.ones((1, 32))
    rest = (0.01 * q, 0.01, 32, 64, 0.0, 1.0)
    apart = attention_gradient(q, q, np.array(0.0), np.array(0.0), *rest).mean()
    alike = attention_gradient(q, q, np.array(0.0), np.array(1.0), *rest).mean()
    assert apart == pytest.approx(1 / 32, rel=0.1)
    assert alike == pytest.approx(1, rel=0.1)


def test_limits() -> None:
    q = np.full((2, 9), 0.7)
    still = (0 * q, 0.0, 16, 64, 0.0, 1.0)  # no logits: a plain average
    np.testing.assert_allclose(attention_mix(q, np.array(0.0), *still), 0.7 / 9, rtol=1e-4)
    np.testing.assert_allclose(attention_mix(q, np.array(1.0), *still), 0.7, rtol=1e-9)  # all tokens equal
    np.testing.assert_allclose(attention_gradient(0 * q + 1, q, np.array(0.4), np.array(0.0), *still), 1 / 9, rtol=1e-4)
    causal = attention_mix(q, np.array(0.0), q, 1.0, 16, 64, 1.0, 1.0)
    np.testing.assert_allclose(causal[:, 0], 0.7, rtol=1e-6)  # the first token sees itself alone
    assert np.all(np.diff(causal[0]) < 0)
    alone = attention_gradient(
        np.ones((1, 1)), np.ones((1, 1)), np.array(0.0), np.array(0.0), 1.0, 1.0, 16, 64, 0.0, 1.0
    )
    np.testing.assert_allclose(alone, 1, rtol=1e-6)


def test_the_distance_from_infinite_width_falls_as_one_over_channels() -> None:
    """The 1/d term: what the directions of the tokens along the query add, (1 - rho)^2 v / d at leading order."""
    q, widths = np.ones((1, 64)), np.array([256, 512, 1024, 2048, 4096])
    mix = np.array([attention_mix(q, np.array(0.0), 0.5 * q, 0.5, d, d, 0.0, 1.0).mean() for d in widths])
    limit = attention_mix(q, np.array(0.0), 0.5 * q, 0.5, 10**7, 10**7, 0.0, 1.0).mean()
    slope = np.polyfit(np.log(widths), np.log(mix - limit), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)
    assert (mix - limit)[-1] * widths[-1] == pytest.approx(0.5, rel=0.15)


def test_what_cannot_be_known_is_nan() -> None:
    q = np.ones((2, 8))
    gram = np.stack([np.eye(8), np.full((8, 8), np.nan)])
    found = attention_mix(q, gram, q, 1.0, 16, 64, 0.0, 0.0)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    assert np.isnan(attention_mix(np.nan * q, np.array(0.2), q, 1.0, 16, 64, 0.0, 1.0)).all()


def test_the_same_question_has_the_same_answer() -> None:
    q, gram = np.ones((1, 12)), (0.5 + 0.5 * np.eye(12))[None]
    rest = (q, 1.0, 16, 64, 1.0, 0.0)
    assert np.array_equal(attention_mix(q, gram, *rest), attention_mix(q, gram, *rest))
