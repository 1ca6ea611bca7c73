"""YAML text to plain data, with the place of every key and value. YAML 1.2 scalars; bounded; no aliases, no tags.

The event stream is read with an explicit stack, so that depth is a bound and never a recursion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from lensnet.language.document import Document, Path, Span
from lensnet.language.places import Places, span_of
from lensnet.language.source import MAX_BYTES, Problem, Source, SpecError, shorten

MAX_NODES = 50_000
MAX_DEPTH = 40
MAX_PROBLEMS = 100
MAX_DIGITS = 18  # of an integer: fits 64 bits

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NUMERIC = "+-.0123456789"  # how a number can begin
INTEGER = re.compile(r"[-+]?[0-9]+")
OCTAL = re.compile(r"0o[0-7]+")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
CORE_TAGS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),), "map": (dict,), "seq": (list,)
}  # fmt: skip
# Control characters, line breaks that only YAML knows, what reorders the shown text, and what is no character at all.
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def read_yaml(source: Source) -> Document:
    """The one mapping in `source`. Raises SpecError with every problem found."""
    document = read_value(source)
    if not document.values:
        raise SpecError([Problem(source, 1, 1, 1, "the file is empty", "a spec is a mapping of `key: value` lines")])
    if not isinstance(document.data, dict):
        message = f"a spec is a mapping of `key: value` lines, not {kind_of(document.data)}"
        raise document.error((), message)
    return document


def read_value(source: Source) -> Document:
    """The one YAML value in `source`, whatever its kind (None when there is none). Raises SpecError."""
    _check_text(source)
    reader = _Reader(source)
    try:
        reader.read()
    except yaml.YAMLError as error:
        reader.problems.append(_syntax_problem(source, error))
    except _TooMuch:
        pass
    if reader.problems:
        raise SpecError(reader.problems)
    return reader.document


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar by the YAML 1.2 core schema. Raises ValueError for what is not a finite, 64-bit number."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] not in NUMERIC:
        return text
    if INTEGER.fullmatch(text) or OCTAL.fullmatch(text) or HEXADECIMAL.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"the integer {shorten(text, 24)} has more than {MAX_DIGITS} digits")
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if REAL.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"the number {shorten(text, 24)} is too large")
        return number
    if NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    return text


def kind_of(value: object) -> str:
    """The kind of a value in the words of YAML."""
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", int: "an integer", float: "a number"}
    return kinds.get(type(value), "nothing")


class _TooMuch(Exception):
    """Reading stops: a bound is reached."""


@dataclass
class _Open:
    """A collection whose end has not come yet."""

    path: Path
    data: Any
    line: int
    column: int
    key: str | None = None
    first_seen: dict[str, int] = field(default_factory=dict)


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.keys, self.values = Places(source), Places(source)
        self.document = Document(source, None, self.values, self.keys)
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.nodes = 0
        self.documents = 0

    def read(self) -> None:
        for event in _events(self.source.text):
            if isinstance(event, yaml.NodeEvent):
                self.node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self.close(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    self.report(event, "a second document starts here", "one file holds one spec: remove the `---`")
                    raise _TooMuch

    def node(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.report(event, f"more than {MAX_NODES:,} values in one file")
            raise _TooMuch
        parent = self.stack[-1] if self.stack else None
        if parent is not None and isinstance(parent.data, dict) and parent.key is None:
            self.key(event, parent)
        else:
            self.value(event, parent)

    def key(self, event: Any, parent: _Open) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            self.report(event, "a key must be a plain word", "remove the brackets before the `:`")
            raise _TooMuch
        name = event.value
        if name == "<<" and not event.style:
            self.report(event, "merge keys (`<<`) are not allowed", "write the entries out, or use a block")
        if event.tag is not None:
            self.report(event, f"the tag {shorten(event.tag)} is not allowed on a key")
        if name in parent.first_seen:
            first = parent.first_seen[name]
            self.report(event, f"the key '{shorten(name)}' is given twice", f"it was first given on line {first}")
        else:
            start: Any = event.start_mark
            parent.first_seen[name] = start.line + 1
            self.keys.note((*parent.path, name), event)
        parent.key = name

    def value(self, event: Any, parent: _Open | None) -> None:
        path: Path = ()
        if parent is not None:
            path = (*parent.path, len(parent.data) if parent.key is None else parent.key)
        data = self.build(event)
        if parent is not None and parent.key is None:
            parent.data.append(data)
        elif parent is not None:
            parent.data[parent.key] = data
            parent.key = None
        else:
            self.document.data = data
        self.values.note(path, event)
        if isinstance(data, dict | list):
            self.stack.append(_Open(path, data, event.start_mark.line, event.start_mark.column))
            if len(self.stack) > MAX_DEPTH:
                self.report(event, f"more than {MAX_DEPTH} levels of nesting")
                raise _TooMuch

    def build(self, event: Any) -> Any:
        """The event's data: an empty collection, or the scalar."""
        if isinstance(event, yaml.AliasEvent):
            self.report(event, f"the alias *{shorten(event.anchor)} is not allowed", "write the value out, or name it")
            return None
        if isinstance(event, yaml.MappingStartEvent):
            return self.check_tag(event, {})
        if isinstance(event, yaml.SequenceStartEvent):
            return self.check_tag(event, [])
        if event.tag == "!" or event.tag == "tag:yaml.org,2002:str" or not event.implicit[0] and event.tag is None:
            return event.value  # quoted, block, or told to be text
        try:
            return self.check_tag(event, resolve_scalar(event.value))
        except ValueError as error:
            self.report(event, str(error), "quote it if it is meant as text")
            return None

    def check_tag(self, event: Any, data: Any) -> Any:
        if event.tag is not None and event.tag != "!":
            kinds = CORE_TAGS.get(event.tag.removeprefix("tag:yaml.org,2002:"), ())
            if type(data) not in kinds or not event.tag.startswith("tag:yaml.org,2002:"):
                self.report(
                    event, f"the tag {shorten(event.tag)} is not allowed here", "a spec holds plain data: no tags"
                )
        return data

    def close(self, event: Any) -> None:
        done = self.stack.pop()
        start, end = (done.line, done.column), (event.end_mark.line, event.end_mark.column)
        if start[0] == end[0] and end[1] > start[1]:  # a flow collection on one line: its span is all of it
            self.values[done.path] = Span(start[0] + 1, start[1] + 1, end[1] - start[1])

    def report(self, event: Any, message: str, help: str = "") -> None:
        span = span_of(event, self.source)
        self.problems.append(Problem(self.source, span.line, span.column, span.length, message, help))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _TooMuch


