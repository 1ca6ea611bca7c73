"""Components of one network file: those it defines inline, and those in component files beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.language.document import Document
from lensnet.language.loading import load_component_spec
from lensnet.language.network_spec import NetworkSpec
from lensnet.language.source import Problem, SpecError

OWN_FAMILY = "defined here"


class OwnComponents(NamedTuple):
    """What a network file defines: the components by name, what is wrong, and the names that were refused for it."""

    found: dict[str, Component]
    problems: list[Problem]
    refused: set[str]


def components_of_file(spec: NetworkSpec, document: Document) -> OwnComponents:
    """Name -> component for `define:` entries and for files `NAME.yaml` in a folder `components/` beside the spec, or
    beside it when the body names them. Refused: a name of a component of the catalogue or of a block; a file in error.
    """
    own = OwnComponents({}, [], set())
    for name, part in spec.define.items():
        if name in catalog() or name in spec.blocks:
            what = "component of the catalogue" if name in catalog() else "block"
            told, help = f"'{name}' is a {what} already", "choose another name"
            own.problems.append(document.problem(("define", name), told, help, key=True))
            own.refused.add(name)
            continue
        own.found[name] = Component(part, document, OWN_FAMILY, name)
    folder = Path(document.source.name).parent
    for name in _unknown_names(spec, own.found):
        for path in (folder / f"{name}.yaml", folder / "components" / f"{name}.yaml"):
            if path.is_file():
                try:
                    part, beside = load_component_spec(path)
                except SpecError as error:
                    own.problems.extend(error.problems)
                    own.refused.add(name)
                else:
                    own.found[name] = Component(part, beside, str(path.parent), name)
                break
    return own


def components_in(places: Iterable[str | Path]) -> dict[str, Component]:
    """Name -> component of component files, and of the files in folders. Raises SpecError with every problem."""
    found: dict[str, Component] = {}
    problems: list[Problem] = []
    for place in map(Path, places):
        for path in sorted(place.glob("*.yaml")) if place.is_dir() else [place]:
            try:
                spec, document = load_component_spec(path)
                if spec.component in catalog() or spec.component in found:
                    raise document.error(
                        ("component",), f"a component {spec.component!r} exists already", "choose another name"
                    )
            except SpecError as error:
                problems.extend(error.problems)
            else:
                found[spec.component] = Component(spec, document, str(path.parent))
    if problems:
        raise SpecError(problems)
    return found


def _unknown_names(spec: NetworkSpec, defined: dict[str, Component]) -> list[str]:
    from lensnet.language.body_spec import Repeat, walk

    bodies = [spec.body, *(block.body for block in spec.blocks.values())]
    names = {
        item.component for body in bodies for _, item in walk(body, ()) if not isinstance(item, Repeat)
    }  # fmt: skip
    known = set(defined) | set(spec.blocks)
    return sorted(name for name in names if name not in known and name not in catalog())
