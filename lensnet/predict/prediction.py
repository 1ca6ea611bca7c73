"""What the effect models say: numbers with their assumptions, before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.ladder import Level
from lensnet.levels.signal import Signal, average

Field = NDArray[np.float64]
Status = Literal["ok", "out-of-regime", "not-modelled"]


@dataclass(frozen=True)
class Check:
    """An assumption with its margin: `margin` >= 0 holds, < 0 fails, None is true by construction."""

    text: str
    margin: float | None = None
    below: str | None = None


@dataclass(frozen=True)
class Effect:
    """A predicted quantity of one component.

    `field`: `(E, *positions)`; `value`: its average; `error`: declared relative error of the formula (dimensionless);
    `status`: `out-of-regime` when a check fails here or upstream; `scatter`: predicted relative variance over weight
    draws of the value (leading order in 1/width), which tells how many seeds a comparison needs. `level`: where on the
    ladder the prediction was made; one quantity may be predicted at several levels. `band`: of a prediction over weight
    draws, the interval of the second moment that holds 90 % of them. `floor`: declared absolute
    error.
    """

    component: str
    quantity: str
    direction: Literal["forward", "backward"]
    port: str | None
    field: Field | None
    error: float
    checks: tuple[Check, ...]
    status: Status
    scatter: float = 0.0
    level: Level = Level.MOMENTS
    band: tuple[float, float] | None = None
    floor: float | None = None

    @cached_property
    def value(self) -> float | None:
        return None if self.field is None else average(np.asarray(self.field))


@dataclass
class Prediction:
    """Everything predicted for one network: signals at every output, gradients at every input port, and the rows."""

    effects: list[Effect] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)
    gradients: dict[tuple[str, str], Field] = field(default_factory=dict)
