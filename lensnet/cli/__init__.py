"""The command line: one file per few verbs, everything heavy imported inside the command that needs it."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `lensnet` command."""
    from lensnet.cli.app import run_app

    run_app()
