"""derive: where an effect comes from, step by step."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lensnet.cli.ending import UsageError
from lensnet.cli.options import FILES, SHOWN, Json, Overrides
from lensnet.cli.output import Output, console, put

PART = "Which part of a network"


def derive(
    name: Annotated[str, typer.Argument(metavar="SPEC|COMPONENT", help="A component, or a network as for run.")],
    quantity: Annotated[
        str | None,
        typer.Argument(metavar="[QUANTITY]", help="mean, second_moment, backward_second_moment, kernel, ... [all]"),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="PATH", help="A component or block: block.0. [repeats]", rich_help_panel=PART),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="PATH", help="First component.", rich_help_panel=PART)
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="PATH", help="Last component.", rich_help_panel=PART)
    ] = None,
    overrides: Overrides = None,
    expand: Annotated[bool, typer.Option("--expand", help="Write abbreviations out.", rich_help_panel=SHOWN)] = False,
    latex: Annotated[
        bool, typer.Option("--latex", help="The formulas in LaTeX, nothing else.", rich_help_panel=FILES)
    ] = False,
    json: Json = None,
) -> int:
    """Derive the effects of a component, a stack of them, or the fixed points of a repeated block."""
    Output(json=json).check()
    if latex and json == "-":
        raise UsageError("--latex and --json - both write to standard output")
    from lensnet.derivation.api import derive as derived
    from lensnet.derivation.errors import DeriveError

    try:
        result = derived(name, quantity, at=at, first=first, last=last, overrides=overrides or (), expand=expand)
    except DeriveError as error:
        raise UsageError(str(error)) from error
    if json is not None:
        from lensnet.derivation.saved import to_json

        put(json, to_json(result))
    if latex:
        sys.stdout.write(result.to_latex())
    elif json != "-":
        console().print(result)
    return 0
