"""Where components and specs lie: in the checkout, or inside the installed package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lensnet.language.source import did_you_mean, file_error

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def data_folder(name: str) -> Path:
    """The folder `components` or `specs`: the checkout's when there is one, else the copy shipped in the wheel."""
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    return _PACKAGE / "_data" / name


def bundled_specs() -> dict[str, Path]:
    """Name -> file of every spec that comes with lensnet."""
    return {path.stem: path for path in sorted(data_folder("specs").glob("*.yaml"))}


def find_spec(name: str | Path) -> Path:
    """A spec by path, or by the name of a bundled one (`alexnet`).

    Raises SpecError with a suggestion when there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    bundled = bundled_specs()
    if path.is_dir():
        raise file_error(str(name), f"{name} is a folder, not a spec", f"name one of its files, as in {name}/NAME.yaml")
    if str(name) in bundled:
        return bundled[str(name)]
    if path.suffix in (".yaml", ".yml") and path.parent.name == "specs" and path.stem in bundled:
        return bundled[path.stem]
    raise file_error(str(name), "no such file, and no bundled spec has this name", did_you_mean(path.stem, bundled))
