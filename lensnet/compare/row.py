"""One line of the report: a predicted number beside a measured one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["agrees", "deviates", "undecided", "out-of-regime", "not-modelled"]
Direction = Literal["forward", "backward"]
View = Literal["local", "through"]


@dataclass(frozen=True)
class Assumption:
    """A condition that a prediction rests on. `margin` >= 0 holds, < 0 fails; None: true by construction."""

    text: str
    margin: float | None = None
    below: str | None = None

    @property
    def fails(self) -> bool:
        return self.margin is not None and not self.margin >= 0


@dataclass(frozen=True)
class Row:
    """Predicted beside measured for one component, quantity, direction and view.

    `standard_error` is over weight seeds: in the local view that of the paired difference (each seed's output against
    the prediction from the same seed's input), in the through view that of the measured mean. `tolerance` is the whole
    right-hand side atol + rtol*|predicted| + 2*se; `slack` = tolerance - |measured - predicted| (negative: violated);
    `error` = measured/predicted - 1, None near zero. Gains compare in logarithms where `functional` says so.
    `seeds_wanted`: for an undecided row, about how many seeds would decide it. `declared`: relative error that the
    formula itself declares.
    `band`: predicted interval that holds 90 % of the weight draws.
    """

    component: str
    kind: str
    quantity: str
    direction: Direction
    level: str
    view: View
    predicted: float | None
    measured: float | None
    standard_error: float | None
    median: float | None
    tolerance: float | None
    error: float | None
    slack: float | None
    assumptions: tuple[Assumption, ...]
    verdict: Verdict
    port: str | None = None
    functional: str = "mean"
    per_seed: tuple[float, ...] = ()
    seeds_wanted: int | None = None
    declared: float = 0.0
    band: tuple[float, float] | None = None

    def __str__(self) -> str:
        port = f" at {self.port}" if self.port is not None else ""
        what = f"{self.quantity} {self.direction}{port}, {self.level}, {self.view}"
        known = [
            f"{name} {value:.3g}"
            for name, value in (("predicted", self.predicted), ("measured", self.measured)) if value is not None
        ]  # fmt: skip
        if self.measured is not None and self.standard_error:
            known[-1] += f" +- {self.standard_error:.1g}"
        return f"{self.component} ({self.kind}): {what}: {', '.join((*known, self.verdict))}"
