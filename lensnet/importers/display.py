"""How a summary looks: a tree of modules with sizes, parameters, predicted and measured numbers, and what to do
next."""

from __future__ import annotations

import html as markup
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.importers.draft import Item
from lensnet.importers.structure_table import learned_lines
from lensnet.importers.summary import Summary
from lensnet.report.numbers import short
from lensnet.report.palette import SEVERE_FIRST, SEVERITIES, VERDICTS
from lensnet.report.words import said

NOT_MODELLED = ("opaque", "opaque_merge")
_MOST = 400  # lines of the tree


@dataclass
class Branch:
    """A module, or a component where it has nothing inside. `last`: the item whose output leaves it."""

    label: str
    items: list[Item] = field(default_factory=list)
    inner: dict[str, Branch] = field(default_factory=dict)

    @property
    def last(self) -> Item:
        return self.items[-1]


def tree(items: Sequence[Item]) -> Branch:
    """The items by the segments of their names."""
    root = Branch("")
    for item in items:
        here = root
        here.items.append(item)
        for segment in item.path.split("."):
            here = here.inner.setdefault(segment, Branch(segment))
            here.items.append(item)
    return root


def text(summary: Summary, width: int | None = None) -> str:
    """The summary as plain text, as wide as the terminal (100 columns where there is none)."""
    width = width or get_terminal_size((100, 24)).columns
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(renderable(summary))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def html(summary: Summary) -> str:
    """For notebooks: the tree, and the report below it."""
    below = summary.report._repr_html_() if summary.report is not None else ""
    return f"<pre style='line-height:1.3'>{markup.escape(text(summary, 120))}</pre>{below}"


def renderable(summary: Summary) -> Group:
    return Group(*_parts(summary))


def _parts(summary: Summary) -> Iterator[Any]:
    yield Text(said(summary.name), style="bold")
    if summary.imported is None:
        yield Text(f"could not be imported: {said(summary.reason)}", style="bold red")
        yield _modules(summary)
        yield Text(f"{summary.total:,} parameters; nothing was predicted or measured", style="dim")
        return
    report, items = summary.report, summary.imported.draft.items
    yield Text(_facts(summary), style="dim")
    yield _coverage(summary, items)
    if summary.reason:
        yield Text(said(summary.reason), style="bold red")
    yield Text("")
    yield _tree_table(summary, items, report)
    if report is not None and report.kind == "comparison":
        marks = " ".join(f"{look.symbol} {look.word}" for look in VERDICTS.values())
        yield Text(f"numbers: from the input on; mark: each component on what entered it ({marks})", style="dim")
    yield from _said_below(summary, items, report)


def _facts(summary: Summary) -> str:
    assert summary.imported is not None
    report = summary.report
    how = "the given weights" if summary.imported.built else "fresh weights drawn from the laws of the given ones"
    facts = [f"{summary.total:,} parameters", f"{summary.mode} mode", how]
    if report is not None and report.seeds:
        facts += [
            f"batch {report.batch}",
            f"{report.seeds} draws of {'the input' if summary.imported.built else 'weights'}",
        ]
    elif report is not None:
        facts.append("predicted only")
    return "  " + " · ".join(facts)


def _coverage(summary: Summary, items: Sequence[Item]) -> Text:
    opaque = [item for item in items if item.component in NOT_MODELLED]
    line = Text.assemble(("coverage ", "bold"), f"{len(items) - len(opaque)} of {len(items)} components modelled")
    if summary.report is not None and summary.report.kind == "comparison":
        counts = summary.report.coverage.verdicts.get("local", {})
        told = ", ".join(f"{counts[name]} {VERDICTS[name].word}" for name in VERDICTS if counts.get(name))
        line.append(f"; rows: {told}")
    return line


