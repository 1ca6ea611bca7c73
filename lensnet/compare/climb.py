"""Down the ladder: for every number the cheapest level that holds, and what a lower level explains of a disagreement.

A report on several levels has one row for a number at each level that predicts it. Of those one is kept:

- the first, from the cheapest level on, that agrees and whose declared error is within the tolerance;
- else the first that agrees;
- else the one closest to what was measured, of those within their regime, if it explains a tenth of the disagreement;
- else the first.

When that is not the cheapest, a finding says how far off the cheap level is, and which share of it the other explains:
1 - |error there| / |error here|, with errors as logarithms of measured over predicted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import expm1, isfinite, log

from lensnet.compare.coverage import count_verdicts
from lensnet.compare.findings import Finding
from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.levels.ladder import Level

MOST_TOLD = 4
"""Components that get a finding of their own; the rest is counted."""

LEAST_SHARE = 0.1
"""Part of a disagreement that a lower level must explain to be taken where none holds."""

NOTHING = 1e-3
"""Relative error that needs no explanation."""


@dataclass(frozen=True)
class Explanation:
    """A row of a cheap level that does not hold, and the row below that was taken instead."""

    above: Row
    below: Row

    @property
    def off(self) -> float | None:
        return _log_error(self.above)

    @property
    def share(self) -> float | None:
        """Part of the disagreement that the lower level explains: 1 for all of it; None where nothing was off."""
        off, left = _log_error(self.above), _log_error(self.below)
        if off is None or left is None or abs(off) < NOTHING:
            return None
        return 1 - abs(left) / abs(off)


def needs_descent(report: Report) -> bool:
    """Whether a lower level could say more: some row deviates, is out of its regime, or declares too large an error.

    Along a network the declared errors add up, at every level alike: what counts in the through view is the share that
    a single component adds.
    """
    if any(row.verdict in ("deviates", "out-of-regime") for row in report.rows):
        return True
    reached: dict[tuple[str, str], float] = {}
    along = [row for row in report.rows if row.direction == "forward"]
    along += [row for row in reversed(report.rows) if row.direction == "backward"]
    for row in along:
        if row.view == "local":
            before = 0.0
        else:
            before = reached.get((row.quantity, row.direction), 0.0)
            reached[row.quantity, row.direction] = max(before, row.declared)
        if row.declared - before > report.settings.tolerance:
            return True
    return False


def climb(report: Report, own: Collection[str] = ()) -> Report:
    """Keep one level for every number of the cheapest level, and say where and why it is a lower one.

    `own`: quantities that components bring themselves; they are kept too, whatever their level.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    order = {str(level): place for place, level in enumerate(Level)}
    for row in sorted(report.rows, key=lambda row: order.get(row.level, len(order))):
        groups.setdefault((row.component, row.quantity, row.direction, row.port, row.view), []).append(row)
    cheapest = min((order[row.level] for row in report.rows), default=0)
    kept: dict[tuple[object, ...], Row] = {}
    explanations = []
    for key, rows in groups.items():
        if order[rows[0].level] != cheapest and rows[0].quantity not in own:
            continue  # a quantity that only the lower levels define: nobody asked for it
        chosen = _chosen(rows, report.settings.tolerance)
        kept[key] = chosen
        if chosen is not rows[0]:
            explanations.append(Explanation(rows[0], chosen))
    keys = [(row.component, row.quantity, row.direction, row.port, row.view) for row in report.rows]
    rows_kept = tuple(kept[key] for key in dict.fromkeys(keys) if key in kept)
    levels = tuple(str(level) for level in Level if any(row.level == level for row in rows_kept))
    return replace(
        report,
        rows=rows_kept,
        levels=levels or report.levels,
        coverage=replace(report.coverage, verdicts=count_verdicts(rows_kept)),
        findings=(*report.findings, *told(explanations)),
    )


def _chosen(rows: Sequence[Row], tolerance: float) -> Row:
    def holds(row: Row) -> bool:
        return row.verdict == "agrees" or (row.measured is None and row.verdict == "undecided")

    good = [row for row in rows if holds(row)]
    if good:
        return next((row for row in good if row.declared <= tolerance), good[0])
    inside = [row for row in rows if row.verdict in ("deviates", "undecided") and _log_error(row) is not None]
    closest = min(inside, key=lambda row: abs(_log_error(row) or 0.0), default=rows[0])
    share = Explanation(rows[0], closest).share
    return closest if share is None or share > LEAST_SHARE else rows[0]


def told(explanations: Iterable[Explanation]) -> list[Finding]:
    """A finding for the components that were furthest off, and one that counts the rest."""
    ranked = sorted(explanations, key=lambda e: abs(e.off or 0.0), reverse=True)
    by_component: dict[str, Explanation] = {}
    for explanation in ranked:
        by_component.setdefault(explanation.above.component, explanation)
    shown = list(by_component.values())[:MOST_TOLD]
    out = [Finding("ladder", "note", _sentence(e), e.above.component) for e in shown]
    rest = len(by_component) - len(shown)
    if rest > 0:
        levels = sorted({e.below.level for e in by_component.values()}, key=[str(level) for level in Level].index)
        out.append(Finding("ladder", "note", f"{rest} more components are told by {' and '.join(levels)}"))
    return out


def _sentence(e: Explanation) -> str:
    what = f"{e.above.quantity.replace('_', ' ')}, {e.above.direction}, {e.above.view}"
    reason = next((a.text for a in e.above.assumptions if a.fails), "")
    off, share = e.off, e.share
    if e.above.verdict == "agrees":
        declared = f"{e.above.level} declares an error of {e.above.declared:.1%} at {e.above.component} ({what})"
        return f"{declared}, more than the tolerance; {e.below.level} declares {e.below.declared:.1%}"
    if off is None or share is None:
        head = f"{e.above.level} does not hold at {e.above.component} ({what}); {e.below.level} does"
    else:
        size = f"{abs(expm1(off)):.2g}".rstrip(".") if abs(off) > 2 else f"{abs(expm1(off)):.1%}"
        part = f"{e.below.level} explains {share:.0%} of it" if share > 0 else f"{e.below.level} explains none of it"
        head = f"{e.above.level} is {size} off at {e.above.component} ({what}); {part}"
    return head + (f": it is not true that {reason}" if reason else "")


def _log_error(row: Row) -> float | None:
    """ln(measured/predicted); None where either is not a positive number."""
    p, m = row.predicted, row.measured
    if p is None or m is None or not (isfinite(p) and isfinite(m)) or p <= 0 or m <= 0:
        return None
    return log(m / p)


__all__ = ["Explanation", "climb", "needs_descent", "told"]
