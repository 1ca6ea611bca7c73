"""Side quantities equal brute force by their definition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lensnet.measure.estimators import estimator, estimators, gradient_quantities, needed, signal_quantities
from lensnet.network.graph import Node
from lensnet.network.shape import Shape
from tests.measure.networks import node, pool

SHAPES = [Shape(6, (5,)), Shape(4, (3, 4)), Shape(5)]


def tensor(shape: Shape, seed: int = 0, examples: int = 3) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape.tensor_shape(examples), generator=draws, dtype=torch.float64) + 0.4


def rows(x: torch.Tensor, shape: Shape) -> np.ndarray:
    """(E, positions, channels)."""
    return np.moveaxis(x.numpy(), shape.channel_axis, -1).reshape(len(x), -1, shape.channels)


def measure(name: str, x: torch.Tensor, shape: Shape, at: Node | None = None) -> np.ndarray:
    at = at or node("a", "a", ["input"], [shape])
    return estimators()[name].measure(x, shape, at).numpy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_between_positions(shape: Shape) -> None:
    x = tensor(shape)
    t = rows(x, shape)
    gram = np.einsum("eic,ejc->eij", t, t) / shape.channels
    np.testing.assert_allclose(measure("token_gram", x, shape), gram, rtol=1e-12)
    at = node("a", "a", ["input"], [shape], needs={"gradient_gram": {}})
    np.testing.assert_allclose(gradient_quantities(at, x, x)["x", "gradient_gram"].numpy(), gram, rtol=1e-12)
    count = gram.shape[1]
    off = gram.sum((1, 2)) - np.trace(gram, axis1=1, axis2=2)
    pairs = off / max(1, count * (count - 1)) / (np.trace(gram, axis1=1, axis2=2) / count)
    np.testing.assert_allclose(measure("token_correlation", x, shape), pairs, atol=1e-12)
    mean = t.mean(1)
    np.testing.assert_allclose(measure("position_mean_square", x, shape), (mean**2).mean(1), rtol=1e-12)
    overlap = (t * mean[:, None]).mean(2).reshape(3, *shape.positions)
    np.testing.assert_allclose(measure("position_overlap", x, shape), overlap, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_between_examples(shape: Shape) -> None:
    x = tensor(shape)
    t = rows(x, shape)
    mean = t.mean((0, 1))
    np.testing.assert_allclose(measure("batch_mean_square", x, shape), (mean**2).mean(), rtol=1e-12)
    overlap = (t * mean).mean(2).reshape(3, *shape.positions)
    np.testing.assert_allclose(measure("batch_overlap", x, shape), overlap, rtol=1e-12)


def test_between_ports_of_one_shape() -> None:
    shape, other = Shape(6, (5,)), Shape(7, (5,))
    at = node("a", "concat", ["p", "q", "r"], [shape, shape, other], needs={"cross_moment": {}})
    x, y, z = tensor(shape), tensor(shape, 1), tensor(other)
    found = signal_quantities(at, x, y, z)
    assert list(found) == [("xs.0,xs.1", "cross_moment")]
    np.testing.assert_allclose(found["xs.0,xs.1", "cross_moment"].numpy(), (x * y).mean(2).numpy(), rtol=1e-12)


def test_window_gram_averages_over_windows_that_lie_inside() -> None:
    shape = Shape(4, (6, 7))
    at = pool("a", "input", shape, "max_pool2d", 3, 2, padding=1)
    x = tensor(shape)
    windows = [x[:, :, i : i + 3, j : j + 3].reshape(-1, 9).numpy() for i in (0, 2) for j in (0, 2, 4)]
    sample = np.concatenate(windows)
    np.testing.assert_allclose(measure("window_gram", x, shape, at), sample.T @ sample / len(sample), rtol=1e-12)


def test_a_large_tensor_is_sampled_evenly() -> None:
    shape = Shape(128, (40, 40))
    at = pool("a", "input", shape, "max_pool2d", 3, 2)
    x = tensor(shape, examples=8)
    gram = measure("window_gram", x, shape, at)
    np.testing.assert_array_equal(gram, measure("window_gram", x, shape, at))
    np.testing.assert_allclose(np.diag(gram), 1.16, rtol=0.05)


def test_needs_choose_ports_and_skip_what_is_unknown() -> None:
    shape = Shape(6, (5,))
    needs: dict[str, Any] = {"token_correlation": SimpleNamespace(port="branch"), "no_such_thing": {}, "token_gram": {}}
    at = node("a", "residual", ["p", "q"], [shape, shape], ports=["skip", "branch"], needs=needs)
    found = signal_quantities(at, tensor(shape), tensor(shape, 1))
    assert set(found) == {("branch", "token_correlation"), ("skip", "token_gram"), ("branch", "token_gram")}
    assert needed(at, "gradient") == []


def test_ids_have_no_side_quantities() -> None:
    ids = Shape(30, (4,), "ids")
    at = node("a", "embedding", ["input"], [ids], needs={"token_gram": {}})
    assert signal_quantities(at, torch.zeros(2, 4, dtype=torch.int64)) == {}


def test_every_estimator_is_defined_and_named_once() -> None:
    for found in estimators().values():
        assert len(found.definition) > 20, f"{found.name} has no definition"
    with pytest.raises(ValueError, match="two estimators are named 'token_gram'"):
        estimator("token_gram")(lambda x, shape, node: x)
