"""What distinguishes given weights from random ones: rank, spectrum, and how far both are from the random-matrix law.

A rows x columns matrix of independent entries of variance s^2 has singular values between s*|sqrt(rows) -
sqrt(columns)| and s*(sqrt(rows) + sqrt(columns)) (Marchenko and Pastur 1967), whatever the law of the entries. What
stands out above that edge was learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from lensnet.importers.model import ImportedModel

_MOST = 2048  # rows and columns of a matrix that are looked at


@dataclass(frozen=True)
class Structure:
    """One weight matrix. `outliers`: singular values above the random edge; `share`: their part of the power;
    `edge`: largest singular value over the edge; `stable_rank`: |W|_F^2/|W|^2; `random_rank`: what independent entries
    would have; `distance`: largest difference between the distribution of squared singular values and the law's."""

    component: str
    parameter: str
    shape: tuple[int, int]
    outliers: int
    share: float
    edge: float
    stable_rank: float
    random_rank: float
    distance: float

    @property
    def learned(self) -> bool:
        return self.edge > 1.05 or self.distance > 0.1

    @property
    def text(self) -> str:
        return (
            f"{self.component}: {self.outliers} singular values of {min(self.shape)} above the random edge (largest "
            f"{self.edge:.2f} of it), with {self.share:.0%} of the power; stable rank {self.stable_rank:.1f}, "
            f"random {self.random_rank:.1f}; spectrum {self.distance:.2f} from Marchenko-Pastur"
        )


def structures(imported: ImportedModel) -> list[Structure]:
    """Every weight matrix of the model that is no random one, the farthest from random first."""
    out = []
    seen: set[int] = set()
    for item in imported.draft.items:
        for name in item.owns:
            tensor = imported.captured.parameters.get(name)
            if (
                tensor is None
                or tensor.is_meta
                or tensor.dim() < 2
                or id(tensor) in seen
                or not tensor.is_floating_point()
            ):
                continue
            seen.add(id(tensor))
            found = structure_of(tensor, item.path, name)
            if found is not None and found.learned:
                out.append(found)
    return sorted(out, key=lambda one: -one.share)


@torch.no_grad()
def structure_of(tensor: Tensor, component: str = "", parameter: str = "") -> Structure | None:
    """The spectrum of one tensor read as a matrix (outputs, all the rest); None where it is too small to tell."""
    matrix = tensor.detach().reshape(tensor.shape[0], -1)[:_MOST, :_MOST].double()
    rows, columns = matrix.shape
    if min(rows, columns) < 8 or not torch.isfinite(matrix).all():
        return None
    values = torch.linalg.svdvals(matrix)
    power = values.square()
    total = float(power.sum())
    if total == 0:
        return None
    std = sqrt(total / (rows * columns))
    top = std * (sqrt(rows) + sqrt(columns))
    # the largest eigenvalue of a random matrix scatters by (Tracy and Widom) about n^(-2/3) of the edge
    margin = 1 + 2.0 * min(rows, columns) ** (-2 / 3)
    above = values > top * margin
    return Structure(
        component,
        parameter,
        (rows, columns),
        int(above.sum()),
        float(power[above].sum()) / total,
        float(values[0]) / top,
        total / float(power[0]),
        rows * columns / (sqrt(rows) + sqrt(columns)) ** 2,
        _distance(power / (std**2 * max(rows, columns)), min(rows, columns) / max(rows, columns)),
    )


def _distance(eigenvalues: Tensor, ratio: float) -> float:
    """Kolmogorov distance from the Marchenko-Pastur law of that ratio (variance 1)."""
    low, high = (1 - sqrt(ratio)) ** 2, (1 + sqrt(ratio)) ** 2
    grid = torch.linspace(low, high, 4097, dtype=torch.float64)
    middle = (grid[1:] + grid[:-1]) / 2
    density = ((high - middle) * (middle - low)).clamp_min(0).sqrt() / middle.clamp_min(1e-12)
    cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), density.cumsum(0)])
    cumulative /= cumulative[-1].clone()
    ordered = eigenvalues.sort().values
    place = torch.searchsorted(grid, ordered.clamp(low, high)).clamp(0, 4096)
    law = cumulative[place]
    count = len(ordered)
    steps = torch.arange(count, dtype=torch.float64)
    return float(torch.maximum((law - steps / count).abs(), (law - (steps + 1) / count).abs()).max())
