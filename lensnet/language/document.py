"""Plain data read from a text, and the place in that text of every key and value."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lensnet.language.formula_tree import FormulaError
from lensnet.language.source import Problem, Source, SpecError, did_you_mean, shorten

Path = tuple[str | int, ...]


class Span(NamedTuple):
    """The place of a key or value. Lines and columns from 1.

    `pieces`: (index in the scalar's text, line, column) of every stretch of it that stands as it reads, so that a
    column inside the scalar can be turned into a place in the file; empty where it cannot (escapes, collections).
    `source` is where it stands when that is not the document's own text (an override on the command line).
    """

    line: int
    column: int
    length: int
    pieces: tuple[tuple[int, int, int], ...] = ()
    source: Source | None = None

    def inside(self, index: int, length: int) -> Span:
        """The part of a scalar from `index` (from 0); the whole where that is not known."""
        for start, line, column in reversed(self.pieces):
            if start <= index:
                return Span(line, column + index - start, length, (), self.source)
        return self


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it stands."""

    source: Source
    data: Any
    values: MutableMapping[Path, Span] = field(default_factory=dict)
    keys: MutableMapping[Path, Span] = field(default_factory=dict)

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
        if column:
            span = span.inside(column - 1, length)
        last = self.source.line_count
        if span.line > last:  # an empty document ends behind the last line
            span = Span(last, len(self.source.line(last)) + 1, 1)
        return Problem(span.source or self.source, span.line, span.column, max(1, span.length), message, help)

    def formula_problem(self, path: Path, error: FormulaError) -> Problem:
        """A problem at the part to blame of the formula at `path`."""
        return self.problem(path, error.message, error.help, column=error.column, length=error.length)

    def error(self, path: Path, message: str, help: str = "", key: bool = False) -> SpecError:
        return SpecError([self.problem(path, message, help, key)])

    def unknown_key(self, path: Path, options: Iterable[str], what: str = "key") -> Problem:
        """A problem at the key `path`, with a guess at what was meant."""
        message = f"unknown {what} '{shorten(path[-1])}'"
        return self.problem(path, message, did_you_mean(str(path[-1]), options), key=True)
