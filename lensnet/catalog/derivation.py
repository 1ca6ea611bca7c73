"""From which lower level the formulas of a level follow, by which limit, and how fast what is dropped falls.

The engine knows how every component's levels follow from each other; a component whose formulas follow by another
limit, or at another order, says so under `derives_from`, and is held to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from lensnet.language.effect_spec import DerivesFrom, LevelName, limit_axis, order_exponent


@dataclass(frozen=True)
class Derivation:
    """One level from a lower one.

    limit: `same sample`, or what grows without bound, as `channels -> oo`. order: the exponent p of 1/n**p, with n what
    grows, at which the difference of the two falls (of the fluctuation level: the variance over weight draws).
    declared: whether the component says so itself.
    """

    above: LevelName
    below: LevelName
    limit: str
    order: float
    declared: bool = False

    @property
    def grows(self) -> str:
        """What grows while a difference is followed: an axis; channels, where both levels hold at any width."""
        return limit_axis(self.limit) or "channels"

    @property
    def rate(self) -> str:
        """As it is written in a file: `1/n`, `1/sqrt(n)`, `1/n**2`."""
        if self.order in (0.5, 1.0):
            return "1/n" if self.order == 1.0 else "1/sqrt(n)"
        return f"1/n**{Fraction(self.order).limit_denominator(100)}"

    def told(self) -> str:
        """`from kernel when both samples are the same; what is dropped falls as 1/n, n the number of channels`."""
        when = "both samples are the same" if limit_axis(self.limit) is None else self.limit
        how = f"from {self.below} when {when}; what is dropped falls as {self.rate}, n the number of {self.grows}"
        return how + (" (declared)" if self.declared else "")


KNOWN: Mapping[LevelName, Derivation] = {
    "moments": Derivation("moments", "kernel", "same sample", 1.0),
    "kernel": Derivation("kernel", "spectrum", "channels -> oo", 0.5),
    "spectrum": Derivation("spectrum", "fluctuation", "channels -> oo", 1.0),
}
"""What holds unless a component says otherwise. Spectra have edges, which move as 1/sqrt(n)."""


def derivations(given: Mapping[LevelName, DerivesFrom]) -> dict[LevelName, Derivation]:
    """Of every level that follows from another one, from the highest down; a missing part is the known one."""
    out = dict(KNOWN)
    for level, spec in given.items():
        known = KNOWN[level]
        out[level] = replace(
            known,
            below=spec.level or known.below,
            limit=spec.limit or known.limit,
            order=known.order if spec.order is None else order_exponent(spec.order),
            declared=True,
        )
    return out
