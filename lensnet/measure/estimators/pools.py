"""What pools need to know: how alike the taps of a window are, and the gradients of windows that overlap.

Windows of any kind are products of one 0/1 matrix per axis (outputs x inputs), so a sum over windows is a matrix
product on each side, and its adjoint the same with the matrices transposed. Averages over channels run in the tensor's
own precision, everything after them in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from lensnet.measure.errors import MeasureError
from lensnet.measure.estimators.registry import estimator
from lensnet.measure.fields import displaced_products
from lensnet.network.geometry import Adaptive, Resample, Window
from lensnet.network.graph import Node
from lensnet.network.resampling import weights
from lensnet.network.shape import Shape

_TINY = 1e-12


def _as_image(x: Tensor, node: Node) -> tuple[Tensor, Node]:
    """A pool along a sequence (N, T, C) as one over an image of one row."""
    window = node.geometry
    if len(node.shape.positions) != 1 or not isinstance(window, Window | Resample):
        return x, node
    if isinstance(window, Resample):
        geometry: Window | Resample = window._replace(output=(1, *window.output))
    else:
        geometry = window._replace(
            kernel=(1, *window.kernel), stride=(1, *window.stride), padding=(0, *window.padding),
            dilation=(1, *window.dilation),
        )  # fmt: skip
    (given,), made = node.shapes_in, node.shape
    shapes = [replace(shape, positions=(1, *shape.positions)) for shape in (given, made)]
    return x.transpose(1, 2)[:, :, None], replace(node, geometry=geometry, shapes_in=(shapes[0],), shape=shapes[1])


def axis_taps(node: Node, axis: int, like: Tensor) -> Tensor:
    """1 where input i lies in the window of output o along a position axis, `(outputs, inputs)`; of an interpolation
    its weight there."""
    inputs, outputs = node.shapes_in[0].positions[axis], node.shape.positions[axis]
    if isinstance(node.geometry, Resample):
        return torch.tensor(weights(node.geometry.filter, inputs, outputs, node.geometry.corners)).to(like)
    out = torch.zeros(outputs, inputs, dtype=like.dtype, device=like.device)
    for o in range(outputs):
        if isinstance(node.geometry, Adaptive):
            taps = list(range(o * inputs // outputs, -(-(o + 1) * inputs // outputs)))
        else:
            window = _window(node)
            start = o * window.stride[axis] - window.padding[axis]
            taps = [start + t * window.dilation[axis] for t in range(window.kernel[axis])]
        out[o, [tap for tap in taps if 0 <= tap < inputs]] = 1.0
    return out


def _window(node: Node) -> Window:
    if not isinstance(node.geometry, Window):
        raise MeasureError(f"{node.path}: a window quantity needs a component with windows")
    return node.geometry


def _all_taps(node: Node, like: Tensor, power: int = 1) -> list[Tensor]:
    return [axis_taps(node, axis, like) ** power for axis in range(len(node.shape.positions))]


def _on_axes(x: Tensor, matrices: list[Tensor]) -> Tensor:
    """Every position axis of (N, C, *positions) times a matrix of its own; the last two at once."""
    for axis, matrix in enumerate(matrices[:-2]):
        x = (x.movedim(2 + axis, -1) @ matrix.T).movedim(-1, 2 + axis)
    return matrices[-2] @ x @ matrices[-1].T


def _window_sums(x: Tensor, node: Node, power: int = 1) -> Tensor:
    """Sum over the real taps of every window, weights to a power: (N, C, *positions) -> (N, C, *positions_out)."""
    return _on_axes(x, _all_taps(node, x, power))


def _window_shares(y: Tensor, node: Node, power: int = 1) -> Tensor:
    """The adjoint: what every input gets from the windows it lies in."""
    return _on_axes(y, [taps.T for taps in _all_taps(node, y, power)])


def _taps_inside(node: Node, like: Tensor) -> Tensor:
    """How many real taps each window has, `(*positions_out)`."""
    return reduce(lambda out, taps: out[..., None] * taps.sum(1), _all_taps(node, like), like.new_ones(()))


@estimator("window_correlation")
def window_correlation(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """Average centred correlation between two taps of a window, one number.

    Sums over all windows w of the batch, each divided by the square of its number of real taps where that is what the
    pool divides by: sum_w(E_c[(sum over taps of x - m)^2] - sum over taps of v), over sum_w((sum over taps of
    sqrt(v))^2 - sum over taps of v); 0 for windows of one tap.
    """
    x, node = _as_image(x, node)
    centred = x - x.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).double()
    together = _window_sums(centred, node).square().mean(1, keepdim=True).double()
    size = _divisor(node, spread) ** 2
    most = _window_sums(spread.sqrt(), node).square()
    return _excess(together / size, _window_sums(spread, node, 2) / size, most / size)


@estimator("gradient_window_correlation", subject="gradient")
def gradient_window_correlation(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """Average correlation between the gradients of two windows that share a tap, one number.

    Sums over all inputs i of the batch and the windows w that contain it, g divided as the pool divides:
    sum_i(E_c[(sum_w g)^2] - sum_w E_c[g^2]), over sum_i((sum_w sqrt(E_c g^2))^2 - sum_w E_c[g^2]); 0 where windows do
    not overlap.
    """
    g, node = _as_image(g, node)
    share = g / _divisor(node, g)
    power = share.square().mean(1, keepdim=True).double()
    together = _window_shares(share, node).square().mean(1, keepdim=True).double()
    return _excess(together, _window_shares(power, node, 2), _window_shares(power.sqrt(), node).square())


def _divisor(node: Node, like: Tensor) -> Tensor:
    """What an average over each window divides by, up to a constant factor."""
    if isinstance(node.geometry, Resample) or (isinstance(node.geometry, Window) and node.geometry.mode != "ignore"):
        return torch.ones(node.shape.positions, dtype=like.dtype, device=like.device)
    return _taps_inside(node, like)


def _excess(together: Tensor, alone: Tensor, most: Tensor) -> Tensor:
    part, whole = (together - alone).sum(), (most - alone).sum()
    return torch.where(whole > _TINY * most.sum(), part / whole.clamp_min(1e-300), 0.0)


@estimator("window_products")
def window_products(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[x_s x_t] of all taps s <= t of every window, `(E, *positions_out, taps*(taps + 1)/2)`.

    Taps are numbered row by row, pairs as the upper triangle of a matrix; a tap outside the input counts as 0. Windows
    that overlap share pairs: there are only as many different products as displacements between two taps.
    """
    x, image = _as_image(x, node)
    if image is not node:
        return window_products(x, image.shapes_in[0], image)[:, 0]
    window = _window(node)
    reach = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]
    ends = [
        max(0, (out - 1) * s + r - n - p)
        for out, s, r, n, p in zip(
            node.shape.positions, window.stride, reach, shape.positions, window.padding, strict=True
        )
    ]
    margins = [side for pair in reversed(list(zip(window.padding, ends, strict=True))) for side in pair]
    padded = F.pad(x, margins) if any(margins) else x
    widths = [prod(padded.shape[3 + axis :]) for axis in range(len(ends))]
    corners = _places(node.shape.positions, window.stride, widths)
    places = _places(window.kernel, window.dilation, widths)
    first, second = places[torch.triu_indices(prod(window.kernel), prod(window.kernel))]
    steps, which = torch.unique(second - first, return_inverse=True)
    index = (which * padded[0, 0].numel() + first + corners[:, None]).flatten().to(x.device)
    products = displaced_products(padded, steps.tolist()).flatten(1).index_select(1, index)
    return products.double().div_(shape.channels).reshape(len(x), *node.shape.positions, -1)


def _places(counts: Sequence[int], steps: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Flat places of a grid: `counts` points, `steps` apart, along axes whose rows have `widths` places."""
    axes = [torch.arange(n) * step * width for n, step, width in zip(counts, steps, widths, strict=True)]
    return reduce(lambda out, axis: out[..., None] + axis, axes).flatten()
