"""What travels on an edge of the network at the level of moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]


def average(field: Field) -> float:
    """Over all entries. Where all examples are alike, as in most predictions, there is one, and nothing to add up."""
    return float(field.item() if field.size == 1 else np.mean(field))


@dataclass(frozen=True)
class Law:
    """How the values at an edge are distributed over weight draws: a Gaussian pushed through known functions.

    `mean`, `variance`: fields of the Gaussian *before* the function in `chain` (none, or the composition of all
    functions since) was applied.
    `terms`: number of independent terms whose sum made it Gaussian (the fan-in of the last weight layer); the
    Gaussian picture is off by O(1/terms). `origin`: path of the component that made it.
    """

    mean: Field
    variance: Field
    terms: float
    origin: str
    chain: tuple[Any, ...] = ()
    expectations: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """Gaussian expectations taken under this law so far, by function, and figures made of them: forward and backward
    ask for the same ones."""


@dataclass(frozen=True)
class Signal:
    """Mean and second moment over channels and weight draws, per example and position: fields `(E, *positions)`.

    `E` is 1 when all examples are alike. `law` is None where the distribution is not known to be a function of a
    Gaussian; `distribution` is what is known beyond it (`lensnet.predict.moments.distributions`). `side` holds
    quantities that this level does not carry but that were declared or measured.
    """

    mean: Field
    second_moment: Field
    law: Law | None = None
    side: Mapping[str, Any] = field(default_factory=dict)
    distribution: Any = None

    @property
    def variance(self) -> Field:
        return np.maximum(self.second_moment - self.mean**2, 0.0)

    def with_side(self, side: Mapping[str, Any]) -> Signal:
        return replace(self, side={**self.side, **side}) if side else self
