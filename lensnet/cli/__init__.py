"""The command line: one file per few verbs, everything heavy imported inside the command that needs it."""

from __future__ import annotations

import gc
import os
import sys

# Verbs that are over before there is garbage worth collecting. What they import and read stays to the end, and looking
# through all of it takes a fifth of their time; so does one more look when a program ends, whatever it did.
BRIEF = ("lint", "show", "schema", "components", "cite", "new", "-h", "--help", "--version")


def main() -> None:
    """Entry point of the `lensnet` command."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else pydantic searches every installed package
    brief = not sys.argv[1:] or sys.argv[1] in BRIEF
    if brief:
        gc.disable()
    elif sys.argv[1] == "predict":
        # what is worked out for a thousand layers stays, and looking through it again and again takes a quarter of the
        # time; measuring keeps the usual pace, since what it lets go of is large
        gc.set_threshold(100_000, 50, 100)
    from lensnet.cli.app import run_app

    try:
        run_app()
    finally:
        gc.freeze()
