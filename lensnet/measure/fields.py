"""Averages over channels: one number per example and position, in few passes over the tensor.

A measured forward pass must cost little more than a bare one, so these reductions are chosen by memory traffic (see
`blocks`). Sums over channels run in the precision of the tensor (a few thousand terms: relative rounding 1e-6) and
everything after them in float64; where float32 would overflow, or lose digits to underflow, the sum is repeated in
float64 (exact up to 1e154).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from lensnet.measure import blocks
from lensnet.measure.blocks import channel_products, channel_products_and_inner, channel_sums
from lensnet.network.shape import Shape

# Terms of one inner product in float32; the products of the pieces add up in float64.
_PIECE = 1 << 20
# Elements that are widened to float64 at a time: the copies take 400 MiB at most.
_WIDE = 1 << 24
# A mean square below this may have lost digits to float32 underflow.
_TINY = 1e-30


def channel_moments(x: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """E_c[x_c] and E_c[x_c^2]: float64, both of shape (N, *positions)."""
    if _in_blocks(x, shape):
        total, squares = (_grid(sums, shape) for sums in channel_sums(x))
    elif _plain(x):
        total, squares = x.sum(shape.channel_axis), torch.linalg.vector_norm(x, 2, shape.channel_axis).square_()
    else:
        return channel_mean(x, shape), channel_product(x, x, shape)
    if _is_sound(squares, True):  # then the sums are: Cauchy and Schwarz
        return _average(total, shape), _average(squares, shape)
    return _repaired(total, x, None, shape), _repaired(squares, x, x, shape)


def _average(total: Tensor, shape: Shape) -> Tensor:
    """From sums on the CPU, in one step: in torch it would be three, each as long as the sum itself."""
    return torch.from_numpy(np.divide(total.numpy(), shape.channels, dtype=np.float64))


def channel_mean(x: Tensor, shape: Shape) -> Tensor:
    """E_c[x_c]: float64 of shape (N, *positions)."""
    if not _plain(x):
        return x.mean(shape.channel_axis, dtype=torch.float64)
    return _repaired(x.sum(shape.channel_axis), x, None, shape)


def channel_product(a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    """E_c[a_c b_c]: float64 of shape (N, *positions); with a and b the same tensor, the second moment."""
    axis = shape.channel_axis
    if not _plain(a):
        if a is b and a.is_cuda:
            return torch.linalg.vector_norm(a, 2, axis, dtype=torch.float64).square() / shape.channels
        step = max(1, _WIDE // max(1, a[:1].numel()))
        return torch.cat(
            [(x.double() * y.double()).mean(axis) for x, y in zip(a.split(step), b.split(step), strict=True)]
        )
    if _in_blocks(a, shape) and _in_blocks(b, shape):
        total = _grid(channel_products(a, b), shape)
    elif a is b:
        total = torch.linalg.vector_norm(a, 2, axis).square_()
    else:
        total = torch.linalg.vecdot(a, b, dim=axis)
    return _repaired(total, a, b, shape)


def gradient_moments(x: Tensor, gradient: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """E_c[g_c^2], float64 of shape (N, *positions), and <x, g> over everything, a float64 number."""
    if not (_in_blocks(x, shape) and _in_blocks(gradient, shape)):
        return channel_product(gradient, gradient, shape), inner_product(x, gradient)
    squares, inner = channel_products_and_inner(x, gradient)
    return _repaired(_grid(squares, shape), gradient, gradient, shape), _checked(inner, x, gradient)


def displaced_products(x: Tensor, steps: Sequence[int]) -> Tensor:
    """Sum over channels of x(p)*x(p + step) along the flattened positions of images (N, C, H, W), 0 where p + step lies
    beyond the last: (N, steps, H*W), in the precision of the tensor (float32 at least)."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if x.device.type == "cpu":
        return blocks.displaced_products(x.contiguous(), steps)
    rows = x.flatten(2)
    size = rows.shape[2]
    products = [torch.linalg.vecdot(rows[..., : size - step], rows[..., step:], dim=1) for step in steps]
    return torch.stack([torch.nn.functional.pad(p, (0, size - p.shape[1])) for p in products], 1)


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> over everything, as a float64 number."""
    if not _plain(a):
        return _inner_double(a, b)
    if not (a.is_contiguous() and b.is_contiguous()):
        return _checked(torch.linalg.vecdot(a.flatten(1), b.flatten(1)), a, b)
    pieces = zip(a.view(-1).split(_PIECE), b.view(-1).split(_PIECE), strict=True)
    return _checked(torch.stack([torch.dot(x, y) for x, y in pieces]), a, b)


def _checked(parts: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The sum of partial inner products in float64, repeated from the start where float32 was too narrow."""
    total = parts.double().sum()
    return total if torch.isfinite(total) and abs(total) > _TINY else _inner_double(a, b)


def _inner_double(a: Tensor, b: Tensor) -> Tensor:
    step = max(1, _WIDE // max(1, a[:1].numel()))
    return torch.stack(
        [(x.double() * y.double()).sum() for x, y in zip(a.split(step), b.split(step), strict=True)]
    ).sum()


def _plain(x: Tensor) -> bool:
    """float32 on the CPU, where sums in float64 cost several times as much; elsewhere they cost little."""
    return x.dtype == torch.float32 and x.device.type == "cpu"


def _in_blocks(x: Tensor, shape: Shape) -> bool:
    return len(shape.positions) == 2 and _plain(x) and x.is_contiguous()


def _grid(sums: Tensor, shape: Shape) -> Tensor:
    return sums.reshape(sums.shape[0], *shape.positions)


def _repaired(total: Tensor, a: Tensor, b: Tensor | None, shape: Shape) -> Tensor:
    """The average from a sum over channels, summed again in float64 at positions where float32 may be too narrow.

    Those are the ones that are not finite, and sums of squares so small that their terms may have vanished.
    """
    field = total.double().div_(shape.channels)
    if _is_sound(total, a is b):
        return field
    bad = ~torch.isfinite(total)
    if a is b:
        bad |= total < _TINY
    terms = a.movedim(shape.channel_axis, -1)[bad].double()
    if b is not None:
        terms = terms * (terms if a is b else b.movedim(shape.channel_axis, -1)[bad].double())
    field[bad] = terms.mean(-1)
    return field


def _is_sound(total: Tensor, squares: bool) -> bool:
    """Whether float32 was wide enough for sums, or for sums of squares, at every position."""
    if total.numel() == 0:
        return True
    low, high = (float(bound) for bound in torch.aminmax(total))
    return isfinite(low) and isfinite(high) and not (squares and low < _TINY)
