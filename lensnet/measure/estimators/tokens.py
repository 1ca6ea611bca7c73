"""How alike the positions of one example are."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.network.graph import Node
from lensnet.network.shape import Shape
from lensnet.network.windows import windows_of


def tokens(x: Tensor, shape: Shape) -> Tensor:
    """The tensor as (N, positions, channels), with all positions in one row-by-row list."""
    return x.movedim(shape.channel_axis, -1).reshape(x.shape[0], shape.position_count, shape.channels)


@estimator("token_correlation")
def token_correlation(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """Uncentred correlation between different positions, one number per example, shape (E,).

    The average over pairs i != j of E_c[x_i x_j], over the average over i of E_c[x_i^2]; 0 for a single position.
    """
    rows = tokens(x, shape)
    alone = rows.double().square().sum((1, 2))
    if shape.position_count < 2:
        return torch.zeros_like(alone)
    together = rows.sum(1, dtype=torch.float64).square().sum(1)
    return (together - alone) / ((shape.position_count - 1) * alone).clamp_min(torch.finfo(torch.float64).tiny)


@estimator("evenness")
def evenness(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """How much of a sequence is even: sum x[t, c] x[-t, -c] over sum x^2, both counted in circles, (E,)."""
    rows = tokens(x, shape)
    mirrored = rows.flip((1, 2)).roll((1, 1), (1, 2))
    return (rows * mirrored).double().sum((1, 2)) / rows.double().square().sum((1, 2)).clamp_min(1e-300)


@estimator("gradient_evenness", subject="gradient")
def gradient_evenness(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """The same of the gradient at the output, (E,)."""
    return evenness(g, node.shape, node)


@estimator("gradient_token_dispersion", subject="gradient")
def gradient_token_dispersion(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """E_t[P/(V + eps)] * E_t[V + eps] / E_t[P] over the positions t of an example, shape (E,): P the mean square of the
    output's gradient over channels, V the variance of the input: how unequal the gradient finds the tokens."""
    return _dispersion(g, node, tokens(x, node.shapes_in[0]).double().var(2, unbiased=False))


@estimator("gradient_token_power_dispersion", subject="gradient")
def gradient_token_power_dispersion(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """The same with the mean square of the input instead of its variance, shape (E,)."""
    return _dispersion(g, node, tokens(x, node.shapes_in[0]).double().square().mean(2))


def _dispersion(g: Tensor, node: Node, power: Tensor) -> Tensor:
    spread = (power + float(node.parameters.get("eps", 0.0))).clamp_min(1e-300)
    arriving = tokens(g, node.shape).double().square().mean(2)
    return (arriving / spread).mean(1) * spread.mean(1) / arriving.mean(1).clamp_min(1e-300)


@estimator("gradient_shares_correlation", subject="gradient")
def gradient_shares_correlation(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """r with E[(mean of g over the n that share)^2] = (r + (1 - r)/n) E g^2, of the gradient at the output of a
    softmax, (E,): places along one axis of the positions, or all, or the channels of a group."""
    channel, along = node.shape.channel_axis, node.parameters.get("along")
    if along is None:
        g = g.unflatten(channel, (int(node.parameters["groups"]), -1))
        axes = [channel + 1]
    else:
        axes = [axis for axis in range(1, g.dim()) if axis != channel]
        axes = axes if along == "all" else [axes[("rows", "columns", "slices").index(str(along))]]
    count, rest = prod(g.shape[axis] for axis in axes), tuple(range(1, g.dim()))
    common = g.mean(axes, keepdim=True, dtype=torch.float64).square().mean(rest)
    share = common / g.double().square().mean(rest).clamp_min(1e-300)
    return (count * share - 1) / max(count - 1, 1)


@estimator("token_gram")
def token_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[x_i x_j] for all pairs of positions, shape (E, T, T); the positions of an image count row by row."""
    return _gram(x, shape)


for _port in ("x", "step", "b", "c"):  # of one port of a component that has several
    estimator(f"{_port}_gram")(token_gram)


@estimator("query_gram")
def query_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[x_i x_j] of the queries of attention, shape (E, windows, T, T): of each window."""
    return _in_windows(x, shape, node)


@estimator("key_gram")
def key_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[x_i x_j] of the keys of attention, shape (E, windows, T, T): of each window."""
    return _in_windows(x, shape, node)


@estimator("value_gram")
def value_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[x_i x_j] of the values of attention, shape (E, windows, T, T): of each window."""
    return _in_windows(x, shape, node)


@estimator("gradient_gram", subject="gradient")
def gradient_gram(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """E_c[g_i g_j] of the gradient at the component's output for all pairs of positions, shape (E, T, T), or
    (E, windows, T, T) where the component has windows."""
    return _in_windows(g, node.shape, node) if "window" in node.parameters else _gram(g, node.shape)


def _gram(x: Tensor, shape: Shape) -> Tensor:
    rows = tokens(x, shape)
    if x.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    return torch.bmm(rows, rows.transpose(1, 2)).double() / shape.channels


def _in_windows(x: Tensor, shape: Shape, node: Node) -> Tensor:
    port = next((index for index, one in enumerate(node.shapes_in) if one.positions == shape.positions), 0)
    order = torch.from_numpy(windows_of(node, port).order).to(x.device)
    rows = tokens(x, shape)[:, order]
    rows = rows.float() if x.dtype in (torch.float16, torch.bfloat16) else rows
    return (rows @ rows.transpose(-1, -2)).double() / shape.channels


@estimator("position_mean_square")
def position_mean_square(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[xbar_c^2], shape (E,), where xbar_c is the mean of channel c over the example's positions."""
    return tokens(x, shape).mean(1, dtype=torch.float64).square().mean(1)


@estimator("position_overlap")
def position_overlap(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[x_c xbar_c], a field (E, *positions), where xbar_c is the mean of channel c over the example's positions."""
    rows = tokens(x, shape).double()
    overlap = torch.bmm(rows, rows.mean(1)[:, :, None])[..., 0]
    return (overlap / shape.channels).reshape(x.shape[0], *shape.positions)
