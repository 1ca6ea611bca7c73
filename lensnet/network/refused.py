"""What stops a component from being resolved."""

from __future__ import annotations

from collections.abc import Sequence

from lensnet.language.source import Problem


class Refused(Exception):
    """This component cannot be resolved; `problems` say why, each with its place in the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = list(problems)
