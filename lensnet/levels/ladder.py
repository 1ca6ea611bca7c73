"""The four levels of abstraction, from the cheapest down to the most exact."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """A level of the ladder; the order of definition is the order of descent."""

    MOMENTS = "moments"
    KERNEL = "kernel"
    SPECTRUM = "spectrum"
    FLUCTUATION = "fluctuation"

    @property
    def optics(self) -> str:
        return _OPTICS[self]

    @property
    def below(self) -> Level | None:
        """The next, more exact level; None at the bottom."""
        order = list(Level)
        place = order.index(self) + 1
        return order[place] if place < len(order) else None


_OPTICS = {
    Level.MOMENTS: "geometric optics (rays)",
    Level.KERNEL: "wave optics (interference)",
    Level.SPECTRUM: "Maxwell's equations",
    Level.FLUCTUATION: "quantum optics (photon noise)",
}
