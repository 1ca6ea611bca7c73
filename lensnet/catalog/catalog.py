"""The catalogue: every component by name, found by scanning folders, read when first used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from lensnet.catalog.component import Component
from lensnet.catalog.installed import installed_folders
from lensnet.catalog.locate import data_folder
from lensnet.language.loading import load_component_spec
from lensnet.language.source import file_error

OBJECTIVE = "objective"
"""The family (folder) of the problems that an algorithm may work on."""


class Catalog(Mapping[str, Component]):
    """Name -> component. A file's name is its component's name; its folder is the family.

    Raises SpecError when two files claim one name (both are named) or a file is wrong.
    """

    def __init__(self, folders: list[Path]) -> None:
        self._files: dict[str, Path] = {}
        self._read: dict[str, Component] = {}
        for folder in folders:
            for place in sorted(os.path.join(root, name) for root, _, names in os.walk(folder) for name in names):
                name, ending = os.path.splitext(os.path.basename(place))
                if ending != ".yaml":
                    continue
                if name in self._files:
                    raise file_error(place, f"component {name!r} exists already: {self._files[name]}")
                self._files[name] = Path(place)

    def __getitem__(self, name: str) -> Component:
        if name not in self._read:
            path = self._files[name]
            spec, document = load_component_spec(path)
            if spec.component != name:
                raise document.error(("component",), f"the file is called {path.name}, so the component is {name!r}")
            self._read[name] = Component(spec, document, family=path.parent.name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def objectives(self) -> list[str]:
        """Names of the objectives, which lie in folders of that name; no file is read."""
        return sorted(name for name, path in self._files.items() if path.parent.name == OBJECTIVE)

    def families(self) -> dict[str, list[Component]]:
        """Family -> its components, in alphabetical order."""
        out: dict[str, list[Component]] = {}
        for name, path in sorted(self._files.items(), key=lambda item: (item[1].parent.name, item[0])):
            out.setdefault(path.parent.name, []).append(self[name])
        return out


@cache
def catalog() -> Catalog:
    """lensnet's own components and those of installed packages (entry point group `lensnet.components`: a folder)."""
    return Catalog([data_folder("components"), *installed_folders()])
