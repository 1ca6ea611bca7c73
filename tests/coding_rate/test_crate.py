"""CRATE's blocks against the published arithmetic, token by token and head by head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensnet.catalog.catalog import catalog
from lensnet.language.source import Source
from lensnet.language.yaml_tree import read_yaml
from lensnet.measure.layers.registry import RandomLayer, build
from lensnet.network.placed import Placed
from lensnet.network.resolve import Resolver
from lensnet.network.shape import Shape


def layer(name: str, shape: Shape, **parameters: object) -> RandomLayer:
    document = read_yaml(Source("test", "network: test"))
    placed = Placed("tried", catalog()[name], parameters, {}, {}, (), ())
    made = build(Resolver(document, 4).node("tried", placed, ("in",), (shape,)))
    assert isinstance(made, RandomLayer)
    made.redraw(0, "tried")
    return made.double()


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_subspace_attention(form: str) -> None:
    heads, tokens, channels, eps2 = 3, 5, 12, 0.7
    made = layer("mssa", Shape(channels, (tokens,)), heads=heads, form=form, eps2=eps2, output_bias=0.3)
    x = torch.randn(4, tokens, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    U = made.projection.numpy().T  # (channels, all heads)
    size = channels // heads
    for example, found in zip(x.numpy(), made(x).numpy(), strict=True):
        parts = []
        for h in range(heads):
            Uh = U[:, h * size : (h + 1) * size]
            W = example @ Uh
            mixed = softmax(W @ W.T / (np.sqrt(size) if form == "code" else 1.0)) @ W
            parts.append(mixed if form == "code" else mixed @ Uh.T)
        if form == "code":
            expected = np.concatenate(parts, 1) @ made.output.numpy().T + made.output_bias.numpy()
        else:
            expected = size / (tokens * eps2) * sum(parts)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_sparsification_and_the_lower_objective() -> None:
    """relu(x + s (D'x - D'D x) - s lam1), in columns; from a = x it lowers |x - D a|^2/2 + lam1 |a|_1."""
    step, threshold = 0.1, 0.2
    made = layer("ista", Shape(8), step=step, threshold=threshold, init="he")
    x = torch.randn(20, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).abs()
    D = made.weight.numpy()
    columns = x.numpy().T
    expected = np.maximum(columns + step * (D.T @ columns - D.T @ D @ columns) - step * threshold, 0)
    np.testing.assert_allclose(made(x).numpy().T, expected, atol=1e-12)

    def objective(a: np.ndarray) -> float:
        return float(((columns - D @ a) ** 2).sum() / 2 + threshold * np.abs(a).sum())

    assert objective(expected) < objective(columns)


def test_two_paths_are_the_gate_of_an_lstm() -> None:
    made = layer("softmax_gate", Shape(6), classes=2, lam=1.5)
    x = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    towards = (made.weight[0] - made.weight[1]) @ x.T * 1.5
    torch.testing.assert_close(made(x)[:, 0], torch.sigmoid(towards))
    hard = layer("softmax_gate", Shape(6), classes=2, lam=1.5, routing="hard")
    torch.testing.assert_close(hard(x)[:, 0], (towards > 0).double())


def test_a_switch_keeps_the_share_of_the_best_path_and_its_gradient() -> None:
    made = layer("softmax_gate", Shape(6), classes=4, lam=1.5, routing="switch")
    x = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    shares = softmax(1.5 * x.detach().numpy() @ made.weight.numpy().T)
    best = shares == shares.max(1, keepdims=True)
    y = made(x)
    np.testing.assert_allclose(y.detach().numpy(), np.where(best, shares, 0.0), atol=1e-12)
    y.sum().backward()
    top = shares.max(1, keepdims=True)
    expected = 1.5 * top * ((best - shares) @ made.weight.numpy())
    np.testing.assert_allclose(x.grad, expected, atol=1e-12)
