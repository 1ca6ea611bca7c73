"""Where the formulas of a component come from, spelled out."""

from __future__ import annotations

from collections.abc import Iterable

from lensnet.catalog.component import Component
from lensnet.derivation.result import Step

SOURCES = "Sources"


def sources_step(component: Component, keys: Iterable[str] | None = None) -> list[Step]:
    """One step with the full references (of all, or of those keys that are cited); none when nothing is cited."""
    wanted = list(component.references) if keys is None else list(dict.fromkeys(keys))
    parts = tuple(f"[{key}] {component.references.get(key, 'no reference is given')}" for key in wanted)
    return [Step(SOURCES, parts)] if parts else []
