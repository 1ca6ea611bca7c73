"""Aligned columns of text that never exceed a width: the last resort is to shorten names, never to cut numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from lensnet.report.numbers import clip

LEAST = 8
"""Characters that a shortened column keeps."""


@dataclass(frozen=True)
class Column:
    """`right`: aligned right (numbers). `gives`: shortened when there is no room, the last column first;
    names in the middle, a `sentence` at its end."""

    title: str = ""
    right: bool = False
    gives: bool = False
    sentence: bool = False
    style: str = ""


@dataclass
class Grid:
    """Rows of cells under titles; `lines` lays them out."""

    columns: Sequence[Column]
    rows: list[tuple[Sequence[Text | str], str]] = field(default_factory=list)

    def add(self, *cells: Text | str, style: str = "") -> None:
        if len(cells) != len(self.columns):
            raise ValueError(f"a row of {len(cells)} cells in a grid of {len(self.columns)} columns")
        self.rows.append((cells, style))

    def lines(self, width: int, gap: int = 1) -> list[Text]:
        """One line per row, after the titles where there are any, each at most `width` wide."""
        widths = self._widths(width, gap)
        out = []
        if any(column.title for column in self.columns):
            out.append(self._line([Text(column.title) for column in self.columns], widths, gap, "bold dim", False))
        for cells, style in self.rows:
            texts = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
            out.append(self._line(texts, widths, gap, style, True))
        return out

    def _widths(self, width: int, gap: int) -> list[int]:
        widths = [
            max(len(column.title), *(len(cells[i]) for cells, _ in self.rows), 0) if self.rows else len(column.title)
            for i, column in enumerate(self.columns)
        ]
        excess = sum(widths) + gap * (len(widths) - 1) - width
        for least in (LEAST, 1):
            for i, column in reversed(list(enumerate(self.columns))):
                if excess > 0 and column.gives:
                    cut = min(excess, max(widths[i] - max(least, len(column.title)), 0))
                    widths[i] -= cut
                    excess -= cut
        return widths

    def _line(self, cells: Sequence[Text], widths: Sequence[int], gap: int, style: str, styled: bool) -> Text:
        line = Text(style=style)
        for i, (cell, column, size) in enumerate(zip(cells, self.columns, widths, strict=True)):
            shown = cell if len(cell) <= size else _shortened(cell, size, column)
            pad = " " * (size - len(shown))
            own = column.style if styled else ""
            if i:
                line.append(" " * gap)
            parts = (pad, shown) if column.right else (shown, pad)
            line.append_text(Text.assemble(*parts, style=own))
        line.rstrip()
        return line


def _shortened(cell: Text, size: int, column: Column) -> Text:
    text = f"{cell.plain[: size - 1]}…" if column.sentence else clip(cell.plain, size)
    return Text(text[:size], style=cell.style)
