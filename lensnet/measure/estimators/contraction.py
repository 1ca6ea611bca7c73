"""How alike the terms of a contraction are, at either side, and the gradients that it sends back."""

from __future__ import annotations

import torch
from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.network.contraction import LONGEST, MOST, operands_of
from lensnet.network.graph import Node
from lensnet.network.shape import Shape


def _rows(x: Tensor, shape: Shape, node: Node, side: int) -> Tensor:
    """(N, shared places, groups, terms, free places, free channels)."""
    x = x.movedim(shape.channel_axis, -1)
    return operands_of(node)[side].cut(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)


def _gram(rows: Tensor) -> Tensor:
    """(N, W, groups, K, R) -> E_r x_k x_l, (N, W, groups or 1, K, K); of a very long axis (N, W, groups, 2): the
    averages over equal and over different places of it."""
    long, count = rows.shape[-2:]
    if long > LONGEST:
        alone = rows.double().square().sum((-1, -2))
        together = rows.double().sum(-2).square().sum(-1)
        return torch.stack([alone / long, (together - alone) / (long * (long - 1))], -1) / count
    gram = (rows @ rows.transpose(-1, -2)).double() / count
    return gram if gram[0].numel() <= MOST else gram.mean(2, keepdim=True)


def _summed(x: Tensor, shape: Shape, node: Node, side: int) -> Tensor:
    return _gram(_rows(x, shape, node, side).flatten(4))


def _free(x: Tensor, shape: Shape, node: Node, side: int) -> Tensor:
    rows = _rows(x, shape, node, side)
    order = (0, 1, 2, 4, 3, 5) if rows.shape[4] > 1 else (0, 1, 2, 5, 3, 4)
    return _gram(rows.permute(order).flatten(4))


@estimator("left_gram")
def left_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E x_k x_l of the left along the summed axis of a contraction, (E, shared places, groups, terms, terms)."""
    return _summed(x, shape, node, 0)


@estimator("right_gram")
def right_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E x_k x_l of the right along the summed axis of a contraction, (E, shared places, groups, terms, terms)."""
    return _summed(x, shape, node, 1)


@estimator("left_profile")
def left_profile(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E x_k of the left along the summed axis of a contraction, (E, shared places, groups, terms)."""
    return _rows(x, shape, node, 0).double().mean((4, 5))


@estimator("right_profile")
def right_profile(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E x_k of the right along the summed axis of a contraction, (E, shared places, groups, terms)."""
    return _rows(x, shape, node, 1).double().mean((4, 5))


@estimator("left_free_gram")
def left_free_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E x_f x_g of the left along the axis that it brings along (its positions, else its channels), averaged over the
    summed one, (E, shared places, groups, free, free)."""
    return _free(x, shape, node, 0)


@estimator("right_free_gram")
def right_free_gram(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E x_f x_g of the right along the axis that it brings along (its positions, else its channels), averaged over the
    summed one, (E, shared places, groups, free, free)."""
    return _free(x, shape, node, 1)


@estimator("gradient_left_gram", subject="gradient")
def gradient_left_gram(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """E g_f g_g of the gradient at the output of a contraction, along the axis that the left brought along."""
    return _of_gradient(g, node, 0)


@estimator("gradient_right_gram", subject="gradient")
def gradient_right_gram(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """E g_f g_g of the gradient at the output of a contraction, along the axis that the right brought along."""
    return _of_gradient(g, node, 1)


def _of_gradient(g: Tensor, node: Node, side: int) -> Tensor:
    left, right = operands_of(node)
    rows = g.movedim(node.shape.channel_axis, -1)
    sizes = (left.places_count, left.free_count, right.free_count, left.groups, left.free_channels, right.free_channels)
    rows = rows.reshape(len(rows), *sizes).movedim(4, 2)  # (N, W, groups, f, g, c, d)
    mine = (3 if sizes[1] > 1 else 5) if side == 0 else (4 if sizes[2] > 1 else 6)
    return _gram(rows.movedim(mine, 3).flatten(4))
