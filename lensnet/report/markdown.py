"""The report as GitHub-flavoured markdown, for pull requests and notebooks on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lensnet.compare.budget import COLUMNS, STRAIN, SUM, Cell
from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.compare.verdict import rule
from lensnet.report.numbers import NONE, percent, short, with_error
from lensnet.report.palette import VERDICTS, symbol
from lensnet.report.words import said

_SPECIAL = str.maketrans({char: "\\" + char for char in "\\`*_{}[]<>|~#"})


def to_markdown(report: Report) -> str:
    """Coverage, rule, rows, budget and findings; everything from a file is escaped."""
    parts = [f"# {escape(report.network)}", escape(report.about), _facts(report), _coverage(report)]
    if report.kind == "comparison":
        lines = [f"- **{_label(name)}**: {escape(text)}" for name, text in rule(report.settings, report.seeds).items()]
        parts += ["## Rule", "\n".join(lines)]
    parts += ["## Rows", _rows(report)]
    if report.budget:
        parts += ["## Budget", _budget(report)]
    if report.findings:
        lines = [f"- **{finding.severity}** {escape(finding.text)}" for finding in report.findings]
        parts += ["## Findings", "\n".join(lines)]
    if report.kind == "comparison":
        parts.append(f"Exit status {report.exit_status}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text from a file as literal markdown: no markup, no HTML, no table cell of its own."""
    return said(text).translate(_SPECIAL)


def _label(name: str) -> str:
    return f"{VERDICTS[name].symbol} {VERDICTS[name].word}" if name in VERDICTS else name


def _facts(report: Report) -> str:
    batch = f"batch {report.batch}" if report.batch else ""
    facts = [report.device, report.dtype, batch, f"{report.seeds} seeds", ", ".join(report.levels)]
    return " · ".join(fact for fact in facts if fact)


def _coverage(report: Report) -> str:
    covered = report.coverage
    lines = [
        f"**Coverage**: {covered.components} components: {len(covered.predicted)} predicted, "
        f"{len(covered.measured_only)} measured only, {len(covered.failed)} failed."
    ]
    if report.kind == "comparison":
        for view, counts in covered.verdicts.items():
            told = [
                f"{VERDICTS[name].symbol} {counts[name]} {VERDICTS[name].word}" for name in VERDICTS if name in counts
            ]
            lines.append(f"**{view}**: " + ", ".join(told) + ".")
    return "  \n".join(lines)


def _rows(report: Report) -> str:
    head = ["component", "kind", "quantity", "level", "view", "predicted", "measured ± se", "error", "slack", "verdict"]
    return _table(head, (_cells(row) for row in report.rows), right=range(5, 9))


def _cells(row: Row) -> list[str]:
    what = symbol(row.quantity, row.direction) + (f" {row.port}" if row.port not in (None, "x") else "")
    failed = "; ".join(a.text for a in row.assumptions if a.fails)
    verdict = f"{VERDICTS[row.verdict].symbol} {VERDICTS[row.verdict].word}" + (f": {escape(failed)}" if failed else "")
    return [
        escape(row.component),
        escape(row.kind),
        escape(what),
        row.level,
        row.view,
        short(row.predicted),
        with_error(row.measured, row.standard_error),
        percent(row.error),
        short(row.slack, 2),
        verdict,
    ]


def _budget(report: Report) -> str:
    columns = [column for column in COLUMNS if any(column.name in row.cells for row in report.budget)]
    head = ["component", *(f"{column.title} {side}" for column in columns for side in ("predicted", "measured"))]
    lines = []
    for row in report.budget:
        name = escape(row.component) if row.chain else f"({escape(row.component)})"
        cells = [row.cells.get(column.name, Cell()) for column in columns]
        numbers = [short(value) if value is not None else NONE for c in cells for value in (c.predicted, c.measured)]
        bold = row.component in (SUM, STRAIN)
        lines.append([f"**{text}**" if bold and text != NONE else text for text in (name, *numbers)])
    about = "; ".join(f"{column.title}: {column.about}" for column in columns)
    note = " Components in parentheses stand on a branch and are not part of the sums." * any(
        not row.chain for row in report.budget
    )
    return _table(head, lines, right=range(1, len(head))) + f"\n\n{escape(about)}.{note}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int]) -> str:
    sides = set(right)
    rule_line = ["---:" if i in sides else "---" for i in range(len(head))]
    escaped = [escape(title) for title in head]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (escaped, rule_line, *rows))
