"""The report as one page: styles and drawings inline, nothing loaded from elsewhere, everything from a file escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from lensnet.compare.budget import COLUMNS, STRAIN, SUM, Cell
from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.compare.verdict import rule
from lensnet.report.numbers import percent, short, with_error
from lensnet.report.palette import INK, PREDICTED, VERDICTS, symbol
from lensnet.report.svg import beam_svg
from lensnet.report.words import said
from lensnet.report.worst import worst_rows

_STYLE = Template("""
.lensnet { --paper: #fff; --ink: $ink; --faint: #6b7785; --line: #e3e7ec;
  color: var(--ink); background: var(--paper); font: 14px/1.5 system-ui, sans-serif; max-width: 1000px; }
@media (prefers-color-scheme: dark) {
  .lensnet { --paper: #14181d; --ink: #e6e9ed; --faint: #93a0ae; --line: #2b333c; }
}
.lensnet h1 { font-size: 1.5em; margin: 0; } .lensnet h2 { font-size: 1.1em; margin: 1.6em 0 .4em; }
.lensnet .faint, .lensnet dl { color: var(--faint); } .lensnet p { margin: .3em 0; }
.lensnet table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.lensnet .scroll { overflow-x: auto; }
.lensnet th { font-weight: 600; color: var(--faint); position: sticky; top: 0; background: var(--paper); }
.lensnet th, .lensnet td { padding: 1px 10px 1px 0; white-space: nowrap; vertical-align: top; text-align: left; }
.lensnet td.n, .lensnet th.n { text-align: right; }
.lensnet tr.first td { border-top: 1px solid var(--line); } .lensnet tr.total td { font-weight: 600; }
.lensnet tr.total.first td { border-top: 2px solid var(--faint); } .lensnet tr.branch td { color: var(--faint); }
.lensnet td.why { white-space: normal; color: var(--faint); max-width: 22em; }
.lensnet .worst { border: 1.5px solid $bad; border-radius: 6px; padding: .5em 1em; margin: 1em 0; }
.lensnet dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1em; margin: .3em 0; }
.lensnet dd { margin: 0; }
.lensnet svg.beam { width: 100%; height: auto; display: block; }
.lensnet svg text { font: 11px system-ui, sans-serif; fill: var(--faint); }
.lensnet svg .name { font-weight: 600; font-size: 12px; fill: var(--ink); }
.lensnet svg .grid { stroke: var(--line); } .lensnet svg .seed { fill: var(--faint); opacity: .45; }
.lensnet .key { color: $predicted; font-weight: 600; }
""").substitute(ink=INK, bad=VERDICTS["deviates"].colour, predicted=PREDICTED)


def page(report: Report) -> str:
    """A whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_said(report.network)} - lensnet</title>"
        "<style>body { margin: 2em auto; padding: 0 1em; max-width: 1000px; } "
        "@media (prefers-color-scheme: dark) { body { background: #14181d; } }</style></head>\n"
        f"<body>{fragment(report)}</body></html>\n"
    )


def fragment(report: Report) -> str:
    """The report inside a page or a notebook cell."""
    parts = [f'<div class="lensnet"><style>{_STYLE}</style>', *_head(report)]
    drawings = [beam_svg(report, "forward"), beam_svg(report, "backward")]
    if any(drawings):
        key = '<p class="faint"><span class="key">line</span>: predicted from the input; marks: median over seeds, '
        parts += [*drawings, key + "bars: quartiles, dots: single seeds.</p>"]
    if report.kind == "comparison":
        parts += [*_worst(report), "<h2>Rule</h2>", _rule(report)]
    parts += ["<h2>Rows</h2>", _rows(report)]
    if report.budget:
        parts += ["<h2>Budget</h2>", _budget(report)]
    if report.findings:
        items = [f"<li><b>{escape(f.severity)}</b> {_said(f.text)}</li>" for f in report.findings]
        parts += ["<h2>Findings</h2><ul>", *items, "</ul>"]
    return "\n".join([*parts, "</div>"])


def _said(text: str) -> str:
    return escape(said(text))


