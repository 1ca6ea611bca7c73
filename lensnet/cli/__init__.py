"""The command line: one file per few verbs, everything heavy imported inside the command that needs it."""

from __future__ import annotations

import gc
import os

# Imports make a great many objects that all stay: looking among them for garbage is a tenth of the time of `lint`.
_COLLECT_AFTER = 50_000


def main() -> None:
    """Entry point of the `lensnet` command."""
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else pydantic searches every installed package
    from lensnet.cli.app import run_app

    run_app()
