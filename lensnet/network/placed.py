"""The flat form of a network's body: components at their paths, not yet wired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lensnet.catalog.component import Component
from lensnet.language.document import Path
from lensnet.language.source import Problem

Number = int | float
Scope = Mapping[str, Number | None]
"""The numbers that a formula may name; None for one whose own formula is at fault, so that nobody knows it."""


class Reference(NamedTuple):
    """A producer as the spec names it: an exact path, or a name to be looked up from the inside out of `prefix`."""

    name: str
    prefix: tuple[str, ...] = ()
    exact: bool = False
    place: Path = ()


class Placed(NamedTuple):
    """One component at its path, before parameters are evaluated and shapes are known."""

    path: str
    component: Component
    parameters: Mapping[str, Any]
    given: Mapping[str, Any]
    scope: Scope
    sources: tuple[Reference, ...]
    place: Path
    shares: Reference | None = None


class Unread(NamedTuple):
    """An item at fault, which holds its place: those behind it are looked at, but no shape comes out of it."""

    path: str
    sources: tuple[Reference, ...]
    place: Path
    shares: None = None


@dataclass
class Expansion:
    """The flat result: components in the order written, and the output path of every group (repeat, block).

    complete: false where it ended early, with too many components. names_known, sources_known: false where an item's
    name or `from:` could not be read, so that nobody can tell whether a reference leads nowhere, or what is never used.
    """

    placed: list[Placed | Unread] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True
    names_known: bool = True
    sources_known: bool = True
