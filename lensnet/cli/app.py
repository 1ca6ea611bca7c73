"""The typer application: verbs in the order in which a newcomer needs them, and how the program ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lensnet.cli import catalogue, checking, constructing, derive, measuring, saved, starting
from lensnet.cli.ending import INTERNAL, crash, guarded, set_debug

# A verb is listed when it works. The next ones (ladder, import, design, ...) get a file each and a line below.
MAIN, LOOK, MAKE = "The main job", "Look and check", "Make"

app = typer.Typer(
    name="lensnet",
    help="Predict what every layer does to a signal, measure it, and put one beside the other.",
    epilog="Start with: lensnet run alexnet. Exit status: 0 all agree, 1 some deviate, 2 bad spec or usage, "
    "3 internal error, 4 undecided or out of regime.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        from lensnet import __version__

        typer.echo(f"lensnet {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
) -> None:
    set_debug(debug)


app.command(rich_help_panel=MAIN)(guarded(measuring.run))
app.command(rich_help_panel=MAIN)(guarded(measuring.predict))
app.command(rich_help_panel=MAIN)(guarded(measuring.measure))
app.command(rich_help_panel=MAIN)(guarded(saved.report))
app.command(rich_help_panel=LOOK)(guarded(checking.lint))
app.command(rich_help_panel=LOOK)(guarded(checking.show))
app.command(rich_help_panel=LOOK)(guarded(catalogue.components))
app.command(rich_help_panel=LOOK)(guarded(derive.derive))
app.command(rich_help_panel=LOOK)(guarded(catalogue.cite))
app.command(rich_help_panel=MAKE)(guarded(constructing.construct))
app.command(rich_help_panel=MAKE)(guarded(checking.schema))

new = typer.Typer(no_args_is_help=True, help="Write the beginning of a component or network file.")
new.command("component")(guarded(starting.component))
new.command("network")(guarded(starting.network))
app.add_typer(new, name="new", rich_help_panel=MAKE)


def run_app(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the program with its exit status. `--debug` may stand anywhere."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--debug" in given:
        set_debug(True)
        given = ["--debug", *(argument for argument in given if argument != "--debug")]
    try:
        app(given, prog_name="lensnet")
    except Exception as error:  # typer's own failures; those of the verbs end in `guarded`
        crash(error)
        sys.exit(INTERNAL)
