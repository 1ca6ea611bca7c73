"""lint, show, schema: verbs that read files and import neither torch nor sympy."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from lensnet.cli.ending import USAGE, UsageError
from lensnet.cli.options import Overrides, Quiet, Spec


def lint(
    files: Annotated[
        list[str], typer.Argument(metavar="SPEC...", help="Network or component files, bundled names, or folders.")
    ],
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> int:
    """Check network and component files: every problem at once, with its place and the fix."""
    from lensnet.language.source import SpecError

    status = 0
    for name in _expand(files):
        try:
            told = _check(name, overrides or ())
        except SpecError as error:
            print(error, file=sys.stderr)
            status = USAGE
        else:
            if not quiet:
                print(f"{name}: ok: {told}")
    return status


def _expand(names: Iterable[str]) -> Iterator[str]:
    """Folders stand for the YAML files in them."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted((*path.rglob("*.yaml"), *path.rglob("*.yml")))
            if not found:
                raise UsageError(f"{name}: there is no .yaml file in this folder")
            yield from map(str, found)
        else:
            yield name


def _check(name: str, overrides: Iterable[str]) -> str:
    """Load one file; what it holds, in a few words. Raises SpecError."""
    from lensnet.catalog.locate import find_spec

    path = find_spec(name)
    if _is_component(path):
        from lensnet.language.loading import load_component_spec

        spec, _ = load_component_spec(path)
        return f"component {spec.component}"
    from lensnet.network.build import load_network

    network = load_network(path, overrides).network
    return f"network {network.name}, {len(network)} components"


def _is_component(path: Path) -> bool:
    """A component file has `component:` at its beginning of line, a network file `network:`."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            keys = [line.split(":")[0] for line in file.read(20_000).splitlines() if line[:1].isalpha()]
    except OSError:
        return False  # loading tells what is wrong
    return "component" in keys and "network" not in keys and "body" not in keys[: keys.index("component")]


def show(
    spec: Spec,
    overrides: Overrides = None,
) -> int:
    """List the components of a network: kind, parameters, shape, weights. Nothing is run."""
    from lensnet.api import load
    from lensnet.cli.layers import layers
    from lensnet.cli.output import console

    out = console()
    out.print(layers(load(spec, overrides or ()).network, out.width))
    return 0


def schema(
    component: Annotated[bool, typer.Option("--component", help="The schema of component files instead.")] = False,
    folder: Annotated[
        str | None, typer.Option("--write", metavar="FOLDER", help="Write both schemas into a folder.")
    ] = None,
) -> int:
    """Print the JSON Schema of spec files, for completion and checks in an editor."""
    import json

    from lensnet.catalog.catalog import catalog
    from lensnet.language.schema import component_schema, network_schema
    from lensnet.network.initialisation import INIT_ABOUT

    def text(of_component: bool) -> str:
        if of_component:
            return json.dumps(component_schema(), indent=1) + "\n"
        return (
            json.dumps(network_schema({name: kind.spec for name, kind in catalog().items()}, INIT_ABOUT), indent=1)
            + "\n"
        )

    if folder is None:
        sys.stdout.write(text(component))
        return 0
    target = Path(folder)
    if not target.is_dir():
        raise UsageError(f"--write {folder}: there is no such folder")
    for of_component, name in ((False, "lensnet-spec.schema.json"), (True, "lensnet-component.schema.json")):
        try:
            (target / name).write_text(text(of_component), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {target / name}: {error.strerror or error}") from error
        print(target / name)
    return 0
