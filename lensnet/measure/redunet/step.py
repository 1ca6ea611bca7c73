"""One layer: z' = P(z + eta (E z - Sum_j gam_j pi_j(z) C_j z)), P the projection onto the unit sphere.

pi is the gate: the class of z where labels are given, else softmax_j(-lam |C_j z|), which asks every class how little
it would compress z. Norms are clamped at 1e-8, as in the public code.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lensnet.measure.redunet.operators import Construction, Factors, Operators
from lensnet.quantities.classes import class_groups, class_sizes

CLAMP = 1e-8
NEGLIGIBLE = 1e-25  # a share that no sum in float64 notices
_FREE = 1 << 20  # numbers that may be held for nothing
_BLOCKS = 8  # rows of blocks of a symmetric product: (1 + 1/8)/2 of it is computed


def class_norms(operators: Operators, v: Tensor, weights: Tensor) -> Tensor:
    """|C_j z| over all channels and frequencies, (m, k)."""
    out = [
        _norm(_apply(operators.compression, part[None]), weights[:, None, None]) for part in _parts(operators, v)
    ]  # each (k, part)
    return torch.cat(out, 1).mT


def soft_gate(norms: Tensor, lam: float) -> Tensor:
    """softmax_j(-lam |C_j z|), (m, k): the soft assignment of every example."""
    return torch.softmax(-lam * norms.clamp_min(CLAMP), 1)


def ascent(operators: Operators, v: Tensor, gates: Tensor) -> Tensor:
    """E z - Sum_j gam_j pi_j(z) C_j z for coefficients (F, m, c) and gates (m, k)."""
    return _apply(operators.expansion, v) - compress(operators, v, gates)


def compress(operators: Operators, v: Tensor, gates: Tensor) -> Tensor:
    """Sum_j gam_j pi_j(z) C_j z. Where most gates are shut, only the open pairs of example and class are computed."""
    weighted = gates * operators.shares
    classes = gates.shape[1]
    if not torch.is_grad_enabled() and classes > 2:
        chosen = (gates > NEGLIGIBLE).nonzero()
        if 2 * len(chosen) <= gates.numel():
            return _compress_pairs(operators, v, weighted, chosen)
    out = []
    start = 0
    for part in _parts(operators, v):
        stop = start + part.shape[1]
        made = _apply(operators.compression, part[None])  # (k, F, part, c)
        out.append(torch.einsum("mk,kfmc->fmc", weighted[start:stop].to(made), made))
        start = stop
    return torch.cat(out, 1)


def _compress_pairs(operators: Operators, v: Tensor, weighted: Tensor, chosen: Tensor) -> Tensor:
    """The same from (example, class) pairs, class by class in one padded batch for each group of similar size."""
    examples, labels = chosen.unbind(1)
    out = torch.zeros_like(v)
    for group in class_groups(labels, class_sizes(labels, weighted.shape[1])):
        members = examples[group.index]  # (g, n)
        share = weighted[members, group.classes[:, None]] * group.inside
        rows = v[:, members].movedim(1, 0) * share[:, None, :, None].to(v)  # (g, F, n, c)
        made = _apply(operators.compression[group.classes], rows)
        out.index_add_(1, members.flatten(), made.movedim(0, 1).flatten(1, 2))
    return out


def ascent_by_label(made: Construction, v: Tensor) -> Tensor:
    """E z - gam_j C_j z for the examples that the operators were made from, j the class of each.

    C_j Z = alpha_j Z (I + alpha_j Z^H Z)^-1: for a class of few examples one small solve, for a large one a product.
    """
    pull = torch.zeros_like(v)
    for factors in made.factors:
        group = factors.group
        if factors.thin:
            compressed = factors.alpha[:, None, None, None] * torch.cholesky_solve(factors.rows, factors.lower)
        else:
            compressed = _apply(made.operators.compression[group.classes], factors.rows)
        weighted = made.operators.shares[group.classes][:, None, None, None] * compressed  # (g, F, n, c)
        pull.index_add_(1, group.index.flatten(), weighted.movedim(0, 1).flatten(1, 2))
    return _apply(made.operators.expansion, v) - pull


def project(features: Tensor) -> Tensor:
    """P: every example divided by its norm over all channels and positions, clamped at 1e-8; zero stays zero."""
    norm = torch.linalg.vector_norm(features.flatten(1), dim=1).clamp_min(CLAMP)
    return features / norm.reshape(-1, *[1] * (features.dim() - 1))


def one_hot(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """The gate that labels open, (m, k)."""
    return torch.nn.functional.one_hot(labels, classes).to(dtype=like.real.dtype, device=like.device)


def training_norms(made: Construction, v: Tensor, weights: Tensor) -> Tensor:
    """|C_j z| of the examples that the operators were made from, from the factors where that is cheaper.

    With y = L^-1 Z z and w = L^-H y in the space of the class's n examples, |C_j z|^2 = alpha_j^2 (|z|^2 -
    alpha_j |y|^2 - alpha_j |w|^2). The differences lose digits (1e-16 of |z|^2 remain), so this is for float64 alone.
    """
    thin = [factors for factors in made.factors if factors.thin and 2 * factors.rows.shape[-2] < factors.rows.shape[-1]]
    if v.real.dtype != torch.float64 or len(thin) < len(made.factors):
        return class_norms(made.operators, v, weights)
    out = v.real.new_empty(v.shape[1], len(made.operators.shares))
    products = _inner_products(v) if v.shape[1] ** 2 <= 2 * made.operators.compression[:, 0].numel() else None
    for factors in thin:
        group, start = factors.group, 0
        for part in _parts(made.operators, v):
            stop = start + part.shape[1]
            if products is None:
                inner = factors.rows.conj() @ part.mT  # Z z, (g, F, n, part)
            else:
                inner = products[:, group.index, start:stop].movedim(0, 1) * group.inside[:, None, :, None]
            out[start:stop, group.classes] = _thin_norms(factors, inner, part, weights).mT
            start = stop
    return out


def _inner_products(v: Tensor) -> Tensor:
    """z_i^H z_j of all examples, (F, m, m): the blocks on one side of the diagonal, mirrored."""
    m = v.shape[1]
    out = v.new_empty(v.shape[0], m, m)
    block = -(-m // _BLOCKS)
    for start in range(0, m, block):
        stop = min(start + block, m)
        made = v[:, start:stop].conj() @ v[:, start:].mT
        out[:, start:stop, start:] = made
        out[:, stop:, start:stop] = made[:, :, stop - start :].mH
    return out


def _thin_norms(factors: Factors, inner: Tensor, v: Tensor, weights: Tensor) -> Tensor:
    """(g, part) norms of one group; summed over frequencies with their weights."""
    y = torch.linalg.solve_triangular(factors.lower.conj(), inner, upper=False)
    w = torch.linalg.solve_triangular(factors.lower.mT, y, upper=True)
    alpha = factors.alpha[:, None, None]
    lost = alpha * (_square(y, -2) + _square(w, -2))
    squares = alpha**2 * (_square(v, -1)[None] - lost).clamp_min(0.0)  # (g, F, part)
    return (squares * weights[:, None]).sum(1).sqrt()


def _parts(operators: Operators, v: Tensor) -> Iterator[Tensor]:
    """Examples in parts, so that what is made of them for every class is no larger than the operators (or 8 MB)."""
    classes, frequencies, c, _ = operators.compression.shape
    return iter(v.split(max(c, _FREE // (classes * frequencies * c)), 1))


def _apply(operator: Tensor, rows: Tensor) -> Tensor:
    """The operator (..., c, c) on rows v^T (..., m, c)."""
    return rows @ operator.mT


def _norm(rows: Tensor, weights: Tensor) -> Tensor:
    """Norm over channels and (weighted) frequencies of (k, F, m, c): (k, m)."""
    return (_square(rows, -1) * weights[..., 0]).sum(1).sqrt()


def _square(x: Tensor, axis: int) -> Tensor:
    return (x.real.square() + x.imag.square() if x.is_complex() else x.square()).sum(axis)
