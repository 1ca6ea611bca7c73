"""ladder: how each level follows from the next, checked for every component."""

from __future__ import annotations

from typing import Annotated

import typer

from lensnet.cli.ending import UsageError
from lensnet.cli.options import FILES, HOW, Json, Quiet
from lensnet.cli.output import Output, console, put


def ladder(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[COMPONENT]...", help="Components by name. [all of the catalogue]")
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=8, help="Weight draws at each width of a rate test.", rich_help_panel=HOW)
    ] = 64,
    no_rates: Annotated[
        bool, typer.Option("--no-rates", help="Formulas alone: measure nothing.", rich_help_panel=HOW)
    ] = False,
    quiet: Quiet = False,
    json: Json = None,
    markdown: Annotated[
        str | None, typer.Option("--markdown", metavar="FILE", help="The table alone.", rich_help_panel=FILES)
    ] = None,
) -> int:
    """Check every step of the ladder (proven, or verified numerically) and the rates at which what is dropped falls."""
    Output(json=json, markdown=markdown).check()
    from lensnet.catalog.catalog import catalog
    from lensnet.ladder.check import check_ladder
    from lensnet.language.source import did_you_mean
    from lensnet.report.progress import StepBar

    for name in names or ():
        if name not in catalog():
            raise UsageError(f"no component is called {name!r}. {did_you_mean(name, catalog()) or ''}".strip())
    with StepBar("ladder", len(names or catalog()), quiet) as bar:
        report = check_ladder(names or (), draws, not no_rates, bar.begin)
    if json is not None:
        import json as format_

        put(json, format_.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
    if markdown is not None:
        from lensnet.ladder.shown import markdown as as_markdown

        put(markdown, as_markdown(report))
    if not quiet and "-" not in (json, markdown):
        console().print(report)
    return report.exit_status
