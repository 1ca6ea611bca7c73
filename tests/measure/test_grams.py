"""Gram matrices of the sampled rows against direct computations, and their scalars in the statistics of a draw."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from lensnet.levels.ladder import Level
from lensnet.measure.ensemble import measure
from lensnet.measure.grams import read_scalars
from lensnet.measure.module import draw, to_module
from lensnet.measure.passes import cotangent, measure_pass
from lensnet.measure.statistics import SeedStatistics
from lensnet.measure.together import measure_together
from lensnet.network.shape import Shape
from lensnet.quantities.rows import row_sample
from tests.measure.networks import chain, conv, flatten, linear

IMAGE, TOKENS, PLAIN = Shape(3, (6, 5)), Shape(4, (7,)), Shape(9)


def image_network() -> Any:
    return chain(
        IMAGE,
        lambda source, shape: conv("conv", source, shape, 8, 3, padding=1),
        lambda source, shape: flatten("flat", source, shape),
        lambda source, shape: linear("head", source, shape, 5),
    )


def dense_network(shape: Shape) -> Any:
    return chain(
        shape,
        lambda source, shape: linear("a", source, shape, 6),
        lambda source, shape: linear("b", source, shape, 5),
    )


@pytest.mark.parametrize("make", [image_network, lambda: dense_network(TOKENS), lambda: dense_network(PLAIN)])
def test_gram_matrices_are_products_of_sampled_rows(make: Any) -> None:
    given = make()
    x = torch.randn(given.input.shape.tensor_shape(5), dtype=torch.float64)
    module = to_module(given).double()
    draw(module, given, 3)
    most = 12
    found = measure_pass(module, given, x, 3, rows=most)
    values = {"input": x}
    for node in given:
        values[node.path] = module.get_submodule(node.path)(values[node.inputs[0]])
    for path, value in values.items():
        shape = given.input.shape if path == "input" else given[path].shape
        sample = row_sample(5, shape.positions, most)
        channels_last = value if not shape.positions else value.movedim(shape.channel_axis, -1).flatten(1, -2)
        rows = channels_last[:, list(sample.places)].flatten(0, 1) if shape.positions else channels_last
        np.testing.assert_allclose(found.grams[path], (rows @ rows.T / shape.channels).numpy(), rtol=1e-12, atol=1e-14)


def test_gradients_of_all_examples_answer_one_question() -> None:
    """Against autograd of <r, y_e> example by example."""
    given = dense_network(PLAIN)
    x = torch.randn(4, 9, dtype=torch.float64)
    module = to_module(given).double()
    draw(module, given, 5)
    found = measure_pass(module, given, x, 5, rows=128)
    r = cotangent(5, torch.empty(1, 5, dtype=torch.float64))[0]
    gradients = torch.autograd.functional.jacobian(lambda z: module(z) @ r, x).diagonal(dim1=0, dim2=1).T
    np.testing.assert_allclose(found.gradient_grams["a", "x"], (gradients @ gradients.T / 9).numpy(), rtol=1e-10)


@pytest.mark.parametrize("backward", [True, False])
def test_draws_together_leave_the_same_gram_matrices(backward: bool) -> None:
    given = dense_network(TOKENS)
    x = torch.randn(3, 7, 4, dtype=torch.float64)
    module = to_module(given).double()
    for seed, one in zip((1, 2), measure_together(module, given, x, (1, 2), backward, rows=10), strict=True):
        draw(module, given, seed)
        other = measure_pass(module, given, x, seed, backward, rows=10)
        assert set(one.grams) == {"input", "a", "b"} and set(one.gradient_grams) == set(other.gradient_grams)
        for path, gram in one.grams.items():
            np.testing.assert_allclose(gram, other.grams[path], rtol=1e-10, atol=1e-14)
        for key, gram in one.gradient_grams.items():
            np.testing.assert_allclose(gram, other.gradient_grams[key], rtol=1e-10, atol=1e-14)


def test_gram_matrices_are_measured_only_when_a_level_asks() -> None:
    given = dense_network(TOKENS)
    x = torch.randn(3, 7, 4)
    plain = measure(given, x, 1, device="cpu").seeds[0]
    assert not plain.grams and not plain.scalars
    below = measure(given, x, 1, device="cpu", levels=[Level.KERNEL], rows=20).seeds[0]
    asked = {(quantity, direction) for path, quantity, direction, _ in below.scalars if path == "a"}
    assert {("correlation", "forward"), ("position_cosine", "backward"), ("coding_rate", "forward")} <= asked
    assert below.outputs["a"].second_moment.shape == plain.outputs["a"].second_moment.shape


def test_spectra_of_a_draw_are_read_together() -> None:
    """Equal directions count themselves, whatever stands beside them in the stack; what is not finite is no number."""
    given = chain(PLAIN, *(partial(linear, name, units=6) for name in "abcd"))
    grams = {
        "a": np.diag([2.0, 2.0, 2.0, 0.0]),
        "b": np.full((4, 4), np.nan),
        "c": np.ones((4, 4)),
        "d": np.eye(5),
    }
    grams["input"] = grams["a"]
    seed = SeedStatistics(0, grams=grams)
    read_scalars(given, seed, {Level.SPECTRUM}, 4, 8)
    for path, directions in {"a": 3, "c": 1, "d": 5}.items():
        for quantity in ("rank", "stable_rank", "effective_rank", "participation_ratio"):
            found = seed.scalars[path, quantity, "forward", None]
            assert found == pytest.approx(directions, rel=1e-6), (path, quantity)
    assert seed.scalars["a", "coding_rate", "forward", None] == pytest.approx(1.5 * np.log1p(6 / 4 / 0.5 * 2))
    assert all(np.isnan(seed.scalars["b", quantity, "forward", None]) for quantity in ("rank", "coding_rate"))
