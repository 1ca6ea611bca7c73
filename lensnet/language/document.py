"""Plain data read from a text, and the place in that text of every key and value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lensnet.language.source import Problem, Source, SpecError, did_you_mean, shorten

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Span:
    """The place of a key or value. Lines and columns from 1.

    `offset` is how many characters lie before the scalar's own text (1 when it is quoted); None when a column inside
    the scalar cannot be turned into a column of the file: block and folded scalars, escapes, collections.
    `source` is where it stands when that is not the document's own text (an override on the command line).
    """

    line: int
    column: int
    length: int
    offset: int | None = None
    source: Source | None = None


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it stands."""

    source: Source
    data: Any
    values: dict[Path, Span] = field(default_factory=dict)
    keys: dict[Path, Span] = field(default_factory=dict)

    def at(self, path: Path) -> Any:
        """The data at `path`; None when there is none."""
        data = self.data
        part: Any
        for part in path:
            if isinstance(data, dict) and part in data or isinstance(data, list) and isinstance(part, int):
                data = data[part]
            else:
                return None
        return data

    def resolve(self, path: Sequence[Any]) -> Path:
        """`path` without the parts that the file does not have: an effect may be written without its `formula:` key."""
        found: Path = ()
        for part in path:
            if (*found, part) in self.values:
                found = (*found, part)
        return found

    def place(self, path: Path, key: bool = False) -> Span:
        """Where `path` stands (its key with `key=True`); the nearest enclosing part when it is not in the file."""
        found = self.resolve(path)
        key = found in self.keys and (key or (len(found) < len(path) and isinstance(self.at(found), dict | list)))
        return (self.keys if key else self.values).get(found) or Span(1, 1, 1)

    def problem(
        self, path: Path, message: str, help: str = "", key: bool = False, column: int = 0, length: int = 0
    ) -> Problem:
        """A problem at `path`; `column` (from 1) and `length` narrow it to a part of the scalar's text."""
        span = self.place(path, key)
        start, width = span.column, span.length
        if column and span.offset is not None:
            start, width = span.column + span.offset + column - 1, length
        return Problem(span.source or self.source, span.line, start, max(1, width), message, help)

    def error(self, path: Path, message: str, help: str = "", key: bool = False) -> SpecError:
        return SpecError([self.problem(path, message, help, key)])

    def unknown_key(self, path: Path, options: Iterable[str], what: str = "key") -> Problem:
        """A problem at the key `path`, with a guess at what was meant."""
        message = f"unknown {what} '{shorten(path[-1])}'"
        return self.problem(path, message, did_you_mean(str(path[-1]), options), key=True)
