"""Texts with the expected place of an error marked in them, so that no test counts columns by hand."""

from __future__ import annotations

from dataclasses import dataclass

OPEN, CLOSE = "⟦", "⟧"


@dataclass(frozen=True)
class Place:
    line: int
    column: int
    length: int


def marked(text: str) -> tuple[str, list[Place]]:
    """`text` without its marks, and the place of each marked part (line and column from 1)."""
    lines, places = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        while OPEN in line:
            start, end = line.index(OPEN), line.index(CLOSE) - 1
            places.append(Place(number, start + 1, end - start))
            line = line.replace(OPEN, "", 1).replace(CLOSE, "", 1)
        lines.append(line)
    return "\n".join(lines), places
