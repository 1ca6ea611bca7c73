"""The command line: one file per few verbs, everything heavy imported inside the command that needs it."""

from __future__ import annotations

import gc
import os
import sys

# Verbs that are over before there is garbage worth collecting. What they import and read stays to the end, and looking
# through all of it, also once more when the program ends, takes a fifth of their time.
BRIEF = ("lint", "show", "schema", "components", "cite", "new", "-h", "--help", "--version")


def main() -> None:
    """Entry point of the `lensnet` command."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else pydantic searches every installed package
    brief = not sys.argv[1:] or sys.argv[1] in BRIEF
    if brief:
        gc.disable()
    else:  # a report of a thousand layers is a million objects that stay, and looking through them takes a quarter
        gc.set_threshold(100_000, 50, 100)
    from lensnet.cli.app import run_app

    try:
        run_app()
    finally:
        if brief:
            gc.freeze()
