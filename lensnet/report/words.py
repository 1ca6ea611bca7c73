"""Text that came from a file, made safe to show."""

from __future__ import annotations


def said(text: str) -> str:
    """On one line and without control characters, so that no file can move the cursor or recolour a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))
