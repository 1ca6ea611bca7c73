"""The report as it appears in a terminal: coverage, the beam, the rule, the table, the budget, findings, the worst."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.compare.verdict import rule
from lensnet.report.budget_table import budget_lines, legend
from lensnet.report.fold import FOLD_ABOVE
from lensnet.report.level_panels import panels_of
from lensnet.report.palette import OPTICS, SEVERITIES, VERDICTS, symbol
from lensnet.report.strip import strip
from lensnet.report.table import rows_lines
from lensnet.report.words import said
from lensnet.report.worst import outside, worst_box

NARROW = 60


def render(report: Report, width: int, all_rows: bool = False) -> Iterator[RenderableType]:
    """Everything, top to bottom; no line is wider than `width`. `all_rows`: do not fold repeated blocks."""
    width = max(width, NARROW)
    yield from _head(report)
    for direction in ("forward", "backward"):
        lines = strip(report, direction, width)
        if lines:
            yield Text("")
            yield from lines
    for panel in panels_of(report):
        drawn = panel.lines(report, width)
        if drawn:
            yield Text("")
            yield from drawn
    if report.rows:
        yield Text("")
        if report.kind == "comparison":
            yield from _rule(report)
        components = len({row.component for row in report.rows})
        folded = components > FOLD_ABOVE and not all_rows
        for level in shown_levels(report):
            if report.levels != ("moments",):
                yield Text.assemble((level, "bold"), (f"  {OPTICS.get(level, '')}", "dim"))
            yield from rows_lines(report, width, folded, level)
            yield _legend(report, level)
            yield Text("")
    if report.budget and report.coverage.components > 1:
        sides = {"prediction": "predicted", "measurement": "measured"}.get(report.kind, "predicted | measured")
        yield Text.assemble(("budget", "bold"), (f"  what each component contributes, {sides}", "dim"))
        yield from budget_lines(report, width, folded=report.coverage.components > FOLD_ABOVE and not all_rows)
        yield Text(legend(report, width), style="dim")
    yield from _findings(report)
    yield from _last(report)


OVER_DRAWS = {
    "second_moment": "mean over weight draws, 1/width corrected",
    "median": "median over weight draws",
    "scatter": "standard deviation of ln q over them",
    "band": "share of them in the predicted 90 % band",
    "rounding": "relative rms error of the number format",
}


def as_text(report: Report, width: int = 100, all_rows: bool = False) -> str:
    """The same without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(Group(*render(report, width, all_rows)))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _head(report: Report) -> Iterator[RenderableType]:
    yield Text(said(report.network), style="bold")
    if report.about:
        yield Padding(Text(said(report.about), style="italic dim"), (0, 0, 0, 2), expand=False)
    facts = [report.device, report.dtype]
    facts += [f"batch {report.batch}" if report.batch else "", f"{report.seeds} seeds" if report.seeds else ""]
    levels = ", ".join(f"{level} ({OPTICS[level]})" if level in OPTICS else level for level in report.levels)
    yield Text("  " + " · ".join(fact for fact in [*facts, levels] if fact), style="dim")
    covered = report.coverage
    line = Text.assemble(
        ("coverage ", "bold"), f"{covered.components} components: {len(covered.predicted)} predicted, "
    )
    line.append(f"{len(covered.measured_only)} measured only, ", "yellow" if covered.measured_only else "")
    line.append(f"{len(covered.failed)} failed", "bold red" if covered.failed else "")
    yield line
    if report.kind == "comparison":
        for view, counts in covered.verdicts.items():
            line = Text.assemble((f"{view:<9}", "bold"))
            for verdict, look in VERDICTS.items():
                if counts.get(verdict):
                    line.append(f"{look.symbol} {counts[verdict]} {_plural(look.word, counts[verdict])}  ", look.style)
            yield line


def _plural(word: str, count: int) -> str:
    return {"agrees": "agree", "deviates": "deviate"}.get(word, word) if count != 1 else word


def _rule(report: Report) -> Iterator[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for i, (name, text) in enumerate(rule(report.settings, report.seeds).items()):
        look = VERDICTS.get(name)
        label = Text(f"{look.symbol} {look.word}", style=look.style) if look else Text(f"  {name}", style="dim")
        table.add_row(Text("" if i else "rule", style="bold"), label, Text(text, style="dim"))
    yield table
    yield Text("")


def shown_levels(report: Report) -> list[str]:
    """The levels that have rows, in the order of the ladder."""
    present = {row.level for row in report.rows}
    return [level for level in OPTICS if level in present]


def _legend(report: Report, level: str) -> Text:
    """The symbols of the table, the views, in one paragraph."""
    names = {row.quantity: row for row in report.rows if row.level == level}
    if level == "moments":
        text = "m, q: mean and second moment of the signal; p: second moment of the gradient of <r, y>."
    elif level == "fluctuation":
        told = [(symbol(name, "forward"), text) for name, text in OVER_DRAWS.items() if name in names]
        text = "; ".join(f"{sign}: {text}" for sign, text in told) + ". p and dashes ('): of the gradient of <r, y>."
    else:
        said = {symbol(name, "forward"): name.replace("_", " ") for name in names}
        text = "; ".join(f"{short}: {long}" for short, long in said.items() if short != long) + "."
        if any(row.direction == "backward" for row in report.rows if row.level == level):
            text += " p and dashes ('): of the gradient, the same question r put to every example."
    if report.kind == "comparison":
        views = {row.view for row in report.rows}
        if "local" in views:
            text += " local: from the component's own measured input."
        if "through" in views:
            text += " through: from the network's input."
    return Text(text, style="dim")


def _findings(report: Report) -> Iterator[RenderableType]:
    if not report.findings:
        return
    yield Text("")
    yield Text("findings", style="bold")
    for finding in report.findings:
        mark = {"failure": "✗", "doubt": "?", "note": "·"}[finding.severity]
        yield Text.assemble((f"{mark} ", SEVERITIES[finding.severity]), said(finding.text))


def _last(report: Report) -> Iterator[RenderableType]:
    """What a reader should look at: what lies outside its regime, and the worst rows in a box."""
    reasons = outside(report)
    if reasons:
        yield Text("")
        yield Text.assemble(
            ("○ out of regime", VERDICTS["out-of-regime"].style), ("  what does not hold, where", "dim")
        )
        yield from reasons
    if report.kind != "comparison":
        return
    box = worst_box(report)
    if box is not None:
        yield Text("")
        yield Panel(box, title="worst rows", title_align="left", border_style=VERDICTS[_worst(report).verdict].style)
    yield Text("")
    yield _conclusion(report)


def _worst(report: Report) -> Row:
    assert report.worst is not None
    return report.worst


def _conclusion(report: Report) -> Text:
    status = report.exit_status
    meaning = {0: "all agree", 1: "something deviates or fails", 4: "undecided or out of regime"}[status]
    line = Text.assemble(
        (f"exit status {status}: {meaning}", {0: "bold green", 1: "bold red"}.get(status, "bold yellow"))
    )
    wanted = report.seeds_wanted
    if wanted:
        line.append(f"; about {min(wanted, 9999)} seeds would decide what is undecided (--seeds)", "dim")
    return line
