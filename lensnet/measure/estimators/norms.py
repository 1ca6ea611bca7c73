"""What normalisations need to know: how alike the samples are that share one mean and one variance.

The samples of a norm are the examples and positions of one channel (`batch`), the positions of one channel
(`position`), or the channels of a group and all positions (`group`). n is their number, E_s the average over the sets
(channels or groups). m, q are averages over all channels at an example and position, v = q - m^2.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.measure.estimators.tokens import tokens
from lensnet.measure.fields import channel_moments, inner_product
from lensnet.network.graph import Node
from lensnet.network.shape import Shape

Kind = Literal["batch", "position", "group"]
_TINY = 1e-12


def _sets(x: Tensor, shape: Shape, node: Node, kind: Kind) -> Tensor:
    """The tensor as (E, sets, samples), for sets within one example."""
    rows = tokens(x, shape)
    if kind == "position":
        return rows.transpose(1, 2)
    groups = int(node.parameters["groups"])
    split = rows.reshape(len(rows), shape.position_count, groups, shape.channels // groups)
    return split.transpose(1, 2).flatten(2)


def _shaped(value: Tensor, kind: Kind) -> Tensor:
    return value.reshape(()) if kind == "batch" else value


def correlation(x: Tensor, shape: Shape, node: Node, kind: Kind) -> Tensor:
    """Average centred correlation between two samples of a set, `(E,)` (a number for the batch).

    With a = E_s[(mean of the samples)^2] - (mean m)^2, b = (mean v)/n and s = (mean sqrt(v))^2 it is (a - b)/(s - b).
    """
    mean, second = (field.reshape(len(x), -1) for field in channel_moments(x, shape))
    spread = (second - mean**2).clamp_min(0.0)
    if kind == "batch":
        mean, spread = mean.reshape(1, -1), spread.reshape(1, -1)
    means, count = _means(x, shape, node, kind)
    common = means.square().mean(1) - mean.mean(1) ** 2
    alone, most = spread.mean(1) / count, spread.sqrt().mean(1) ** 2
    room = most - alone
    return _shaped(torch.where(room > _TINY * most, (common - alone) / room.clamp_min(1e-300), 0.0), kind)


def dispersion(x: Tensor, shape: Shape, node: Node, kind: Kind) -> Tensor:
    """E_s[V + eps] * E_s[1/(V + eps)], V the biased variance of a set: how unequal the sets are, at least 1."""
    if kind == "batch":
        _, variance = _batch_statistics(x, shape)
        spread = _with_eps(variance.double()[None], node)
    else:
        spread = _spread(_sets(x, shape, node, kind), node)
    return _shaped(spread.mean(1) * (1 / spread).mean(1), kind)


def gradient_correlation(g: Tensor, x: Tensor, node: Node, kind: Kind) -> Tensor:
    """Average correlation of the output's gradient g between two samples of a set: r with
    E_s[(mean g)^2]/E[g^2] = r + (1 - r)/n."""
    means, count = _means(g, node.shape, node, kind)
    return _shaped(_excess(means, _power(g, kind), count), kind)


def gradient_alignment(g: Tensor, x: Tensor, node: Node, kind: Kind) -> Tensor:
    """The same for g*xhat, xhat = (x - mean)/sqrt(V + eps): r with E_s[(mean g*xhat)^2]/E[g^2] = r + (1 - r)/n."""
    if kind == "batch":
        along, count = _batch_alignment(g, x, node)
    else:
        sets = _sets(x, node.shapes_in[0], node, kind)
        centred = sets - sets.mean(2, keepdim=True)
        along = (_sets(g, node.shape, node, kind) * centred).mean(2, dtype=torch.float64) / _spread(sets, node).sqrt()
        count = sets.shape[2]
    return _shaped(_excess(along, _power(g, kind), count), kind)


def _means(x: Tensor, shape: Shape, node: Node, kind: Kind) -> tuple[Tensor, int]:
    """The mean of every set, `(E, sets)`, and the number of its samples."""
    if kind == "batch":
        rows = _channels_second(x, shape)
        means = rows.mean([axis for axis in range(rows.dim()) if axis != 1])
        return means.double()[None], x.numel() // shape.channels
    sets = _sets(x, shape, node, kind)
    return sets.mean(2, dtype=torch.float64), sets.shape[2]


def gradient_dispersion(g: Tensor, x: Tensor, node: Node, kind: Kind) -> Tensor:
    """The dispersion that the gradient sees: E_s[P/(V + eps)] * E_s[V + eps] / E_s[P], P the mean of g^2 over a set.

    Behind a ReLU and a max pool, sets with little variance (fine patterns) get more gradient than smooth ones.
    """
    if kind == "batch":
        spread = _with_eps(_batch_statistics(x, node.shapes_in[0])[1].double()[None], node)
        rows = _channels_second(g, node.shape)
        axes = [axis for axis in range(rows.dim()) if axis != 1]
        power = torch.linalg.vector_norm(rows, 2, axes).double().square()[None]
    else:
        spread = _spread(_sets(x, node.shapes_in[0], node, kind), node)
        power = _sets(g, node.shape, node, kind).square().mean(2, dtype=torch.float64)
    weight = power / power.mean(1, keepdim=True).clamp_min(1e-300)
    return _shaped((weight / spread).mean(1) * spread.mean(1), kind)


def _spread(sets: Tensor, node: Node) -> Tensor:
    """V + eps of every set, `(E, sets)`."""
    return _with_eps(sets.double().var(2, unbiased=False), node)


def _with_eps(variance: Tensor, node: Node) -> Tensor:
    return (variance + float(node.parameters.get("eps", 0.0))).clamp_min(1e-300)


def _power(g: Tensor, kind: Kind) -> Tensor:
    """E[g^2] of every example, `(E,)`; of the batch, `(1,)`."""
    if kind == "batch":
        return (inner_product(g, g) / g.numel())[None]
    return g.double().square().flatten(1).mean(1)


def _excess(averages: Tensor, power: Tensor, count: int) -> Tensor:
    """What the mean square of `averages` has beyond that of independent samples, as a share of the most it can be."""
    if count < 2:
        return torch.zeros_like(power)
    return (averages.square().mean(1) / power.clamp_min(1e-300) - 1 / count) / (1 - 1 / count)


def _channels_second(x: Tensor, shape: Shape) -> Tensor:
    """The layout that torch's own batch statistics expect, in float32 at least: (samples, C) or (N, C, H, W)."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return wide if len(shape.positions) == 2 else wide.reshape(-1, shape.channels)


