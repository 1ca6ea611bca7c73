"""Folders of components that other installed packages bring along."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ENTRY_POINTS = "lensnet.components"
_METADATA = (".dist-info", ".egg-info")


def installed_folders() -> list[Path]:
    """The folder of every entry point in the group `lensnet.components`.

    Asking importlib takes longer than reading a network, so it is asked only if some package has such a group.
    """
    if not any(_may_declare(entry or ".") for entry in sys.path):
        return []
    from importlib.metadata import entry_points

    return [Path(entry.load()) for entry in entry_points(group=ENTRY_POINTS)]


def _may_declare(place: str) -> bool:
    """Whether a package in this part of `sys.path` declares components; yes for what is no folder (a zip file)."""
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(_declares(os.path.join(place, name, "entry_points.txt")) for name in names if name.endswith(_METADATA))


def _declares(file: str) -> bool:
    try:
        with open(file, "rb") as opened:
            return ENTRY_POINTS.encode() in opened.read()
    except OSError:
        return False
