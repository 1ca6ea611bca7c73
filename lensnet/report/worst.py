"""The rows to look at first: the worst deviations with their numbers, and the reasons for being out of regime."""

from __future__ import annotations

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from lensnet.compare.findings import severity
from lensnet.compare.report import Report
from lensnet.compare.row import Assumption, Row
from lensnet.report.fold import fold
from lensnet.report.numbers import percent, short, with_error
from lensnet.report.palette import VERDICTS, symbol
from lensnet.report.words import said

SHOWN = 3


def worst_rows(report: Report, most: int = SHOWN) -> list[Row]:
    """Deviating rows, worst first; undecided ones when nothing deviates. One row per component."""
    for verdict in ("deviates", "undecided"):
        rows = sorted((row for row in report.rows if row.verdict == verdict), key=severity, reverse=True)
        if rows:
            first: dict[str, Row] = {}
            for row in rows:
                first.setdefault(row.component, row)
            return list(first.values())[:most]
    return []


def worst_box(report: Report) -> Group | None:
    """The worst last, so that it stands at the bottom of the terminal."""
    rows = worst_rows(report)
    if not rows:
        return None
    lines: list[Text] = []
    for row in reversed(rows):
        lines += _entry(row)
    return Group(*lines)


def _entry(row: Row) -> list[Text]:
    look = VERDICTS[row.verdict]
    where = f"{row.component} ({row.kind})"
    what = f"  {symbol(row.quantity, row.direction)}, {row.view}" + (f", {row.level}" if row.level != "moments" else "")
    head = Text.assemble((f"{look.symbol} {where}", look.style), what)
    numbers = f"  predicted {short(row.predicted)}, measured {with_error(row.measured, row.standard_error)}"
    if row.error is not None:
        numbers += f", error {percent(row.error)}"
    if row.slack is not None and row.tolerance is not None:
        unit = " nats" if "nats" in row.functional else ""
        numbers += f"; off by {short(row.tolerance - row.slack, 2)}{unit}, allowed {short(row.tolerance, 2)}"
    if row.seeds_wanted is not None:
        numbers += f"; about {row.seeds_wanted} seeds would decide"
    lines = [head, Text(numbers)]
    if row.functional != "mean":
        lines.append(Text(f"  compared: {row.functional}", style="dim"))
    lines += [_assumption(a) for a in row.assumptions if a.margin is not None]
    return lines


def _assumption(assumption: Assumption) -> Text:
    state = "fails" if assumption.fails else "holds"
    text = f"  {state}: {said(assumption.text)} (margin {short(assumption.margin, 2)})"
    if assumption.below and assumption.fails:
        text += f"; the {assumption.below} level holds there"
    return Text(text, style="" if assumption.fails else "dim")


def outside(report: Report) -> list[Padding]:
    """One entry per failed assumption: what fails, by what margin, which level holds, at which components."""
    reasons: dict[str, tuple[Assumption, dict[str, None]]] = {}
    for row in report.rows:
        if row.verdict != "out-of-regime":
            continue
        for assumption in row.assumptions:
            if assumption.fails:
                worst, where = reasons.setdefault(assumption.text, (assumption, {}))
                where[row.component] = None
                if (assumption.margin or 0.0) < (worst.margin or 0.0):
                    reasons[assumption.text] = (assumption, where)
    return [_reason(assumption, list(where)) for assumption, where in reasons.values()]


def _reason(assumption: Assumption, where: list[str]) -> Padding:
    labels = [entry.label for entry in fold(where)]
    shown = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
    margin = "" if assumption.margin == -1 else f" (margin {short(assumption.margin, 2)})"
    below = f"; the {assumption.below} level holds there" if assumption.below else ""
    return Padding(
        Text.assemble(f"{said(assumption.text)}{margin}{below}: ", (shown, "dim")), (0, 0, 0, 2), expand=False
    )
