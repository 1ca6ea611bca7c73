"""How classes lie in feature space: their rank, the angles between their subspaces, and how decided a gate is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import nan

import torch
from torch import Tensor

from lensnet.quantities.classes import class_sizes

RANK_TOLERANCE, ENERGY = 1e-6, 0.95
"""What of a class counts: singular values above this share of its largest; directions that hold this much energy."""


@dataclass(frozen=True)
class ClassGeometry:
    """Of labelled features. `ranks`: int64, (k,), 0 for an empty class; `smallest`, `largest`: principal angle between
    any two classes, in radians, float64 without axes, NaN where there are no two classes."""

    ranks: Tensor
    smallest: Tensor
    largest: Tensor

    @property
    def mean_rank(self) -> Tensor:
        """Average over the classes that have examples, float64."""
        return self.ranks[self.ranks > 0].double().mean()


def class_geometry(features: Tensor, labels: Tensor, energy: float = ENERGY) -> ClassGeometry:
    """Ranks and angles of features (m, d) with labels (m,), by one decomposition of every class."""
    ranks = torch.zeros(len(class_sizes(labels)), dtype=torch.int64, device=features.device)
    bases = {}
    for j, (s, vt) in _decompositions(features, labels):
        ranks[j] = _rank(s)
        bases[j] = _leading(s, vt, energy)
    found = [angles for _, _, angles in _pairs(bases)]
    if not found:
        nothing = torch.full((), nan, dtype=torch.float64, device=features.device)
        return ClassGeometry(ranks, nothing, nothing)
    ends = torch.stack([angles[[0, -1]] for angles in found])
    return ClassGeometry(ranks, ends[:, 0].min(), ends[:, 1].max())


def class_rank(features: Tensor, labels: Tensor) -> Tensor:
    """Rank of each class: singular values above 1e-6 times its largest one. int64, shape (k,)."""
    return torch.stack([_rank(s) for s in _singular_values(features, labels)])


def stable_rank(features: Tensor, labels: Tensor) -> Tensor:
    """|Z_j|_F^2 / |Z_j|_2^2 of each class: how many directions carry its energy. float64, shape (k,)."""
    found = _singular_values(features, labels)
    return torch.stack([s.square().sum() / s[:1].square().sum().clamp_min(1e-300) for s in found])


def class_subspace(features: Tensor, energy: float = ENERGY) -> Tensor:
    """Orthonormal basis (d, r) of the fewest principal directions (not centred) that hold `energy` of rows (m, d)."""
    _, s, vt = torch.linalg.svd(features.double(), full_matrices=False)
    return _leading(s, vt, energy)


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


def class_angles(features: Tensor, labels: Tensor, energy: float = ENERGY) -> Tensor:
    """The smallest principal angle between each two classes: float64, (k, k), radians; NaN where a class is empty."""
    counts = class_sizes(labels)
    out = torch.full((len(counts), len(counts)), torch.nan, dtype=torch.float64, device=features.device)
    bases = {j: _leading(s, vt, energy) for j, (s, vt) in _decompositions(features, labels)}
    for j in bases:
        out[j, j] = 0.0
    for i, j, angles in _pairs(bases):
        out[i, j] = out[j, i] = angles[0]
    return out


def _decompositions(features: Tensor, labels: Tensor) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Singular values and right singular vectors (r, d) of every class that has examples."""
    z = features.double()
    for j, count in enumerate(class_sizes(labels)):
        if count:
            _, s, vt = torch.linalg.svd(z[labels == j], full_matrices=False)
            yield j, (s, vt)


def _rank(s: Tensor) -> Tensor:
    return (s > RANK_TOLERANCE * s[:1].clamp_min(1e-300)).sum()


def _leading(s: Tensor, vt: Tensor, energy: float) -> Tensor:
    share = s.square().cumsum(0) / s.square().sum().clamp_min(1e-300)
    count = int((share < energy * (1 - 1e-12)).sum()) + 1
    return vt[: min(count, len(s))].mT


def _pairs(bases: Mapping[int, Tensor]) -> Iterator[tuple[int, int, Tensor]]:
    """Two classes, i > j, and their principal angles."""
    for j, i in combinations(bases, 2):
        yield i, j, principal_angles(bases[i], bases[j])


def gate_entropy(shares: Tensor) -> Tensor:
    """-Sum_j pi_j log pi_j of soft assignments (..., k), in nats: 0 decided, log(k) undecided. float64."""
    return torch.special.entr(shares.double()).sum(-1)


def _singular_values(features: Tensor, labels: Tensor) -> list[Tensor]:
    z = features.double()
    return [torch.linalg.svdvals(z[labels == j]) for j in range(len(class_sizes(labels)))]