def _batch_statistics(x: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel over the batch, by the kernel of torch's batch normalisation."""
    return torch.batch_norm_update_stats(_channels_second(x, shape), None, None, 0.0)


def _batch_alignment(g: Tensor, x: Tensor, node: Node) -> tuple[Tensor, int]:
    """The mean of g*xhat over the batch for every channel: what batch normalisation computes for its own gradient."""
    signal, gradient = _channels_second(x, node.shapes_in[0]), _channels_second(g, node.shape)
    mean, variance = _batch_statistics(x, node.shapes_in[0])
    scale = _with_eps(variance.double(), node).rsqrt().to(variance.dtype)
    total = torch.ops.aten.native_batch_norm_backward(
        gradient.contiguous(), signal.contiguous(), None, None, None, mean, scale, True, 0.0, [False, True, False]
    )[1]
    count = signal.numel() // node.shape.channels
    return total.double()[None] / count, count


for _kind in ("batch", "position", "group"):
    for _name, _measure, _subject in (
        (f"{_kind}_correlation", correlation, "signal"),
        (f"{_kind}_dispersion", dispersion, "signal"),
        (f"gradient_{_kind}_correlation", gradient_correlation, "gradient"),
        (f"gradient_{_kind}_alignment", gradient_alignment, "gradient"),
        (f"gradient_{_kind}_dispersion", gradient_dispersion, "gradient"),
    ):
        _bound = partial(_measure, kind=_kind)
        _bound.__doc__ = _measure.__doc__
        estimator(_name, subject=_subject)(_bound)  # type: ignore[arg-type]


@estimator("length_dispersion")
def length_dispersion(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c L^2 / (E_c L)^2 of the lengths L of the channels over all positions, `(E,)`: at least 1."""
    length = tokens(x, shape).double().square().sum(1).sqrt()
    return length.square().mean(1) / length.mean(1).square().clamp_min(1e-300)
