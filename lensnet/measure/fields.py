"""Averages over channels: one number per example and position, in few passes over the tensor.

A measured forward pass must cost little more than a bare one, so these reductions are chosen by memory traffic. Sums
over the channels of an image run as a product with a row of ones (one read of the tensor at full bandwidth); squares
are formed block by block in a buffer that stays in the processor's cache. The sums over channels run in the tensor's
own precision (a few thousand terms: relative rounding 1e-6) and everything after them in float64; where float32 would
overflow or lose digits to underflow the sum is repeated in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensnet.network.shape import Shape

# Elements of one block of products: 4 MiB of float32. It stays in the processor's cache, and the blocks are few enough
# that starting the threads for each costs nothing.
_BLOCK = 1 << 20
# A mean square below this may have lost digits to float32 underflow.
_TINY = 1e-30


def channel_mean(x: Tensor, shape: Shape) -> Tensor:
    """E_c[x_c]: float64 of shape (N, *positions)."""
    if _is_plain(x):
        rows = _rows(x, shape)
        if rows is None:
            return x.mean(shape.channel_axis).double()
        return _grid(torch.matmul(_ones(rows), rows), shape).double() / shape.channels
    return x.mean(shape.channel_axis, dtype=torch.float64)


def channel_product(a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    """E_c[a_c b_c]: float64 of shape (N, *positions); with a and b the same tensor, the second moment."""
    if not _is_plain(a):
        axis = shape.channel_axis
        if a is b and a.is_cuda:
            return torch.linalg.vector_norm(a, 2, axis, dtype=torch.float64).square() / shape.channels
        return _product_double(a, b, shape)
    total = _product_sum(a, b, shape).double()
    if _doubtful(total, a is b):
        return _product_double(a, b, shape)
    return total / shape.channels


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> over everything, as a float64 number."""
    if not _is_plain(a):
        return (a.double() * b.double()).sum()
    if not (a.is_contiguous() and b.is_contiguous()):
        total = torch.linalg.vecdot(a.flatten(1), b.flatten(1)).double().sum()
    else:
        pieces = zip(a.view(-1).split(_BLOCK), b.view(-1).split(_BLOCK), strict=True)
        total = torch.stack([torch.dot(x, y) for x, y in pieces]).double().sum()
    return total if torch.isfinite(total) and abs(total) > _TINY else (a.double() * b.double()).sum()


def _product_sum(a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    rows = _rows(a, shape)
    if rows is None:
        if a is b:
            return torch.linalg.vector_norm(a, 2, shape.channel_axis).square()
        return torch.linalg.vecdot(a, b, dim=shape.channel_axis)
    others = rows if a is b else _rows(b, shape)
    assert others is not None
    examples, channels, places = rows.shape
    ones = _ones(rows)
    step = max(1, _BLOCK // (channels * places))
    out = rows.new_empty(examples, 1, places)
    buffer = rows.new_empty(min(step, examples), channels, places)
    for start in range(0, examples, step):
        block = rows[start : start + step]
        squares = torch.mul(block, others[start : start + step], out=buffer[: block.shape[0]])
        torch.matmul(ones, squares, out=out[start : start + step])
    return _grid(out, shape)


def _product_double(a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    """The same with float64 products: no overflow below 1e154, no underflow above 1e-154."""
    wide = a.double()
    return (wide * (wide if a is b else b.double())).mean(shape.channel_axis)


def _is_plain(x: Tensor) -> bool:
    """float32 on the CPU, where sums in float64 cost several times as much; elsewhere they cost little."""
    return x.dtype == torch.float32 and x.device.type == "cpu"


def _rows(x: Tensor, shape: Shape) -> Tensor | None:
    """An image as (N, C, H*W) without a copy; None for other layouts."""
    if len(shape.positions) != 2 or not x.is_contiguous():
        return None
    return x.reshape(x.shape[0], x.shape[1], -1)


def _grid(rows: Tensor, shape: Shape) -> Tensor:
    return rows.reshape(rows.shape[0], *shape.positions)


def _ones(rows: Tensor) -> Tensor:
    return rows.new_ones(1, rows.shape[1])


def _doubtful(total: Tensor, square: bool) -> bool:
    """Whether float32 may have lost the sum: infinite, or (for squares) small but not exactly zero everywhere."""
    if total.numel() == 0:
        return False
    if not bool(torch.isfinite(total.sum())):
        return True
    return square and bool(total.min() < _TINY)
