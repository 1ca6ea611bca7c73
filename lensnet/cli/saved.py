"""report: a saved JSON report shown again, or turned into other formats."""

from __future__ import annotations

from typing import Annotated

import typer

from lensnet.cli.measuring import _view
from lensnet.cli.options import AllRows, Html, Json, Markdown, OnlyBad, Plot, Quiet, View, ViewChoice
from lensnet.cli.output import Output


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
