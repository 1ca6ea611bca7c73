"""What a drawing of the beam needs: per component the predicted and the measured second moment and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, isfinite, log

import numpy as np

from lensnet.compare.report import Report
from lensnet.compare.row import Direction, Row
from lensnet.report.palette import severest, symbol


@dataclass(frozen=True)
class Point:
    """One component of the beam, or several neighbours told as one (`label` and `number` are the first's).

    `chain`: on the path along first ports, where the gains add up; branches act where they meet it.
    `predicted`, `measured`: (low, middle, high), equal for a single component; the measured middle is the median over
    seeds and its ends the quartiles. None where there is nothing to draw. `band`: where 90 % of the seeds should lie.
    """

    label: str
    verdict: str
    predicted: tuple[float, float, float] | None
    measured: tuple[float, float, float] | None
    per_seed: tuple[float, ...] = ()
    number: int = 0
    chain: bool = True
    band: tuple[float, float] | None = None


def drawn_quantity(report: Report) -> str:
    """What is drawn: the second moment, or its typical value where that is predicted with a band; of spectra the
    effective rank, which hardly ever stands still; for the steps of an algorithm the first of its quantities, as the
    loss."""
    names = [row.quantity for row in report.rows]
    first = next((name for name in ("median", "second_moment", "effective_rank") if name in names), None)
    return first or (names[0] if names else "second_moment")


def subject(report: Report, direction: Direction) -> str:
    """What a drawing shows, in a few words."""
    name = drawn_quantity(report)
    if name == "median":
        return "typical signal q, forward" if direction == "forward" else "typical gradient p, backward"
    if name != "second_moment":
        return " ".join(dict.fromkeys([name.replace("_", " "), symbol(name, direction)]))
    return "signal q, forward" if direction == "forward" else "gradient p, backward"


def beam(report: Report, direction: Direction, branches: bool = False, quantity: str | None = None) -> list[Point]:
    """The propagated second moment at every component, in network order; the first port of several, backward.

    For the steps of an algorithm the loss instead, or another `quantity`.

    Where several levels predict it, the first of them is drawn.

    Without `branches` only along the chain: a drawing that jumps into every branch and back shows nothing.
    """
    views = {row.view for row in report.rows}
    numbers = {path: i + 1 for i, path in enumerate(dict.fromkeys(row.component for row in report.rows))}
    side = {row.component for row in report.budget if not row.chain}
    rows: dict[str, Row] = {}
    verdicts: dict[str, list[str]] = {}
    name = quantity or drawn_quantity(report)
    sizes = [row for row in report.rows if row.quantity == name and row.direction == direction]
    for row in sizes:
        if row.level != sizes[0].level:
            continue
        verdicts.setdefault(row.component, []).append(row.verdict)
        if row.view == "through" or "through" not in views:
            rows.setdefault(row.component, row)
    return [
        _point(row, severest(verdicts[path]), numbers[path], path not in side)
        for path, row in rows.items()
        if branches or path not in side
    ]


def _point(row: Row, verdict: str, number: int, chain: bool) -> Point:
    predicted = (row.predicted,) * 3 if row.predicted is not None and 0 < row.predicted < float("inf") else None
    seeds = tuple(value for value in row.per_seed if isfinite(value) and value > 0)
    measured = None
    if seeds:
        low, middle, high = np.quantile(seeds, (0.25, 0.5, 0.75))
        measured = (float(low), float(middle), float(high))
    band = row.band if row.band is not None and 0 < row.band[0] <= row.band[1] < float("inf") else None
    return Point(row.component, verdict, predicted, measured, seeds, number, chain, band)


def gather(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points: neighbours are told as one, with the range that they cover."""
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // most)
    return [_together(points[start : start + size]) for start in range(0, len(points), size)]


def _together(points: Sequence[Point]) -> Point:
    return Point(
        points[0].label,
        severest([point.verdict for point in points]),
        _range([point.predicted for point in points]),
        _range([point.measured for point in points]),
        number=points[0].number,
        band=_widest([point.band for point in points]),
    )


def _widest(bands: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    known = [band for band in bands if band is not None]
    return (min(band[0] for band in known), max(band[1] for band in known)) if known else None


def _range(entries: Sequence[tuple[float, float, float] | None]) -> tuple[float, float, float] | None:
    known = [entry for entry in entries if entry is not None]
    if not known:
        return None
    middle = exp(fsum(log(entry[1]) for entry in known) / len(known))
    return min(entry[0] for entry in known), middle, max(entry[2] for entry in known)


def bounds(points: Sequence[Point], least: float = 10.0) -> tuple[float, float] | None:
    """Range of the axis: everything drawn, and at least a factor `least`, so that flat looks flat."""
    entries = [entry for point in points for entry in (point.predicted, point.measured, point.band) if entry]
    ends = [end for entry in entries for end in entry]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    if high / low < least:
        middle = (low * high) ** 0.5
        low, high = middle / least**0.5, middle * least**0.5
    return low, high
