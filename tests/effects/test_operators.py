"""The position operators against torch's own windows, and the edge effect of zero padding over depth."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch.nn import functional

from lensnet.network.geometry import Adaptive, Collapse, Flatten, Patches, Pointwise, Window, WindowTranspose
from lensnet.predict.operators import FieldOperators

WINDOWS = [
    # kernel, stride, padding, dilation
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 2), (2, 1), (0, 1), (1, 1)),
    ((5, 4), (3, 2), (2, 3), (1, 2)),
    ((1, 1), (2, 3), (0, 0), (1, 1)),
    ((2, 3), (1, 2), (3, 2), (3, 2)),
    ((11, 11), (4, 4), (2, 2), (1, 1)),
]
SIZES = [(9, 11), (12, 13)]
IMAGE = (12, 10)

GEOMETRIES = [
    *(Window(*w, mode=mode) for w in WINDOWS for mode in ("zero", "circular", "ignore")),
    *(WindowTranspose(*w, output_padding=(0, 0)) for w in WINDOWS),
    WindowTranspose((3, 3), (2, 2), (1, 1), (1, 1), output_padding=(1, 1)),
    WindowTranspose((2, 3), (3, 2), (0, 1), (2, 1), output_padding=(2, 0)),
    Adaptive((5, 3)),
    Adaptive((6, 7)),
    Adaptive((1, 1)),
    Collapse(),
    Flatten(),
    Patches((4, 5)),
    Pointwise(),
]


def build(geometry: object, positions: tuple[int, ...]) -> FieldOperators:
    return FieldOperators(geometry, positions, geometry.out_positions(positions))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_scatter_is_the_adjoint_of_gather(geometry: object) -> None:
    rng = np.random.default_rng(0)
    operators = build(geometry, IMAGE)
    x = rng.standard_normal((3, *operators.positions))
    y = rng.standard_normal((3, *operators.positions_out))
    assert operators.gather(x).shape == y.shape
    assert operators.scatter(y).shape == x.shape
    np.testing.assert_allclose((operators.gather(x) * y).sum(), (x * operators.scatter(y)).sum(), rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("mode", ["zero", "circular"])
def test_gather_is_a_convolution_with_ones(window: tuple, size: tuple[int, int], mode: str) -> None:
    kernel, stride, padding, dilation = window
    geometry = Window(kernel, stride, padding, dilation, mode=mode)
    x = torch.randn(2, 1, *size, dtype=torch.float64)
    layer = torch.nn.Conv2d(
        1, 1, kernel, stride, padding, dilation, bias=False, padding_mode=f"{mode}s" if mode == "zero" else mode
    ).double()
    torch.nn.init.ones_(layer.weight)
    expected = layer(x).detach()[:, 0].numpy()
    operators = build(geometry, size)
    np.testing.assert_allclose(operators.gather(x[:, 0].numpy()), expected, atol=1e-12)


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if isinstance(g, WindowTranspose)], ids=str)
def test_gather_is_a_transposed_convolution_with_ones(geometry: WindowTranspose) -> None:
    x = torch.randn(2, 1, 6, 5, dtype=torch.float64)
    ones = torch.ones(1, 1, *geometry.kernel, dtype=torch.float64)
    expected = functional.conv_transpose2d(
        x, ones, None, geometry.stride, geometry.padding, geometry.output_padding, 1, geometry.dilation
    )
    operators = build(geometry, (6, 5))
    np.testing.assert_allclose(operators.gather(x[:, 0].numpy()), expected[:, 0].numpy(), atol=1e-12)


@pytest.mark.parametrize("output", [(6, 6), (1, 1), (5, 3), (7, 20)])
def test_adaptive_bins_are_those_of_torch(output: tuple[int, int]) -> None:
    x = torch.randn(2, 1, 13, 20, dtype=torch.float64)
    operators = build(Adaptive(output), (13, 20))
    ours = operators.gather(x[:, 0].numpy()) / operators.window_count
    np.testing.assert_allclose(ours, functional.adaptive_avg_pool2d(x, output)[:, 0].numpy(), atol=1e-12)


def test_patches_are_row_by_row() -> None:
    x = torch.randn(2, 1, 12, 10, dtype=torch.float64)
    expected = functional.conv2d(x, torch.ones(1, 1, 4, 5, dtype=torch.float64), stride=(4, 5)).flatten(1)
    np.testing.assert_allclose(build(Patches((4, 5)), (12, 10)).gather(x[:, 0].numpy()), expected.numpy(), atol=1e-12)


def test_sequences_and_single_numbers() -> None:
    operators = build(Window((3,), (2,), (1,), (1,)), (7,))
    np.testing.assert_allclose(operators.window_count, [[2, 3, 3, 2]])
    np.testing.assert_allclose(operators.gather(np.array(2.0)), 2 * operators.window_count)
    np.testing.assert_allclose(build(Collapse(), (2, 3)).everywhere(np.array([1.0, 2.0])).sum(axis=(1, 2)), [6, 12])
    assert build(Pointwise(), ()).gather(np.ones(4)).shape == (4,)
    assert build(Pointwise(), (5,)).mean_positions(np.ones((4, 5))).shape == (4, 1)
    assert build(Collapse(), (5,)).mean_positions(np.ones((4, 5))).shape == (4,)


@pytest.mark.parametrize(
    ("depth", "size", "truth"), [(1, 8, 0.8403), (1, 16, 0.9184), (6, 16, 0.727), (8, 8, 0.418)], ids=str
)
def test_signal_lost_at_zero_padded_edges_over_depth(depth: int, size: int, truth: float) -> None:
    """The mean second moment after `depth` 3x3 layers of gain 1; the one-layer factor to that power is 20-40 % low."""
    operators = build(Window((3, 3), (1, 1), (1, 1), (1, 1)), (size, size))
    field = np.ones((1, size, size))
    for _ in range(depth):
        field = operators.gather(field) / 9
    assert field.mean() == pytest.approx(truth, abs=6e-4)


def test_large_fields_are_cheap() -> None:
    operators = build(Window((3, 3), (1, 1), (1, 1), (1, 1)), (224, 224))
    field = np.ones((32, 224, 224))
    start = time.process_time()
    operators.scatter(operators.gather(field))
    assert time.process_time() - start < 2.0
