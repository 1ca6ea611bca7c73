"""What a step gains: the rates along z(eta) = P(z + eta d) as a power series in eta, from the features at its start.

With a = <z, d> and c = <d, d> the projection divides by (1 + 2 a eta + c eta^2)^(1/2). Its inverse Sum f_n eta^n obeys

    (n + 1) f_(n+1) = -(2 n + 1) a f_n - n c f_(n-1),   f_0 = 1,

so z(eta) = Sum u_n eta^n with u_n = f_n z + f_(n-1) d. The Gram matrices follow, W_n = Sum_{i+j=n} U_i U_j^H, and with
A_0 = I + alpha W_0, A_n = alpha W_n and B = A^-1 as series, B_n = -B_0 Sum_{i=1}^n A_i B_(n-i),

    d/d eta logdet A = tr(B dA/d eta),   so that coefficient n of logdet is 1/n Sum_{i=1}^n i tr(B_(n-i) A_i).

The first order is <gradient, u_1>: for true gates d is the gradient, and its part tangent to the sphere counts.
The orders behind the second say how far the first two can be trusted. Without the projection f_n = 0 for n > 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensnet.measure.redunet.operators import Construction
from lensnet.quantities.classes import class_groups, class_sizes

ORDERS = 5


@dataclass(frozen=True)
class Series:
    """R and dR at the start, and the coefficients of eta, eta^2, ... in each: (ORDERS,), float64."""

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
        orders = _orders(made.operators.compression[group.classes], rows) @ share  # (ORDERS, g)
        classes = classes + orders @ made.operators.shares[group.classes]
    return Series(made.rates.total, made.rates.reduction, total, total - classes)


def _path(v: Tensor, d: Tensor, length: Tensor, sphere: bool) -> list[Tensor]:
    """u_0 ... as coefficients; `length` (F,) makes inner products of coefficients those of the signals."""
    if not sphere:
        return [v, d, *[torch.zeros_like(v)] * (ORDERS - 1)]
    a, c = _inner(v, d, length)[:, None], _inner(d, d, length)[:, None]
    before, now, path = torch.zeros_like(a), torch.ones_like(a), [v]
    for n in range(ORDERS):
        before, now = now, -((2 * n + 1) * a * now + n * c * before) / (n + 1)
        path.append(now * v + before * d)
    return path


def _orders(operator: Tensor, path: list[Tensor]) -> Tensor:
    """Coefficients of 1/2 logdet per frequency, (ORDERS, ..., F), for an operator M = alpha A_0^-1 (..., F, c, c)."""
    zero = torch.zeros_like(operator)
    moved = [zero]  # A_0^-1 A_n = M W_n
    inverse = [
        torch.eye(operator.shape[-1], dtype=operator.dtype, device=operator.device).expand_as(operator)
    ]  # B_n A_0
    orders = []
    for n in range(1, ORDERS + 1):
        moved.append(operator @ sum((path[i].mT @ path[n - i].conj() for i in range(n + 1)), start=zero))
        traces = [i * _trace(inverse[n - i], moved[i]) for i in range(1, n + 1)]
        orders.append(torch.stack(traces).sum(0) / n)
        inverse.append(-sum((moved[i] @ inverse[n - i] for i in range(1, n + 1)), start=zero))
    return torch.stack(orders) / 2


def _trace(left: Tensor, right: Tensor) -> Tensor:
    """Real part of the trace of a product."""
    return (left.mT * right).sum((-2, -1)).real


def _inner(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Re <a, b> of every example, over channels and weighted frequencies: (m,)."""
    return ((a.conj() * b).real.sum(-1) * weights[:, None]).sum(0)
