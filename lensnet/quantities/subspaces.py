"""How classes lie in feature space: their rank, the angles between their subspaces, and how decided a gate is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import nan

import torch
from torch import Tensor

from lensnet.quantities.classes import class_sizes


def class_rank(features: Tensor, labels: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Rank of each class: singular values above `tolerance` times its largest one. int64, shape (k,)."""
    return torch.stack([(s > tolerance * s[:1].clamp_min(1e-300)).sum() for s in _singular_values(features, labels)])


def stable_rank(features: Tensor, labels: Tensor) -> Tensor:
    """|Z_j|_F^2 / |Z_j|_2^2 of each class: how many directions carry its energy. float64, shape (k,)."""
    found = _singular_values(features, labels)
    return torch.stack([s.square().sum() / s[:1].square().sum().clamp_min(1e-300) for s in found])


def class_subspace(features: Tensor, energy: float = 0.95) -> Tensor:
    """Orthonormal basis (d, r) of the fewest principal directions (not centred) that hold `energy` of rows (m, d)."""
    _, s, vt = torch.linalg.svd(features.double(), full_matrices=False)
    share = s.square().cumsum(0) / s.square().sum().clamp_min(1e-300)
    count = int((share < energy * (1 - 1e-12)).sum()) + 1
    return vt[: min(count, len(s))].mT


def class_subspaces(rows: Tensor, labels: Tensor, classes: int, components: int) -> Tensor:
    """The leading `components` principal directions (not centred) of every class, (k, d, components).

    rows: (m, ..., d); every position counts as an example of its class. Raises ValueError for a class with fewer
    examples than components.
    """
    counts = class_sizes(labels, classes)
    out = rows.new_empty(classes, rows.shape[-1], components)
    for j in range(classes):
        mine = rows[labels == j].flatten(0, -2)
        if len(mine) < components:
            raise ValueError(f"class {j} has {counts[j]} examples, too few for {components} directions")
        out[j] = torch.linalg.svd(mine, full_matrices=False)[2][:components].mT
    return out


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Principal angles, in radians and ascending, between the spans of orthonormal bases (d, r) and (d, s).

    Small angles from sines, large ones from cosines (Bjorck and Golub 1973), so that both are exact to rounding.
    """
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    a, b = a.double(), b.double()
    along = a.mT @ b
    cosines = torch.linalg.svdvals(along).clamp(max=1.0)
    sines = torch.linalg.svdvals(b - a @ along).clamp(max=1.0).flip(0)
    return torch.where(cosines > 0.7, sines.asin(), cosines.acos())


def class_angles(features: Tensor, labels: Tensor, energy: float = 0.95) -> Tensor:
    """The smallest principal angle between each two classes: float64, (k, k), radians; NaN where a class is empty."""
    counts = class_sizes(labels)
    out = torch.full((len(counts), len(counts)), torch.nan, dtype=torch.float64, device=features.device)
    for j, n in enumerate(counts):
        if n:
            out[j, j] = 0.0
    for i, j, angles in _pairs(features, labels, energy):
        out[i, j] = out[j, i] = angles[0]
    return out


def angle_range(features: Tensor, labels: Tensor, energy: float = 0.95) -> tuple[float, float]:
    """The smallest and the largest principal angle between any two classes, in radians; NaN without two classes."""
    found = [(float(angles[0]), float(angles[-1])) for _, _, angles in _pairs(features, labels, energy)]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else (nan, nan)


def _pairs(features: Tensor, labels: Tensor, energy: float) -> Iterator[tuple[int, int, Tensor]]:
    """Two classes that have examples, i > j, and their principal angles."""
    bases = {j: class_subspace(features[labels == j], energy) for j, n in enumerate(class_sizes(labels)) if n}
    for j, i in combinations(bases, 2):
        yield i, j, principal_angles(bases[i], bases[j])


def gate_entropy(shares: Tensor) -> Tensor:
    """-Sum_j pi_j log pi_j of soft assignments (..., k), in nats: 0 decided, log(k) undecided. float64."""
    return torch.special.entr(shares.double()).sum(-1)


def _singular_values(features: Tensor, labels: Tensor) -> list[Tensor]:
    z = features.double()
    return [torch.linalg.svdvals(z[labels == j]) for j in range(len(class_sizes(labels)))]
