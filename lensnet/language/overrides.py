"""`--set path=value`: changes the plain data of a document before it is validated.

A path goes through keys and names of items: `constants.depth`, `input.batch`, `body.stem.units`, `block.add.gain`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lensnet.language.document import Document, Path, Span
from lensnet.language.source import Problem, Source, SpecError, did_you_mean, shorten
from lensnet.language.yaml_tree import read_value, resolve_scalar

NAME = "--set"


def apply_overrides(document: Document, overrides: Iterable[str]) -> None:
    """Applies `path=value` texts in their order. Raises SpecError with every one that does not fit."""
    problems: list[Problem] = []
    for override in overrides:
        try:
            _apply(document, Source(NAME, override))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)


def _apply(document: Document, source: Source) -> None:
    text = source.text
    target, equals, written = text.partition("=")
    if not equals or not target.strip() or not written.strip():
        raise _error(source, 1, len(text), "an override is written path=value", "for example constants.depth=4")
    path, parent = _resolve(document, source, target.strip().split("."))
    key: Any = path[-1]
    parent[key] = _value(source, written.strip())
    start = len(target) + 1 + len(written) - len(written.lstrip())
    document.values[path] = Span(1, start + 1, len(written.strip()), ((0, 1, start + 1),), source)
    document.keys[path] = Span(1, 1, len(target), (), source)


def _value(source: Source, written: str) -> Any:
    """A scalar as in a file, or a list in brackets."""
    try:
        if written.startswith("["):
            return read_value(Source(NAME, written)).data
        return resolve_scalar(written)
    except ValueError as error:
        raise _error(source, source.text.index(written) + 1, len(written), str(error)) from None


def _resolve(document: Document, source: Source, parts: list[str]) -> tuple[Path, Any]:
    """The place that `parts` name, and the mapping or list that holds it."""
    path: Path = ()
    column = 1
    for index, part in enumerate(parts):
        data = document.at(path)
        last = index == len(parts) - 1
        step = _step(data, part)
        if step is None and last and isinstance(data, dict) and _takes_new_keys(data, path):
            step = (part,)
        if step is None:
            where = f"in {'.'.join(parts[:index])}" if index else "at the top of the spec"
            options = _options(data)
            if not options:
                message = f"{'.'.join(parts[:index])} has no parts to set"
                raise _error(source, column, len(part), message)
            raise _error(
                source, column, len(part), f"there is no '{shorten(part)}' {where}", did_you_mean(part, options)
            )
        path = (*path, *step)
        column += len(part) + 1
    return path, document.at(path[:-1])


def _step(data: Any, part: str) -> Path | None:
    """The keys that lead from `data` to what `part` names: a key, an index, or an item of the body by its name."""
    if isinstance(data, dict):
        if part in data:
            return (part,)
        for key in ("body", "branch"):
            inner = _step(data[key], part) if isinstance(data.get(key), list) else None
            if inner is not None:
                return (key, *inner)
    if isinstance(data, list):
        named = [index for index, item in enumerate(data) if _name(item) == part]
        if len(named) == 1:
            return (named[0],)
        if part.isdecimal() and int(part) < len(data):
            return (int(part),)
    return None


def _name(item: Any) -> str | None:
    if not isinstance(item, dict):
        return None
    name = item.get("name", item.get("component"))
    return name if isinstance(name, str) else None


def _takes_new_keys(data: dict[str, Any], path: Path) -> bool:
    """Items take parameters that the file does not give; so does the input."""
    return "component" in data or "repeat" in data or path == ("input",) or path[-1:] == ("given",)


def _options(data: Any) -> list[str]:
    if isinstance(data, dict):
        inner = [name for key in ("body", "branch") for name in _options(data.get(key))]
        return [str(key) for key in data] + inner
    if isinstance(data, list):
        return [name for item in data if (name := _name(item)) is not None] or [str(i) for i in range(len(data))]
    return []


def _error(source: Source, column: int, length: int, message: str, help: str = "") -> SpecError:
    return SpecError([Problem(source, 1, column, max(1, length), message, help)])
