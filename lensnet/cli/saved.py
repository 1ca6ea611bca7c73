"""report, compare: saved JSON reports shown again, turned into other formats, or set side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensnet.cli.measuring import _view
from lensnet.cli.options import AllRows, Html, Json, Markdown, OnlyBad, Plot, Quiet, View, ViewChoice
from lensnet.cli.output import Output, console, put

if TYPE_CHECKING:
    from lensnet.compare.beside import Beside


def report(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A report saved with --json.")],
    view: View = ViewChoice.BOTH,
    only_bad: OnlyBad = False,
    all_rows: AllRows = False,
    quiet: Quiet = False,
    json: Json = None,
    markdown: Markdown = None,
    html: Html = None,
    plot: Plot = None,
) -> int:
    """Show a saved report again, or write it in another format."""
    output = Output(_view(view), only_bad, all_rows, quiet, json, markdown, html, plot)
    output.check()
    from lensnet.report.json import read_json

    return output.write(read_json(file))


def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="A report saved with --json.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="Another one.")],
    quiet: Quiet = False,
    json: Json = None,
) -> int:
    """Set two saved reports side by side: before and after a change, two checkpoints, two networks."""
    from lensnet.compare.beside import Beside
    from lensnet.report.json import read_json

    return show_beside(Beside(read_json(first), read_json(second), _names(first, second)), quiet, json)


def show_beside(beside: Beside, quiet: bool, json: str | None) -> int:
    """Print two reports side by side, or write them; the status is 0: a change is no fault."""
    from json import dumps

    if not quiet and json != "-":
        console().print(beside)
    if json is not None:
        put(json, dumps(beside.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return 0


def _names(first: str, second: str) -> tuple[str, str]:
    """What the files are called, shortly; the whole paths where that says the same of both."""
    short = Path(first).stem, Path(second).stem
    return short if short[0] != short[1] else (first, second)
