"""What cannot be derived, said so that the reader knows what can."""

from __future__ import annotations


class DeriveError(ValueError):
    """Nothing can be derived from what was asked for; `help` says what can."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(f"{message}\n  = help: {help}" if help else message)
        self.help = help