def _head(report: Report) -> list[str]:
    facts = [
        report.device,
        report.dtype,
        f"batch {report.batch}" if report.batch else "",
        f"{report.seeds} seeds",
        ", ".join(report.levels),
    ]
    covered = report.coverage
    out = [
        f"<h1>{_said(report.network)}</h1><p>{_said(report.about)}</p>",
        f'<p class="faint">{_said(" · ".join(fact for fact in facts if fact))}</p>',
        f"<p><b>Coverage</b> {covered.components} components: {len(covered.predicted)} predicted, "
        f"{len(covered.measured_only)} measured only, {len(covered.failed)} failed.</p>",
    ]
    for view, counts in covered.verdicts.items() if report.kind == "comparison" else ():
        told = " &nbsp; ".join(
            _verdict(name, f"{counts[name]} {VERDICTS[name].word}") for name in VERDICTS if name in counts
        )
        out.append(f"<p><b>{escape(view)}</b> {told}</p>")
    return out


def _verdict(name: str, text: str) -> str:
    look = VERDICTS[name]
    return f'<span style="color:{look.colour}">{look.symbol} {escape(text)}</span>'


def _worst(report: Report) -> list[str]:
    rows = worst_rows(report)
    if not rows:
        return []
    out = ['<div class="worst"><b>Worst rows</b>']
    for row in rows:
        what = f"{symbol(row.quantity, row.direction)}, {row.view}"
        measured = with_error(row.measured, row.standard_error)
        out.append(
            f"<p>{_verdict(row.verdict, said(row.component))} ({_said(row.kind)}) {escape(what)}: "
            f"predicted {short(row.predicted)}, measured {measured}, error {percent(row.error)}</p>"
        )
    return [*out, "</div>"]


def _rule(report: Report) -> str:
    items = []
    for name, text in rule(report.settings, report.seeds).items():
        label = _verdict(name, VERDICTS[name].word) if name in VERDICTS else escape(name)
        items.append(f"<dt>{label}</dt><dd>{escape(text)}</dd>")
    return f"<dl>{''.join(items)}</dl>"


def _rows(report: Report) -> str:
    head = (
        "component",
        "kind",
        "",
        "level",
        "view",
        "predicted",
        "measured ± se",
        "error",
        "slack",
        "verdict",
        "does not hold",
    )
    last, lines = "", []
    for row in report.rows:
        lines.append(("first" if row.component != last else "", _cells(row, row.component != last)))
        last = row.component
    return _table(head, lines, range(5, 9))


def _cells(row: Row, first: bool) -> list[str]:
    what = symbol(row.quantity, row.direction) + (f" {row.port}" if row.port not in (None, "x") else "")
    return [
        _said(row.component) if first else "",
        _said(row.kind) if first else "",
        _said(what),
        escape(row.level),
        escape(row.view),
        short(row.predicted),
        with_error(row.measured, row.standard_error),
        percent(row.error),
        short(row.slack, 2),
        _verdict(row.verdict, VERDICTS[row.verdict].word),
        "; ".join(_said(a.text) for a in row.assumptions if a.fails),
    ]


def _budget(report: Report) -> str:
    columns = [column for column in COLUMNS if any(column.name in row.cells for row in report.budget)]
    head = ["component", *(f"{c.title} {side}" for c in columns for side in ("predicted", "measured"))]
    lines = []
    for row in report.budget:
        total = row.component in (SUM, STRAIN)
        style = ("total first" if row.component == SUM else "total") if total else ("" if row.chain else "branch")
        cells = [row.cells.get(column.name, Cell()) for column in columns]
        lines.append((style, [_said(row.component), *(short(v) for c in cells for v in (c.predicted, c.measured))]))
    about = "".join(f"<dt>{escape(c.title)}</dt><dd>{escape(c.about)}</dd>" for c in columns)
    return _table(head, lines, range(1, len(head))) + f"<dl>{about}</dl>"


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], right: Iterable[int]) -> str:
    """Cells are HTML already; `right`: columns of numbers."""
    sides = set(right)

    def kind(i: int) -> str:
        return ' class="n"' if i in sides else (' class="why"' if head[i] == "does not hold" else "")

    top = "".join(f"<th{kind(i)}>{escape(title)}</th>" for i, title in enumerate(head))
    body = "\n".join(
        f'<tr class="{style}">' + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(cells)) + "</tr>"
        for style, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
