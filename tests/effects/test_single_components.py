"""Every formula of the mixing-free families against Monte Carlo truth, evaluated without the propagation engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lensnet.catalog.catalog import catalog
from lensnet.ladder.trial import port_channels
from lensnet.levels.signal import Law
from lensnet.network.graph import Node
from lensnet.network.shape import Shape
from tests.effects.monte_carlo import Difference, differences, place, predict, simulate

FAMILIES = ("convolution", "dense", "embedding", "merge", "noise", "normalisation", "pooling")
BIAS = 0.005  # what a formula may be off by inside its regime, beyond four standard errors of the truth
TRIALS = [
    (name, trial)
    for name in catalog()
    if catalog()[name].family in FAMILIES and not catalog()[name].is_fork
    for trial in catalog()[name].spec.trials
]


def check(found: Sequence[Difference], bias: float = BIAS) -> None:
    wrong = [str(d) for d in found if not abs(d.error) <= bias + 4 * d.standard_error]
    assert not wrong, "; ".join(wrong)


@pytest.mark.parametrize(("name", "trial"), TRIALS, ids=lambda value: str(value)[:90])
def test_trials_on_independent_gaussian_inputs(name: str, trial: dict[str, Any]) -> None:
    given = dict(trial)
    component = catalog()[name]
    units = port_channels(component, trial)
    shape = Shape(given.pop("channels"), tuple(given.pop("positions", ())), given.pop("kind", "real"))
    shapes = [replace(shape, channels=count) for count in units]
    batch, ports = min(given.pop("batch", 8), 16), len(units)
    for key in ("ports", "port_channels", "given"):
        given.pop(key, None)
    mean = float(given.pop("mean", 0.0))
    second = float(given.pop("second_moment", mean**2 + 1.0))
    std = sqrt(second - mean**2)
    node = place(name, shapes, batch, **given)
    sizes = [one.tensor_shape(batch) for one in shapes]

    def inputs(source: torch.Generator) -> list[Tensor]:
        if shape.kind == "ids":
            return [torch.randint(0, shape.channels, sizes[0], generator=source)]
        return [mean + std * torch.randn(size, generator=source) for size in sizes]

    draws = simulate(node, inputs, int(np.clip(2_000_000 / (batch * shape.features), 24, 100)))

    def field(value: float) -> np.ndarray:
        return np.full((batch, *shape.positions), value)

    law = Law(field(mean), field(std**2), np.inf, "input")
    crosses = {pair: field(mean**2) for pair in combinations(range(ports), 2)}
    gradient = np.ones((batch, *node.shape.positions))
    moments = [(field(mean), field(second))] * ports
    check(differences(draws, predict(node, moments, gradient, draws.sides, crosses, [law] * ports)))


def smooth(source: torch.Generator, size: tuple[int, ...], uneven: Tensor) -> Tensor:
    """Gaussian images that neighbouring pixels share, of a size that varies over the image."""
    blurred = functional.avg_pool2d(torch.randn(size, generator=source), 3, 1, 1, divisor_override=3)
    return blurred * uneven


def uneven_images(node_shape: Shape, mean: float) -> tuple[Tensor, np.ndarray]:
    """A profile over positions, and the variance of `smooth` images with it (mean added afterwards)."""
    rows, columns = node_shape.positions
    profile = 0.5 + torch.arange(rows)[:, None] / rows + 0.7 * (torch.arange(columns) % 2)[None]
    count = functional.avg_pool2d(torch.ones(1, 1, rows, columns), 3, 1, 1, divisor_override=9)[0, 0]
    return profile, (profile**2 * count).double().numpy()


UNEVEN: list[tuple[str, dict[str, Any], float]] = [
    ("conv2d", {"filters": 16, "kernel": 3, "padding": 1, "stride": 2}, 0.4),
    ("conv2d", {"filters": 16, "kernel": [2, 3], "padding": [0, 1], "padding_mode": "circular"}, 0.0),
    ("conv2d", {"filters": 24, "kernel": 3, "padding": 1, "centred": True}, 0.7),
    ("resample", {"rows": 5, "columns": 11, "filter": "linear"}, 0.4),
    ("conv_transpose2d", {"filters": 12, "kernel": 3, "stride": 2}, 0.3),
    ("patch_embedding", {"filters": 32, "patch": 4}, 0.5),
    ("avg_pool2d", {"kernel": 3, "stride": 2, "padding": 1}, 0.5),
    ("avg_pool2d", {"kernel": 2}, 0.0),
    ("adaptive_avg_pool2d", {"output": [3, 5]}, 0.2),
    ("global_avg_pool", {}, 0.3),
    ("flatten", {}, 0.3),
    ("max_pool2d", {"kernel": 2}, 0.5),
    ("max_pool2d", {"kernel": 3, "stride": 2, "padding": 1}, 0.0),
    ("instancenorm", {}, 0.5),
    ("groupnorm", {"groups": 4}, 0.5),
    ("batchnorm", {}, 0.5),
    ("local_response_norm", {"alpha": 0.05, "offset": 1.0}, 0.0),
]


@pytest.mark.parametrize(("name", "parameters", "mean"), UNEVEN, ids=str)
def test_positions_that_are_alike_and_of_unequal_size(name: str, parameters: dict[str, Any], mean: float) -> None:
    """Correlated neighbours, variances and gradients that differ from place to place: no formula may average early."""
    shape, batch = Shape(24, (8, 8)), 4
    node: Node = place(name, shape, batch, **parameters)
    profile, variance = uneven_images(shape, mean)
    size = shape.tensor_shape(batch)
    positions = node.shape.positions
    gradient_size = 1.0 + 0.5 * np.indices(positions).sum(axis=0) / max(1, sum(positions)) if positions else np.ones(())
    gradient_size = np.broadcast_to(gradient_size, (batch, *positions))
    draws = simulate(node, lambda source: [mean + smooth(source, size, profile)], 150, gradient_size)
    variance = np.broadcast_to(variance, (batch, *shape.positions))
    level = np.full_like(variance, mean)
    law = Law(level, variance, np.inf, "input")
    found = predict(node, [(level, variance + mean**2)], gradient_size**2, draws.sides, laws=[law])
    # Norms over positions: variances of one draw scatter over few sets, which the expectation does not see.
    check(differences(draws, found), bias=0.01 if catalog()[name].scale_invariant else BIAS)


def test_the_dark_rim_of_a_zero_padded_convolution_is_predicted_place_by_place() -> None:
    node = place("conv2d", Shape(32, (6, 6)), 16, filters=64, kernel=3, padding=1)
    draws = simulate(node, lambda source: [torch.randn(16, 32, 6, 6, generator=source)], 60)
    found = predict(node, [(np.zeros((1, 6, 6)), np.ones((1, 6, 6)))])["second_moment"][0]
    measured = draws.mean("second_moment").mean(axis=0)
    assert (
        found[0, 0] == pytest.approx(4 / 9) and found[0, 2] == pytest.approx(6 / 9) and found[2, 2] == pytest.approx(1)
    )
    np.testing.assert_allclose(measured, found, rtol=0.05)


def test_dropout_counts_the_mean() -> None:
    """ReLU of a unit Gaussian (mean 0.399, second moment 1/2) at rate 1/2: variance 0.841, not 2*0.341 = 0.682."""
    node = place("dropout", Shape(8), 4, rate=0.5)
    mean = np.full((1,), 1 / sqrt(2 * np.pi))
    found = predict(node, [(mean, np.full((1,), 0.5))])
    assert float((found["second_moment"] - found["mean"] ** 2)[0]) == pytest.approx(0.841, abs=5e-4)


def test_x_plus_x_is_coherent() -> None:
    node = place("residual", [Shape(8), Shape(8)], 4)
    one = np.ones((1,))
    assert predict(node, [(0 * one, one)] * 2, crosses={(0, 1): one})["second_moment"] == pytest.approx(4)
    assert predict(node, [(0 * one, one)] * 2, crosses={(0, 1): 0 * one})["second_moment"] == pytest.approx(2)
