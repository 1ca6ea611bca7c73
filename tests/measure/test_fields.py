"""Averages over channels equal the plain float64 ones, for every layout and at the edges of float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensnet.measure.fields import (
    channel_mean,
    channel_moments,
    channel_product,
    gradient_moments,
    inner_product,
)
from lensnet.network.shape import Shape

SHAPES = [Shape(7), Shape(300, (5,)), Shape(3, (4, 6)), Shape(64, (70, 75)), Shape(1, (3, 3))]


def tensor(shape: Shape, examples: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape.tensor_shape(examples), generator=torch.Generator().manual_seed(seed)).to(dtype) + 0.3


def brute(x: torch.Tensor, shape: Shape) -> np.ndarray:
    return x.double().numpy().mean(axis=shape.channel_axis)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fields_equal_plain_averages(shape: Shape, dtype: torch.dtype) -> None:
    x, y = tensor(shape, dtype=dtype), tensor(shape, dtype=dtype, seed=1)
    close = 1e-5 if dtype == torch.float32 else 1e-12
    mean, second = channel_moments(x, shape)
    assert mean.shape == (3, *shape.positions) and mean.dtype == torch.float64
    np.testing.assert_allclose(mean.numpy(), brute(x, shape), atol=close)
    np.testing.assert_allclose(second.numpy(), brute(x.double() ** 2, shape), rtol=close)
    np.testing.assert_allclose(channel_mean(x, shape).numpy(), brute(x, shape), atol=close)
    np.testing.assert_allclose(channel_product(x, y, shape).numpy(), brute(x.double() * y.double(), shape), atol=close)
    squares, inner = gradient_moments(x, y, shape)
    np.testing.assert_allclose(squares.numpy(), brute(y.double() ** 2, shape), rtol=close)
    exact = float((x.double() * y.double()).sum())
    assert float(inner) == pytest.approx(exact, rel=close, abs=close * x.numel() ** 0.5)
    assert float(inner_product(x, y)) == pytest.approx(exact, rel=close, abs=close * x.numel() ** 0.5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1e-28, 1e25])
def test_no_overflow_or_underflow_in_float32(shape: Shape, scale: float) -> None:
    x = tensor(shape) * scale
    _, second = channel_moments(x, shape)
    np.testing.assert_allclose(second.numpy(), brute(x.double() ** 2, shape), rtol=1e-5)
    assert float(inner_product(x, x)) == pytest.approx(float((x.double() ** 2).sum()), rel=1e-5)


def test_dark_positions_beside_bright_ones() -> None:
    shape = Shape(16, (4, 4))
    x = tensor(shape)
    x[:, :, 1, 2] = 0.0
    x[:, :, 2, 2] *= 1e-26
    _, second = channel_moments(x, shape)
    np.testing.assert_allclose(second.numpy(), brute(x.double() ** 2, shape), rtol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nonfinite_values_stay_where_they_are(shape: Shape, bad: float) -> None:
    x = tensor(shape)
    x[1].view(-1)[0] = bad
    mean, second = channel_moments(x, shape)
    assert not mean[1].isfinite().all() and not second[1].isfinite().all()
    assert mean[0].isfinite().all() and second[2].isfinite().all()


def test_strides_do_not_matter() -> None:
    shape = Shape(8, (5, 6))
    x = tensor(shape).to(memory_format=torch.channels_last)
    y = tensor(shape, seed=2)[:, :, ::1].transpose(2, 3).contiguous().transpose(2, 3)
    np.testing.assert_allclose(channel_moments(x, shape)[1].numpy(), brute(x.double() ** 2, shape), rtol=1e-5)
    np.testing.assert_allclose(channel_product(x, y, shape).numpy(), brute(x.double() * y, shape), atol=1e-5)
    np.testing.assert_allclose(gradient_moments(x, y, shape)[0].numpy(), brute(y.double() ** 2, shape), rtol=1e-5)


def test_half_precision_is_summed_in_double() -> None:
    shape = Shape(4096)
    x = (tensor(shape) * 100).to(torch.float16)
    np.testing.assert_allclose(channel_moments(x, shape)[1].numpy(), brute(x.double() ** 2, shape), rtol=1e-12)
