"""Repeated blocks told once: components whose paths differ only in an index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FOLD_ABOVE = 40
"""Networks with more components than this are shown folded."""


@dataclass(frozen=True)
class Fold:
    """Components told on one line; `label` reads `block.{0-11}.norm` for twelve of them."""

    label: str
    members: tuple[str, ...]


def fold(components: Iterable[str]) -> list[Fold]:
    """Group paths that are equal up to their numbers, in the order of first appearance."""
    groups: dict[str, list[str]] = {}
    for path in components:
        groups.setdefault(".".join("*" if part.isdigit() else part for part in path.split(".")), []).append(path)
    return [Fold(_label(members), tuple(members)) for members in groups.values()]


def unfolded(components: Iterable[str]) -> list[Fold]:
    return [Fold(path, (path,)) for path in components]


def _label(members: list[str]) -> str:
    if len(members) == 1:
        return members[0]
    columns = zip(*(path.split(".") for path in members), strict=True)
    return ".".join(_part(list(dict.fromkeys(column))) for column in columns)


def _part(values: list[str]) -> str:
    if len(values) == 1:
        return values[0]
    numbers = sorted(map(int, values))
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}-{numbers[-1]}}}"
    return "{" + ",".join(map(str, numbers)) + "}" if len(numbers) <= 4 else f"{{{numbers[0]}..{numbers[-1]}}}"
