"""A derivation on a terminal: numbered steps, formulas indented, nothing wider than the screen."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from lensnet.derivation.notation import broken
from lensnet.derivation.result import Derivation, Line, Part, Table
from lensnet.report.words import said

_WIDTH = 80
_PROSE, _FORMULA = 3, 6
_LONGEST_LEFT = 20


def page(derivation: Derivation, width: int) -> Iterator[RenderableType]:
    """What rich prints, line by line."""
    yield Text.assemble((said(derivation.name), "bold"), f"  {said(derivation.title)}")
    for number, step in enumerate(derivation.steps, 1):
        yield Text(f"\n{number}  {said(step.title)}", style="bold cyan")
        for part in step.parts:
            yield _shown(part, width)


def plain(derivation: Derivation, width: int = _WIDTH) -> str:
    """The page as text without colours."""
    out = Console(file=StringIO(), width=width, markup=False, emoji=False, highlight=False, color_system=None)
    out.print(derivation)
    assert isinstance(out.file, StringIO)
    return "\n".join(line.rstrip() for line in out.file.getvalue().rstrip().split("\n"))


def _shown(part: Part, width: int) -> RenderableType:
    if isinstance(part, Line):
        return _formula(part, width)
    if isinstance(part, Table):
        return _table(part)
    return Padding(Text(said(part)), (0, 0, 0, _PROSE), expand=False)


def _formula(line: Line, width: int) -> RenderableType:
    left = f"{said(line.left)} = " if line.left else ""
    if len(left) > _LONGEST_LEFT:
        first, *more = broken(left + said(line.right), width - _FORMULA)
        indent = _FORMULA + 2
    else:
        indent = _FORMULA + len(left)
        first, *more = broken(said(line.right), width - indent)
        first = left + first
    formula = Text("\n".join([" " * _FORMULA + first, *(" " * indent + part for part in more)]), style="green")
    if not line.about:
        return formula
    return Group(formula, Padding(Text(said(line.about), style="dim italic"), (0, 0, 0, _FORMULA + 2), expand=False))


def _table(table: Table) -> Padding:
    shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, show_header=bool(table.header))
    columns = max([len(table.header), *(len(row) for row in table.rows)])
    for index in range(columns):
        title = table.header[index] if index < len(table.header) else ""
        shown.add_column(Text(title), header_style="dim", overflow="fold", no_wrap=index == 0)
    for row in table.rows:
        shown.add_row(*(Text(said(cell), style="" if index else "green") for index, cell in enumerate(row)))
    return Padding(shown, (0, 0, 0, _FORMULA), expand=False)
