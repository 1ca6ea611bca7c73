"""The typer application: verbs in the order in which a newcomer needs them, and how the program ends."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from keyword import iskeyword
from typing import Annotated

import typer

from lensnet.cli.ending import INTERNAL, crash, guarded, set_debug

MAIN, LOOK, MAKE = "The main job", "Look and check", "Make"

# Verb -> the file here that holds a function of that name, and where it is listed. A verb is listed when it works.
VERBS = {
    "run": ("measuring", MAIN),
    "predict": ("measuring", MAIN),
    "measure": ("measuring", MAIN),
    "import": ("importing", MAIN),
    "report": ("saved", MAIN),
    "compare": ("saved", MAIN),
    "lint": ("checking", LOOK),
    "show": ("checking", LOOK),
    "components": ("catalogue", LOOK),
    "derive": ("derive", LOOK),
    "ladder": ("ladder", LOOK),
    "phase": ("phase", LOOK),
    "spectrum": ("spectrum", LOOK),
    "cite": ("catalogue", LOOK),
    "construct": ("constructing", MAKE),
    "schema": ("checking", MAKE),
}
NEW = "new"


def application(verbs: Iterable[str] = (*VERBS, NEW)) -> typer.Typer:
    """The command line with these verbs, all of them by default."""
    app = typer.Typer(
        name="lensnet",
        help="Predict what every layer does to a signal, measure it, and put one beside the other.",
        epilog="Start with: lensnet run alexnet. Exit status: 0 all agree, 1 some deviate, 2 bad spec or usage, "
        "3 internal error, 4 undecided or out of regime.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_common)
    for verb in verbs:
        if verb == NEW:
            app.add_typer(_new(), name=NEW, rich_help_panel=MAKE)
        else:
            module, panel = VERBS[verb]
            name = f"{verb}_" if iskeyword(verb) else verb
            function = getattr(import_module(f"lensnet.cli.{module}"), name)
            app.command(verb, rich_help_panel=panel)(guarded(function))
    return app


def _new() -> typer.Typer:
    from lensnet.cli import starting

    new = typer.Typer(no_args_is_help=True, help="Write the beginning of a component or network file.")
    new.command("component")(guarded(starting.component))
    new.command("network")(guarded(starting.network))
    return new


def _version(asked: bool) -> None:
    if asked:
        from lensnet import __version__

        typer.echo(f"lensnet {__version__}")
        raise typer.Exit


def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
) -> None:
    set_debug(debug)


def run_app(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the program with its exit status. `--debug` may stand anywhere."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--debug" in given:
        set_debug(True)
        given = ["--debug", *(argument for argument in given if argument != "--debug")]
    asked = [argument for argument in given if not argument.startswith("-")][:1]
    # Typer reads the signature of every verb that it has, which takes it longer than `lint` needs for a network.
    app = application(asked) if asked and asked[0] in (*VERBS, NEW) else application()
    try:
        app(given, prog_name="lensnet")
    except Exception as error:  # typer's own failures; those of the verbs end in `guarded`
        crash(error)
        sys.exit(INTERNAL)
