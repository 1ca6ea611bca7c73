"""What stops a component from being resolved, or an input from being had."""

from __future__ import annotations

from collections.abc import Sequence

from lensnet.language.source import Problem


class InputError(ValueError):
    """The network's input cannot be had: what is wrong, and what to do about it (`help`)."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help


class Refused(Exception):
    """This component cannot be resolved; `problems` say why, each with its place in the file.

    None of them where the cause lies elsewhere and is told there.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = list(problems)
