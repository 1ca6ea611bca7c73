"""How much of the network the report speaks about: stated before anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lensnet.compare.row import Row


@dataclass(frozen=True)
class Coverage:
    """Components by what is known about them; every component is in exactly one of the lists.

    `predicted`: has at least one predicted number. `measured_only`: none. `failed`: NaN or Inf was measured in it, or
    it never gave a number at all.
    """

    predicted: tuple[str, ...] = ()
    measured_only: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    verdicts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def components(self) -> int:
        return len(self.predicted) + len(self.measured_only) + len(self.failed)

    def to_dict(self) -> dict[str, Any]:
        return {
            "components": self.components,
            "predicted": len(self.predicted),
            "measured_only": list(self.measured_only),
            "failed": list(self.failed),
            "verdicts": {view: dict(counts) for view, counts in self.verdicts.items()},
        }


def coverage(components: Sequence[str], rows: Sequence[Row], nonfinite: Iterable[str] = ()) -> Coverage:
    """Sort the components of a network by their rows; `nonfinite` names those where NaN or Inf was seen."""
    broken = set(nonfinite)
    modelled = {row.component for row in rows if row.predicted is not None}
    seen = {row.component for row in rows}
    failed = [path for path in components if path in broken or path not in seen]
    rest = [path for path in components if path in seen and path not in broken]
    return Coverage(
        tuple(path for path in rest if path in modelled),
        tuple(path for path in rest if path not in modelled),
        tuple(failed),
        count_verdicts(rows),
    )


def count_verdicts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """View -> verdict -> number of rows."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        view = counts.setdefault(row.view, {})
        view[row.verdict] = view.get(row.verdict, 0) + 1
    return counts
