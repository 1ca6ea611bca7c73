"""What a step gains: the rates along z(eta) = P(z + eta d) as a power series in eta, from the features it starts at.

With a = <z, d> and b = |d|^2 - a^2 the projection onto the sphere is z(eta) = z + eta u1 + eta^2 u2 + eta^3 u3 + ...,

    u1 = d - a z,   u2 = (a^2 - b/2) z - a d,   u3 = (3ab/2 - a^3) z + (a^2 - b/2) d,

so that W = Z Z^H becomes W + eta W1 + ..., W_n = Sum_{i+j=n} U_i U_j^H, and with M = alpha (I + alpha W)^-1

    logdet = const + eta tr(M W1) + eta^2 (tr(M W2) - tr(M W1)^2/2) + eta^3 (tr(M W3) - tr(M W1 M W2) + tr(M W1)^3/3).

The first order is <gradient, u1>: for true gates d is the gradient, and only its part tangent to the sphere counts. The
third says how far the first two can be trusted. Without the projection u2 = u3 = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensnet.measure.redunet.operators import Construction
from lensnet.quantities.classes import class_groups, class_sizes

ORDERS = 3


@dataclass(frozen=True)
class Series:
    """R and dR at the start, and the coefficients of eta, eta^2 and eta^3 in each: (3,), float64."""

    total: Tensor
    reduction: Tensor
    total_orders: Tensor
    reduction_orders: Tensor


def gain_series(
    made: Construction, v: Tensor, direction: Tensor, weights: Tensor, orthonormal: bool = False, sphere: bool = True
) -> Series:
    """`made`: from coefficients v (F, m, c) and true labels. `direction`: coefficients of d. `weights`: (F,)."""
    share = weights / weights.sum()
    path = _path(v, direction, weights if orthonormal else share, sphere)
    total = _orders(made.operators.expansion, path) @ share
    classes = torch.zeros_like(total)
    for group in class_groups(made.labels, class_sizes(made.labels)):
        rows = [group.take(u.movedim(0, 1)).movedim(2, 1) for u in path]
        orders = _orders(made.operators.compression[group.classes], rows) @ share  # (3, g)
        classes = classes + orders @ made.operators.shares[group.classes]
    return Series(made.rates.total, made.rates.reduction, total, total - classes)


def _path(v: Tensor, d: Tensor, length: Tensor, sphere: bool) -> list[Tensor]:
    """z, u1, u2, u3 as coefficients; `length` (F,) makes inner products of coefficients those of the signals."""
    if not sphere:
        return [v, d, torch.zeros_like(v), torch.zeros_like(v)]
    a = _inner(v, d, length)[:, None]
    b = _inner(d, d, length)[:, None] - a**2
    return [v, d - a * v, (a**2 - b / 2) * v - a * d, (1.5 * a * b - a**3) * v + (a**2 - b / 2) * d]


def _orders(operator: Tensor, path: list[Tensor]) -> Tensor:
    """The first three coefficients of 1/2 logdet per frequency, (3, ..., F), for an operator M (..., F, c, c)."""
    products = [
        sum((path[i].mT @ path[n - i].conj() for i in range(n + 1)), start=torch.zeros_like(operator))
        for n in range(1, ORDERS + 1)
    ]
    one, two, three = (operator @ product for product in products)
    square = one @ one
    second = _trace(two) - _trace(square) / 2
    third = _trace(three) - _trace(one @ two) + _trace(square @ one) / 3
    return torch.stack([_trace(one), second, third]) / 2


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).real.sum(-1)


def _inner(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Re <a, b> of every example, over channels and weighted frequencies: (m,)."""
    return ((a.conj() * b).real.sum(-1) * weights[:, None]).sum(0)
