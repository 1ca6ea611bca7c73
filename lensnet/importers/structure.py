"""What distinguishes given weights from random ones: rank, spectrum, and what they make of the signal they get.

A matrix of independent entries has the singular values of Marchenko and Pastur's law (1967), the largest of them
scattered by Tracy and Widom's (Johnstone 2001), whatever the law of the entries. So two things are read off a given
matrix: how many of its singular values stand above the edge that the rest of them has, and how far their distribution
is from the law. Both are held against the same entries shuffled, so that a fresh matrix gives no finding, whatever law
it was drawn from. What the component does to its input and to the gradient stands in the rows of the report, whose
error bars are those of shuffled weights on the same input.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lensnet.compare.findings import Finding
from lensnet.compare.row import Row, Verdict
from lensnet.importers.model import ImportedModel
from lensnet.importers.shuffling import shuffle
from lensnet.measure.draw import generator
from lensnet.quantities.spectra import effective_rank, stable_rank

_MOST = 2048  # singular values of one matrix that are looked at
_ENTRIES = 1 << 24
_FEWEST = 8
BEYOND_CHANCE = 1e-4
"""Probability of a finding at one matrix that was drawn fresh."""


@dataclass(frozen=True)
class Response:
    """Second moment measured over that predicted for random weights of the same size on the same input, and the verdict
    of that row."""

    ratio: float
    verdict: Verdict

    @property
    def learned(self) -> bool:
        """Whether it lies beyond chance and tolerance."""
        return self.verdict == "deviates"


@dataclass(frozen=True)
class Structure:
    """One weight tensor as a matrix (outputs, all the rest).

    `outliers`: singular values above the edge of a random matrix with the power of the others; `share`: their part of
    the power; `edge`: the largest over that edge. `stable_rank` |W|_F^2/|W|^2 and `effective_rank` (Roy and Vetterli),
    counts. `distance`: largest difference between the distribution of the squared singular values and Marchenko and
    Pastur's (0 to 1). `random_...`: the same of the shuffled entries. `chance`: the distance that few random matrices
    exceed. `forward`, `backward`: how the component differs from its prediction, None where nothing was measured.
    """

    component: str
    parameter: str
    shape: tuple[int, int]
    outliers: int
    share: float
    edge: float
    stable_rank: float
    random_stable_rank: float
    effective_rank: float
    random_effective_rank: float
    distance: float
    random_distance: float
    chance: float
    forward: Response | None = None
    backward: Response | None = None

    @property
    def count(self) -> int:
        """How many singular values there are."""
        return min(self.shape)

    @property
    def learned(self) -> bool:
        aligned = any(one is not None and one.learned for one in (self.forward, self.backward))
        return self.outliers > 0 or self.distance > self.chance or aligned

    @property
    def text(self) -> str:
        """One sentence: what is not random about it, and by how much."""
        parts = []
        if self.outliers:
            parts.append(
                f"{self.outliers} of its {self.count} singular values stand above the edge of a random matrix (the "
                f"largest {self.edge:.2g} times as high) with {self.share:.0%} of the power, where chance leaves none"
            )
        if self.distance > self.chance:
            parts.append(f"its spectrum is {self.distance:.2f} from Marchenko-Pastur (by chance {self.chance:.2f})")
        for one, what in ((self.forward, "of the signal"), (self.backward, "of the gradient")):
            if one is not None and one.learned:
                parts.append(f"it makes {one.ratio:.3g} times the power {what} that random weights make of this input")
        ranks = f"stable rank {self.stable_rank:.3g}, random {self.random_stable_rank:.3g}"
        return f"{self.component}: {self.parameter} is no random matrix: {'; '.join(parts)}; {ranks}"

    @property
    def finding(self) -> Finding:
        """For the report, with the numbers that the text rests on."""
        names = ("outliers", "share", "edge", "stable_rank", "random_stable_rank", "effective_rank",
                 "random_effective_rank", "distance", "random_distance", "chance")  # fmt: skip
        numbers = {name: float(getattr(self, name)) for name in names}
        numbers |= {"rows": float(self.shape[0]), "columns": float(self.shape[1])}
        for name, one in (("forward", self.forward), ("backward", self.backward)):
            numbers |= {} if one is None else {f"{name}_ratio": one.ratio, f"{name}_learned": float(one.learned)}
        return Finding("structure", "note", self.text, self.component, numbers)


def structures(imported: ImportedModel, rows: Iterable[Row] = ()) -> list[Structure]:
    """Every weight matrix of the model, the farthest from random first. rows: of the report on the given weights."""
    out = []
    responses = _responses(rows)
    seen: set[int] = set()
    for item in imported.draft.items:
        for name in item.owns:
            tensor = imported.captured.parameters.get(name)
            if tensor is None or id(tensor) in seen or not _is_matrix(tensor):
                continue
            seen.add(id(tensor))
            found = structure_of(tensor, item.path, name)
            if found is not None:
                there, back = responses.get((item.path, "forward")), responses.get((item.path, "backward"))
                out.append(replace(found, forward=there, backward=back))
    return sorted(out, key=lambda one: (not one.learned, -max(one.share, one.distance)))


def _responses(rows: Iterable[Row]) -> dict[tuple[str, str], Response]:
    """(component, direction) -> measured over predicted power, from the measured statistics of its own input."""
    return {
        (row.component, row.direction): Response(row.measured / row.predicted, row.verdict)
        for row in rows
        if row.view == "local" and row.quantity == "second_moment" and row.level == "moments"
        and row.measured is not None and row.predicted
    }  # fmt: skip


def findings(found: Iterable[Structure]) -> list[Finding]:
    """One for every matrix that is no random one, and one for those that cannot be told from it."""
    known = list(found)
    out = [one.finding for one in known if one.learned]
    rest = [one.parameter for one in known if not one.learned]
    if rest:
        names = ", ".join(rest[:8]) + ", ..." * (len(rest) > 8)
        text = f"{len(rest)} of {len(known)} weight matrices cannot be told from random ones: {names}"
        out.append(Finding("structure", "note", text))
    return out


def _is_matrix(tensor: Tensor) -> bool:
    return (
        tensor.dim() > 1
        and tensor.is_floating_point()
        and not tensor.is_meta
        and min(tensor.shape[0], tensor[0].numel()) >= _FEWEST
        and bool(torch.isfinite(tensor).all())
        and bool(tensor.any())
    )


@torch.no_grad()
def structure_of(tensor: Tensor, component: str = "", parameter: str = "") -> Structure | None:
    """The spectrum of one tensor read as a matrix; None where it has fewer than 8 rows or columns, or holds zeros or
    NaN alone. Of very large ones rows or columns at equal distances are looked at."""
    if not _is_matrix(tensor):
        return None
    matrix = _part(tensor.detach().reshape(tensor.shape[0], -1))
    few, many = sorted(matrix.shape)
    powers = _powers(matrix)
    others = [_powers(shuffle(matrix, generator(k, parameter, "shuffled"))) for k in range(_shuffles(few))]
    outliers, edge = _above(powers, few, many, max(float(one.max() / one.sum()) for one in others))
    distances = [_distance(one, few, many) for one in others]
    return Structure(
        component, parameter, (int(matrix.shape[0]), int(matrix.shape[1])),
        outliers,
        float(powers[len(powers) - outliers :].sum() / powers.sum()),
        sqrt(float(powers.max()) / edge),
        float(stable_rank(powers)), float(np.mean([stable_rank(one) for one in others])),
        float(effective_rank(powers)), float(np.mean([effective_rank(one) for one in others])),
        _distance(powers, few, many), float(np.mean(distances)),
        # eigenvalues repel each other, so that the distance falls with their number, and hardly scatters
        1.5 * max(distances) + 0.5 / few,
    )  # fmt: skip


def _part(matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    most = [min(rows, _MOST), min(columns, _MOST)]
    longer = int(columns > rows)
    most[longer] = max(most[longer], min(max(rows, columns), _ENTRIES // most[1 - longer]))
    return matrix[:: -(-rows // most[0]), :: -(-columns // most[1])].cpu().double()


def _powers(matrix: Tensor) -> NDArray[np.float64]:
    """Squared singular values, ascending, in units of the mean square of an entry."""
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    gram = matrix @ matrix.T
    return np.maximum(np.linalg.eigvalsh(gram.numpy()) / float(matrix.square().mean()), 0.0)


def _shuffles(few: int) -> int:
    """How many shuffles show what chance does: of large matrices each does the same."""
    return 24 if few <= 64 else 8 if few <= 256 else 2 if few <= 1024 else 1


def _above(powers: NDArray[np.float64], few: int, many: int, largest: float) -> tuple[int, float]:
    """(how many lie above the edge, the edge): that of a random matrix with the power of those below it, found by
    taking away what stands above until nothing does. `largest`: the largest share of the power in a shuffled matrix."""
    low, high = sqrt(few), sqrt(many - 1)
    centre, scale = (low + high) ** 2, (low + high) * (1 / low + 1 / high) ** (1 / 3)
    # P(Tracy-Widom > s) falls as exp(-2/3 s^(3/2))
    top = max((centre + scale * (-1.5 * log(BEYOND_CHANCE)) ** (2 / 3)) / (few * many), 1.05 * largest)
    total, outliers = float(powers.sum()), 0
    while outliers < few // 2:
        rest = float(powers[: few - outliers].sum())
        edge = top * rest
        above = int(np.sum(powers > edge))
        if above <= outliers:
            return outliers, edge
        outliers = above
    return outliers, top * float(powers[: few - outliers].sum() or total)


def _distance(powers: NDArray[np.float64], few: int, many: int) -> float:
    """Kolmogorov distance from the Marchenko-Pastur law of that shape (entries of variance 1)."""
    ratio = few / many
    low, high = (1 - sqrt(ratio)) ** 2, (1 + sqrt(ratio)) ** 2
    # x = middle - half*cos(angle) takes the singular ends of the density away
    angle = np.linspace(0.0, np.pi, 4097)
    x = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    height = np.sin(angle) ** 2 / np.maximum(x, 1e-12)
    steps = (height[1:] + height[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    law = np.interp(powers / many, x, cumulative)
    count = np.arange(few)
    return float(np.maximum(np.abs(law - count / few), np.abs(law - (count + 1) / few)).max())
