"""A text with a name, the problems found in it, and how they are shown: file:line:col, the line, carets, help."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 1_000_000
SHOWN_LINE = 160  # characters of a source line shown around a problem
SHOWN_PROBLEMS = 50
GUTTER = "    "


@dataclass(frozen=True)
class Source:
    """A text and the name it is shown under. Lines and columns count from 1, columns in characters."""

    name: str
    text: str
    _lines: list[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_lines", text.split("\n"))

    @classmethod
    def read(cls, path: str | Path) -> Source:
        """The file's text. Raises SpecError when it is missing, unreadable, too large or not UTF-8."""
        name = str(path)
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise file_error(name, f"there is no file {shorten(name)}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise file_error(name, f"cannot read {shorten(name)}: {reason}") from None
        if len(content) > MAX_BYTES:
            raise file_error(name, f"the file is larger than {MAX_BYTES:,} bytes")
        try:
            return cls(name, content.decode("utf-8"))
        except UnicodeDecodeError as error:
            before = cls(name, content[: error.start].decode("utf-8"))
            line = before.line_count
            message = f"byte 0x{content[error.start]:02x} is not UTF-8 text"
            column = len(before.line(line)) + 1
            raise SpecError([Problem(before, line, column, 1, message, "save the file as UTF-8")]) from None

    @property
    def line_count(self) -> int:
        return len(self._lines)

    def line(self, number: int) -> str:
        """Line `number` (from 1) without its line break; empty beyond the text."""
        return self._lines[number - 1] if 1 <= number <= len(self._lines) else ""

    def position(self, index: int) -> tuple[int, int]:
        """Line and column (from 1) of the character at `index`."""
        before = self.text[:index]
        return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


class Problem(NamedTuple):
    """One thing that is wrong, and where. Line 0 means the file as a whole."""

    source: Source
    line: int
    column: int
    length: int
    message: str
    help: str = ""

    def __str__(self) -> str:
        place = f"{self.source.name}:{self.line}:{self.column}" if self.line else self.source.name
        lines = [f"{printable(place)}: error: {printable(self.message)}"]
        if self.line:
            lines += self._excerpt()
        if self.help:
            lines.append(f"  = help: {printable(self.help)}")
        return "\n".join(lines)

    def _excerpt(self) -> list[str]:
        text = self.source.line(self.line)
        start = max(0, min(self.column - 1, len(text)))
        length = max(1, self.length)
        first = max(0, start - SHOWN_LINE // 2) if len(text) > SHOWN_LINE else 0
        shown = text[first : first + SHOWN_LINE]
        head = "..." if first else ""
        tail = "..." if first + SHOWN_LINE < len(text) else ""
        before = " " * len(head) + "".join(_blank(char) for char in shown[: start - first])
        under = shown[start - first : start - first + length]
        carets = "^" * max(1, sum(_width(char) for char in under))
        return [f"{GUTTER}{head}{printable(shown)}{tail}", f"{GUTTER}{before}{carets}"]


class SpecError(Exception):
    """What is wrong with a text a user wrote: every problem at once, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.source.name, problem.line, problem.column))
        super().__init__(self.problems)

    def __str__(self) -> str:
        blocks = [str(problem) for problem in self.problems[:SHOWN_PROBLEMS]]
        if len(self.problems) > SHOWN_PROBLEMS:
            blocks.append(f"... and {len(self.problems) - SHOWN_PROBLEMS} more errors")
        return "\n".join(blocks)


def file_error(name: str, message: str, help: str = "") -> SpecError:
    """An error about a file as a whole."""
    return SpecError([Problem(Source(name, ""), 0, 0, 0, message, help)])


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`did you mean 'x'?` for a close option, the list of options when they are few, otherwise nothing."""
    names = sorted(set(options))
    guess = closest(word, names)
    if guess:
        return f"did you mean '{guess}'?"
    if names and len(names) <= 16:
        return "one of: " + ", ".join(names) if len(names) > 1 else f"only '{names[0]}' is possible here"
    return ""


def closest(word: str, options: Sequence[str]) -> str:
    """The option most like `word`, or an empty string."""
    lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word[:80].lower(), list(lower), n=1, cutoff=0.6)
    return lower[found[0]] if found else ""


def shorten(text: object, length: int = 60) -> str:
    """`text` for a message: cut when long."""
    string = str(text)
    return string if len(string) <= length else string[: length - 3] + "..."


def printable(text: str) -> str:
    """`text` with control characters replaced, so that a file cannot send escape codes to a terminal."""
    return "".join(char if char == "\t" or char.isprintable() else "\ufffd" for char in text)


def _width(char: str) -> int:
    """Columns a character takes in a terminal."""
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _blank(char: str) -> str:
    return "\t" if char == "\t" else " " * _width(char)
