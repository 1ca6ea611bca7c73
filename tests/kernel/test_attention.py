"""Attention over batches of tokens against brute force: outputs and gradients, causal or not, and their collapse."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.algebra.mixing.token_pairs import BatchLogits
from lensnet.levels.covariance import Covariance
from lensnet.levels.pairs import FullPairs
from lensnet.network.shape import Shape
from lensnet.predict.kernel.backward import backward
from lensnet.predict.kernel.environment import KernelPlace
from lensnet.predict.kernel.forward import forward
from lensnet.predict.kernel.propagate import propagate
from lensnet.predict.kernel.source import input_state
from tests.effects.monte_carlo import place
from tests.kernel.brute import Found, Tried, _gram, simulate
from tests.kernel.networks import network

SETTINGS = [
    (16, 64, 0.0, False, 240),
    (16, 64, 0.6, True, 240),
    (16, 64, 0.9, False, 240),
    (128, 256, 0.0, False, 40),
    (128, 256, 0.3, True, 40),
    (128, 256, 0.9, False, 60),
]
"""Tokens, channels, correlation of tokens, causal or not, weight draws."""


class FixedTokens(Tried):
    """One batch of tokens for all draws: the covariance is its own, so that only weights scatter."""

    def inputs(self, source):  # type: ignore[no-untyped-def]
        import torch

        return super().inputs(torch.Generator().manual_seed(11))


@pytest.mark.parametrize(("tokens", "width", "rho", "causal", "count"), SETTINGS)
def test_four_heads(
    tokens: int, width: int, rho: float, causal: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Second moment and covariances between tokens within 3 % forward and 5 % backward, and what the draws scatter."""
    monkeypatch.setattr("tests.kernel.brute.POSITION", rho)
    case = FixedTokens(place("attention", Shape(width, (tokens,)), 2, heads=4, causal=causal), 0.0, 1.0)
    (x,) = case.inputs(None)
    given, made = case.layouts
    gram = _gram(x, case.node.shapes_in[0])
    state = Covariance(np.zeros(given.field_shape), gram, given)
    draws = simulate(case, count)
    at = KernelPlace(case.node, given, made, measured=True)
    step, back = forward(at, [state]), backward(at, [state], case.probe())["x"]
    assert step.state is not None and back.pairs is not None
    for pairs, found, layout, bar in (
        (step.state.pairs, draws["output"], made, 0.03),
        (back.pairs, draws["gradient x"], given, 0.05),
    ):
        compare(np.asarray(pairs), found, layout, bar)


def compare(pairs: np.ndarray, found: Found, layout: FullPairs, bar: float) -> None:
    scale = float(np.mean(np.diag(pairs)))
    masks = {
        "self": layout.same,
        "tokens": layout.same_example * (1 - layout.same_place),
        "examples": 1 - layout.same_example,
    }
    for name, mask in masks.items():
        mean, error = found.group(mask)
        off = mean - float(pairs[mask > 0].mean())
        assert abs(off) < bar * scale + 3 * error, f"{name}: {off / scale:+.2%} of the size, se {error / scale:.2%}"


def test_one_head_of_flat_logits_averages_the_tokens() -> None:
    """With no queries every token gathers the mean: the covariance is that of the means, exactly."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3 * 5, 40))
    gram = x @ x.T / 40
    sample = BatchLogits.draw(gram, (3, 5), 0.0, 0.0, 8, 40, False, False, rng)
    means = x.reshape(3, 5, 40).mean(axis=1)
    np.testing.assert_allclose(sample.mix()[0], np.kron(means @ means.T / 40, np.ones((5, 5))), atol=1e-9)


@pytest.mark.parametrize("rescued", [False, True])
def test_pure_attention_collapses_and_a_skip_prevents_it(rescued: bool) -> None:
    """Dong et al. 2021: 1 - cosine falls doubly exponentially in a stack of attention, not with residual branches."""
    pure = "- {name: a%d, component: attention, heads: 4}"
    skip = "- name: a%d\n  component: residual\n  branch: [{component: rmsnorm}, {component: attention, heads: 4}]"
    body = "\n".join((skip if rescued else pure) % i for i in range(3))
    net = network(body, channels=64, batch=2, positions="16")
    kernels = propagate(net, input_state(net, None))
    spread = []
    for i in range(3):
        k = kernels.states[f"a{i}"]
        own = np.sqrt(np.diag(k.pairs))
        cosine = (k.pairs / np.outer(own, own))[k.layout.same_example * (1 - k.layout.same_place) > 0].mean()
        spread.append(1 - cosine)
    if rescued:
        assert spread[2] > 0.5
    else:  # cubic: delta' is of order delta^3 (1/T + 1/d)
        assert spread[0] < 0.65 and spread[1] < 0.05 and spread[2] < 1e-4
