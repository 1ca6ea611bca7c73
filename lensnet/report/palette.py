"""How verdicts and quantities look: a symbol that reads without colour, a word, and a colour."""

from __future__ import annotations

from dataclasses import dataclass

from lensnet.quantities.quantity import QUANTITIES


@dataclass(frozen=True)
class Look:
    """`symbol` beside a number, `dot` in a drawing, `style` for rich, `colour` for plots and pages."""

    symbol: str
    dot: str
    word: str
    style: str
    colour: str


VERDICTS: dict[str, Look] = {
    "agrees": Look("✓", "●", "agrees", "green", "#2e7d4f"),
    "deviates": Look("✗", "✗", "deviates", "bold red", "#c62f2d"),
    "undecided": Look("?", "?", "undecided", "yellow", "#b07d12"),
    "out-of-regime": Look("○", "○", "out of regime", "magenta", "#8a4fb3"),
    "not-modelled": Look("·", "•", "measured only", "dim", "#7b8794"),
}
"""From the best to be told to the least."""

SEVERITIES = {"failure": "bold red", "doubt": "yellow", "note": "cyan"}

PREDICTED = "#2b6cb0"
INK = "#1f2933"
FAINT = "#9aa5b1"

SYMBOLS = {("second_moment", "backward"): "p"}
"""Where the symbol of a gradient's quantity is not that of the signal's."""

OPTICS = {
    "moments": "geometric optics: rays",
    "kernel": "wave optics: interference",
    "spectrum": "Maxwell's equations",
    "fluctuation": "quantum optics: photon noise",
}

SEVERE_FIRST = ("deviates", "undecided", "out-of-regime", "not-modelled", "agrees")


def symbol(quantity: str, direction: str) -> str:
    """`q` for the second moment of a signal, `p` for that of a gradient, `c'` for the correlation of gradients."""
    if (quantity, direction) in SYMBOLS:
        return SYMBOLS[quantity, direction]
    known = QUANTITIES.get(quantity)
    if known is None:
        return quantity.replace("_", " ")
    return known.symbol + ("'" if direction == "backward" else "")


def severest(verdicts: list[str]) -> str:
    """The verdict that a group of rows must be shown with."""
    return min(verdicts, key=SEVERE_FIRST.index, default="not-modelled")
