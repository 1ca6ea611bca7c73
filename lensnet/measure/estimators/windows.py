"""How alike the taps of a sliding window are."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from lensnet.measure.errors import MeasureError
from lensnet.measure.estimators.registry import estimator
from lensnet.network.geometry import Window
from lensnet.network.graph import Node
from lensnet.network.shape import Shape

# Numbers that a window average may look at: its sampling error, 1e-3, is far below the scatter between weight draws.
_SAMPLES = 1 << 20


@estimator("window_gram")
def window_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E[x_a x_b] for the taps a, b of the node's window (row by row), shape (taps, taps).

    The average runs over channels, examples and the windows that lie inside the grid. Large tensors are sampled:
    evenly spaced channels, then evenly spaced examples.
    """
    sample = window_taps(x, shape, node)
    return sample @ sample.T / sample.shape[1]


def window_taps(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """A sample of windows as a float64 matrix (taps, samples): the definition of `window_gram` says which."""
    window = node.geometry
    if not isinstance(window, Window):
        raise MeasureError(f"{node.path}: a window quantity needs a component with a window")
    images = x.movedim(shape.channel_axis, 1)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilation, strict=True))
    if any(r > size for r, size in zip(reach, shape.positions, strict=True)):  # none lies inside: zeros outside
        images = torch.nn.functional.pad(images, [p for pad in reversed(window.padding) for p in (pad, pad)])
    for axis, (r, s, d) in enumerate(zip(reach, window.stride, window.dilation, strict=True)):
        images = images.unfold(2 + axis, r, s)[..., ::d]
    images = _every(images, 1, at_least=16, others=images.shape[0] * prod(images.shape[2:]))
    images = _every(images, 0, at_least=4, others=prod(images.shape[1:]))
    axes = len(window.kernel)
    order = (*range(2 + axes, 2 + 2 * axes), *range(2 + axes))
    return images.permute(order).reshape(prod(window.kernel), -1).double()


def _every(images: Tensor, axis: int, at_least: int, others: int) -> Tensor:
    """Evenly spaced entries of an axis, so few that the whole has about `_SAMPLES` numbers."""
    keep = max(at_least, _SAMPLES // max(1, others))
    step = max(1, images.shape[axis] // keep)
    return images[::step] if axis == 0 else images[:, ::step]
