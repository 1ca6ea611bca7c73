"""Where the events of a YAML text stand, and which stretches of a scalar read as they are written."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import yaml

from lensnet.language.document import Path, Span
from lensnet.language.source import Source

MAX_MAPPED = 5000  # characters or lines of a scalar whose inner places are known; formulas are shorter


class Places(MutableMapping[Path, Span]):
    """Path -> place. An event that was noted is looked at when its place is asked for: in a sound file, never."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: dict[Path, Any] = {}

    def note(self, path: Path, event: Any) -> None:
        self._found[path] = event

    def __getitem__(self, path: Path) -> Span:
        found = self._found[path]
        if not isinstance(found, Span):
            found = self._found[path] = span_of(event=found, source=self.source)
        return found

    def __setitem__(self, path: Path, span: Span) -> None:
        self._found[path] = span

    def __delitem__(self, path: Path) -> None:
        del self._found[path]

    def __contains__(self, path: object) -> bool:
        return path in self._found

    def __iter__(self) -> Iterator[Path]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def span_of(event: Any, source: Source) -> Span:
    """The place of a scalar, or of the beginning of a collection."""
    start, end = event.start_mark, event.end_mark
    text = source.line(start.line + 1)
    if not isinstance(event, yaml.ScalarEvent):
        length = end.column - start.column if start.line == end.line else 1
        if isinstance(event, yaml.CollectionStartEvent) and not event.flow_style:
            length = len(text.rstrip()) - start.column
        return Span(start.line + 1, start.column + 1, max(1, length))
    length = end.column if start.line == end.line else len(text.rstrip())
    return Span(start.line + 1, start.column + 1, max(1, length - start.column), _pieces(event, source))


def _pieces(event: Any, source: Source) -> tuple[tuple[int, int, int], ...]:
    """Where the lines of a scalar stand; nothing when it does not read as it is written (escapes)."""
    value, style, first, last = event.value, event.style or "", event.start_mark.line, event.end_mark.line
    if len(value) > MAX_MAPPED or last - first > MAX_MAPPED:
        return ()
    if first == last and not style and event.tag is None and event.anchor is None:
        return ((0, first + 1, event.start_mark.column + 1),) if value else ()
    quote = 1 if style in ("'", '"') else 0
    found: list[tuple[int, int, int]] = []
    index = 0
    for number in range(first + (style in ("|", ">")), last + 1):  # without the header of a block
        line = source.line(number + 1)
        start = event.start_mark.column + quote if number == first else len(line) - len(line.lstrip())
        written = line[start : event.end_mark.column - quote] if number == last else line[start:].rstrip()
        rest = value[index:].lstrip() if found else value
        if not rest or not written:
            continue
        if not rest.startswith(written):
            return ()
        found.append((len(value) - len(rest), number + 1, start + 1))
        index = len(value) - len(rest) + len(written)
    return tuple(found) if index >= len(value.rstrip()) else ()
