"""How a command ends: exit status, clean messages on stderr, no traceback unless asked for."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

import typer

USAGE, INTERNAL, UNDECIDED = 2, 3, 4

_debug = False

Command = TypeVar("Command", bound=Callable[..., Any])


class UsageError(Exception):
    """What was asked for cannot be done; the message names the option and the way out."""


def set_debug(on: bool) -> None:
    """Show tracebacks from here on (once on, it stays on)."""
    global _debug
    _debug = _debug or on


def guarded(command: Command) -> Command:
    """Wrap a verb so that every way of failing has its message and exit status."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        try:
            status = command(*args, **options)
            sys.stdout.flush()
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            _leave("interrupted: nothing was finished", UNDECIDED)
        except BrokenPipeError:
            _reader_left()
        except Exception as error:
            if not _is_users(error):
                crash(error)
                raise typer.Exit(INTERNAL) from error
            _leave(str(error) or type(error).__name__, USAGE)
        raise typer.Exit(status or 0)

    return run  # type: ignore[return-value]


def crash(error: BaseException) -> None:
    """An internal error, short; the traceback with --debug."""
    if _debug:
        traceback.print_exception(error)
        return
    message = " ".join(str(error).split())[:300]
    _say(f"internal error: {type(error).__name__}: {message}\n  = help: the same command with --debug shows where")


def _leave(message: str, status: int) -> NoReturn:
    if _debug:
        traceback.print_exc()
    _say(message)
    raise typer.Exit(status)


def _say(message: str) -> None:
    # A spec error begins with its place; everything else names the program.
    start = "" if ": error: " in message.split("\n")[0] else "lensnet: "
    print(f"{start}{message}", file=sys.stderr)


def _is_users(error: Exception) -> bool:
    """Whether the message is for the user (a wrong spec, a missing file or GPU) and not a fault of the program.

    By name, so that no package is imported for the sake of an exception that it never raised.
    """
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(names & _USERS)


_USERS = {
    "lensnet.cli.ending.UsageError",
    "lensnet.language.source.SpecError",
    "lensnet.compare.report.ReportError",
    "lensnet.measure.errors.MeasureError",
    "lensnet.network.refused.InputError",
    "lensnet.predict.engine.LevelError",
}


def _reader_left() -> NoReturn:
    """Whoever read our output has closed it (`lensnet components | head`): nothing is wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(0)
