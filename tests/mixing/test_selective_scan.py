"""The moments of a selective scan: against the sum that the recurrence stands for, and against draws of all that is
random in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from lensnet.algebra.mixing.selective_scan import scan_gradient, scan_mean, scan_square
from lensnet.network.shape import Shape
from tests.effects.monte_carlo import differences, place, predict, simulate

TOKENS, STATES = 7, 5


def gram(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(TOKENS, 3)) + 0.4
    return np.asarray(rows @ rows.T / 3)


def arguments(level: float, means: tuple[float, float], skip: float) -> list[Any]:
    """Steps that are the same everywhere, softplus(level); b and c with these means."""
    x, b, c = gram(0), gram(1) + means[0] ** 2, gram(2) + means[1] ** 2
    constant = np.full((1, TOKENS), 1.0)
    squares = [np.diagonal(one)[None] for one in (x, np.full((TOKENS, TOKENS), level**2), b, c)]
    average = [0.3 * constant, level * constant, means[0] * constant, means[1] * constant]
    grams = [one[None] for one in (x, np.full((TOKENS, TOKENS), level**2), b, c)]
    numbers = [np.array(one) for one in (skip, 0.0, 0.0, 1.0, 0.5, 3.0, 0.0, 4.0, STATES)]
    return [*squares, *average, *grams, *numbers]


def response(level: float) -> np.ndarray:
    """What a state keeps at t of what was written at s: dt exp(-a dt (t - s)), (states, t, s)."""
    time, ago = np.log1p(np.exp(level)), np.subtract.outer(np.arange(TOKENS), np.arange(TOKENS))
    decays = np.linspace(0.5, 3.0, STATES)[:, None, None]
    return np.where(ago >= 0, time * np.exp(-decays * time * np.maximum(ago, 0)), 0.0)


@pytest.mark.parametrize("means", [(0.0, 0.0), (0.6, -0.4)])
def test_with_equal_steps_it_is_a_double_sum(means: tuple[float, float]) -> None:
    """y_t = skip x_t + sum_s sum_n c_t b_s R_n(t, s) x_s, squared, with the covariances put in for the products."""
    skip, level = 0.7, -0.8
    given, kept = arguments(level, means, skip), response(level)
    x, b, c = (given[place][0] for place in (8, 10, 11))
    same = np.einsum("nts,ntr,sr,sr->t", kept, kept, b, x) * np.diagonal(c)
    whole = kept.sum(0)
    others = np.einsum("ts,tr,sr->t", whole, whole, x) - np.einsum("nts,ntr,sr->t", kept, kept, x)
    met = 2 * skip * means[0] * means[1] * np.einsum("ts,ts->t", whole, x)
    wanted = skip**2 * np.diagonal(x) + same + (means[0] * means[1]) ** 2 * others + met
    np.testing.assert_allclose(scan_square(*given)[0], wanted, rtol=1e-6)
    np.testing.assert_allclose(
        scan_mean(*given)[0], 0.3 * (skip + means[0] * means[1] * whole.sum(1)), rtol=1e-6, atol=1e-12
    )


def test_with_equal_steps_the_gradients_are_double_sums() -> None:
    skip, level = 0.7, -0.8
    given, kept, p = arguments(level, (0.0, 0.0), skip), response(level), gram(3)
    x, b, c = (given[place][0] for place in (8, 10, 11))
    above = np.diagonal(p)[None]
    same = np.einsum("nts,nrs,tr,tr->s", kept, kept, c, p)
    to_x = skip**2 * np.diagonal(p) + same * np.diagonal(b)
    np.testing.assert_allclose(scan_gradient(0, 1, above, p[None], *given)[0], to_x, rtol=1e-6)
    to_b = 8 * same * np.diagonal(x) / STATES
    np.testing.assert_allclose(scan_gradient(2, 8, above, p[None], *given)[0], to_b, rtol=1e-6)
    to_c = 8 * np.einsum("nts,ntr,sr,sr->t", kept, kept, b, x) * np.diagonal(p) / STATES
    np.testing.assert_allclose(scan_gradient(3, 8, above, p[None], *given)[0], to_c, rtol=1e-6)


def test_the_step_of_a_single_token_is_what_it_lets_in() -> None:
    """One token: y = (skip + dt <c, b>) x, so dL/du = softplus'(u) <c, b> x g."""
    one = np.ones((1, 1))
    given = [2 * one, 0 * one, 3 * one, one, *(0 * one for _ in range(4)), *(np.zeros(1) for _ in range(4)),
             *(np.array(number) for number in (1.0, -1.0, 0.0, 1.0, 1.0, 4.0, 0.0, 8.0, STATES))]  # fmt: skip
    found = scan_gradient(1, 1, one, np.zeros(1), *given)
    assert found.item() == pytest.approx(expit(-1.0) ** 2 * STATES * 3 * 2)


@pytest.mark.parametrize("by", ["state", "head"])
def test_random_steps_with_means_everywhere(by: str) -> None:
    examples, tokens, channels, heads, states = 4, 6, 64, 16, 16
    shapes = [Shape(size, (tokens,)) for size in (channels, heads, 2 * states, 2 * states)]
    node = place("selective_scan", shapes, examples, groups=2, step_bias=-1.5, decay_high=8.0, decay_by=by, skip=0.5)
    means, stds = (0.2, 0.1, 0.4, -0.3), (1.0, 0.6, 0.8, 0.9)

    def inputs(source: torch.Generator) -> list[torch.Tensor]:
        out = []
        for shape, mean, std in zip(shapes, means, stds, strict=True):
            shared, own = (torch.randn(examples, size, shape.channels, generator=source) for size in (1, tokens))
            out.append(mean + std * (0.5**0.5 * shared + 0.5**0.5 * own))
        return out

    draws = simulate(node, inputs, 300)
    moments = [(np.full((examples, tokens), m), np.full((examples, tokens), m**2 + s**2)) for m, s in
               zip(means, stds, strict=True)]  # fmt: skip
    found = differences(draws, predict(node, moments, np.ones((examples, tokens)), draws.sides))
    assert len(found) == 6
    assert not [str(one) for one in found if abs(one.error) > 0.01 + 4 * one.standard_error]
    assert all(one.standard_error < 0.04 for one in found)