def _tree_table(summary: Summary, items: Sequence[Item], report: Report | None) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    table.add_column("component", overflow="fold", ratio=3)
    table.add_column("kind", overflow="ellipsis", no_wrap=True, ratio=2)
    table.add_column("output", overflow="ellipsis", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    measured = report is not None and report.kind == "comparison"
    for name in ("q", "p"):
        table.add_column(f"{name} pred|meas" if measured else f"{name} pred", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    rows: dict[str, list[Row]] = {}
    paths = {item.path for item in items}
    for row in report.rows if report is not None else ():
        if row.level == "moments":
            rows.setdefault(_item_of(row.component, paths), []).append(row)
    lines = list(_lines(tree(items), 0, summary.depth))
    for level, branch in lines[:_MOST]:
        table.add_row(*_cells(summary, level, branch, rows))
    if len(lines) > _MOST:
        table.add_row(f"... {len(lines) - _MOST} more; a smaller depth shows fewer", *[""] * 6)
    return table


def _lines(branch: Branch, level: int, depth: int) -> Iterator[tuple[int, Branch]]:
    for inner in branch.inner.values():
        while len(inner.inner) == 1 and len(inner.items) == len(next(iter(inner.inner.values())).items):
            (only,) = inner.inner.values()
            inner = Branch(f"{inner.label}.{only.label}", only.items, only.inner)
        yield level, inner
        if level + 1 < depth:
            yield from _lines(inner, level + 1, depth)


def _cells(summary: Summary, level: int, branch: Branch, rows: dict[str, list[Row]]) -> list[Any]:
    last, several = branch.last, len(branch.items) > 1
    count = sum(summary.parameters.get(item.path, 0) for item in branch.items)
    kind = _class_of(summary, branch) if several else last.component
    kind = kind or f"{len(branch.items)} components"
    mine = [row for item in branch.items for row in rows.get(item.path, ())]
    q = next((r for r in reversed(rows.get(last.path, ())) if _is(r, "forward")), None)
    p = next((r for r in rows.get(branch.items[0].path, ()) if _is(r, "backward")), None)
    shape = "x".join(map(str, (*last.beam.positions, last.beam.channels)))
    shown = [_pair(row) for row in (q, p)]
    return ["  " * level + branch.label, kind, shape, f"{count:,}" if count else "", *shown, _verdict(mine)]


def _item_of(component: str, paths: Collection[str]) -> str:
    """The item that a component is, or is a part of (a component that is made of others)."""
    name = component
    while name not in paths and "." in name:
        name = name.rpartition(".")[0]
    return name if name in paths else component


def _is(row: Row, direction: str) -> bool:
    return row.view == "through" and row.quantity == "second_moment" and row.direction == direction


def _pair(row: Row | None) -> str:
    if row is None:
        return ""
    if row.measured is None:
        return short(row.predicted)
    return f"{short(row.predicted)} | {short(row.measured)}"


def _verdict(rows: Sequence[Row]) -> Text:
    found = {row.verdict for row in rows if row.view == "local"} or {row.verdict for row in rows}
    name = next((verdict for verdict in SEVERE_FIRST if verdict in found), None)
    if name is None or all(row.measured is None for row in rows):
        return Text("")
    return Text(VERDICTS[name].symbol, style=VERDICTS[name].style)


def _class_of(summary: Summary, branch: Branch) -> str:
    """The class of the module that a branch is, by its path."""
    prefix = branch.items[0].path.split(".")
    depth = len(prefix)
    while depth and any(item.path.split(".")[:depth] != prefix[:depth] for item in branch.items):
        depth -= 1
    path = ".".join(prefix[:depth]).removeprefix("model.")
    names = {".".join(part for part in name.split(".")): kind for name, kind, _ in summary.modules}
    return names.get(".".join(prefix[:depth])) or names.get(path) or ""


def _modules(summary: Summary) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    for name in ("module", "class"):
        table.add_column(name, overflow="fold")
    table.add_column("own params", justify="right")
    shown = [one for one in summary.modules if one[0].count(".") < summary.depth]
    for path, kind, count in shown[:_MOST]:
        table.add_row(path or "(model)", kind, f"{count:,}" if count else "")
    return table


def _said_below(summary: Summary, items: Sequence[Item], report: Report | None) -> Iterator[Any]:
    opaque = [item for item in items if item.component in NOT_MODELLED]
    if opaque:
        yield Text("")
        yield Text("not modelled: measured, and nothing is claimed", style="bold")
        reasons: dict[str, list[Item]] = {}
        for item in opaque:
            reasons.setdefault(item.reason, []).append(item)
        for reason, those in list(reasons.items())[:8]:
            more = f" and {len(those) - 1} more" * (len(those) > 1)
            yield Text(f"  {those[0].path}{more}: {said(reason)}")
        named = next((item for item in opaque if item.module.count(".")), None)
        if named is not None:
            kind = named.module.rpartition(".")[2]
            yield Text(
                f"  a component of your own: lensnet new component {kind.lower()} --module {named.module}", style="dim"
            )
    yield from learned_lines(summary.structure)
    if summary.notes or (report is not None and report.findings):
        yield Text("")
    for note in summary.notes:
        yield Text.assemble(("note ", SEVERITIES["note"]), said(note))
    told = [one for one in report.findings if one.kind != "structure"] if report is not None else []
    for finding in told[:12]:
        yield Text.assemble((f"{finding.severity} ", SEVERITIES.get(finding.severity, "")), said(finding.text))
    worst = report.worst if report is not None else None
    if worst is not None and worst.verdict == "deviates":
        yield Text(
            f"worst: {worst.component} ({worst.kind}), {worst.quantity} {worst.direction}, {worst.view}: predicted "
            f"{short(worst.predicted)}, measured {short(worst.measured)}", style="bold red",
        )  # fmt: skip
