"""Two reports side by side in a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lensnet.compare.beside import Beside, Change
from lensnet.report.numbers import percent, short
from lensnet.report.words import said

_MOST = 40  # lines


def as_text(beside: Beside, width: int = 100) -> str:
    """The same without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(beside)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def render(beside: Beside) -> Iterator[Any]:
    """The changes, what only one has, and what was learned."""
    changes, names = beside.changes, beside.names
    networks = list(dict.fromkeys((beside.first.network, beside.second.network)))
    yield Text(f"{said(' | '.join(networks))}: {said(names[0])} beside {said(names[1])}", style="bold")
    if changes:
        yield _changes(changes[:_MOST], names)
        if len(changes) > _MOST:
            yield Text(f"{len(changes) - _MOST} more with smaller changes", style="dim")
    else:
        yield Text("no component has a number in both")
    if not all(one.known for one in changes):
        yield Text("not measured in both: predicted second moments", style="dim")
    for name, paths in zip(names, beside.only, strict=True):
        if paths:
            yield Text(said(f"only in {name}: {', '.join(paths[:8])}{', ...' * (len(paths) > 8)}"))
    if beside.structure:
        yield Text("")
        yield _structure(beside)


def _changes(changes: list[Change], names: tuple[str, str]) -> Table:
    table = _table("component", "", *names, "change", "error bars")
    for one in changes:
        symbol = "q" if one.direction == "forward" else "p"
        sigmas = "" if one.sigmas is None else f"{one.sigmas:+.1f}" if abs(one.sigmas) < 100 else "> 100"
        change = percent(one.second / one.first - 1 if one.first else None)
        table.add_row(said(one.component), symbol, short(one.first), short(one.second), change, sigmas)
    return table


def _structure(beside: Beside) -> Table:
    table = _table("structure", "", *beside.names)
    for name, *sides in beside.structure:
        table.add_row(said(name), "above the edge", *(_count(side) for side in sides))
        table.add_row("", "stable rank", *("random" if side is None else short(side["stable_rank"]) for side in sides))
    return table


def _count(side: Mapping[str, float] | None) -> str:
    return "random" if side is None else f"{side['outliers']:.0f} ({side['share']:.0%})"


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    table.add_column(names[0], overflow="fold")
    table.add_column(names[1])
    for name in names[2:]:
        table.add_column(said(name), justify="right", no_wrap=True)
    return table