def _events(text: str) -> Iterator[Any]:
    return yaml.parse(text, Loader=LOADER)


def _check_text(source: Source) -> None:
    if len(source.text) > MAX_BYTES or len(source.text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise SpecError([Problem(source, 0, 0, 0, f"the text is larger than {MAX_BYTES:,} bytes", "")])
    problems = []
    for found in FORBIDDEN.finditer(source.text):
        line, column = source.position(found.start())
        message = f"the character U+{ord(found.group()):04X} is not allowed in a spec"
        problems.append(Problem(source, line, column, 1, message, "remove it"))
        if len(problems) >= MAX_PROBLEMS:
            break
    if problems:
        raise SpecError(problems)


def _syntax_problem(source: Source, error: yaml.YAMLError) -> Problem:
    """PyYAML's own error at its place, with help for the mistakes people make."""
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    text = str(getattr(error, "problem", None) or "this is not YAML").strip()
    context = str(getattr(error, "context", None) or "").strip()
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if line > 1 and column == 1 and not source.line(line):  # at the end of the text: show the last line that has some
        while line > 1 and not source.line(line).strip():
            line -= 1
        column = len(source.line(line).rstrip()) + 1
    help = ""
    if source.line(line)[: column - 1].strip() == "" and "\t" in source.line(line)[:column]:
        help = "indent with spaces, not tabs"
    elif "mapping values are not allowed" in text:
        help = "quote a text that holds `: `, or check the indentation"
    elif "undefined alias" in text or "%" in source.line(line)[column - 1 : column] or "@" in text:
        help = "quote the text"
    message = f"{text} ({context})" if context else text
    return Problem(source, line, column, 1, f"not valid YAML: {message}", help)
