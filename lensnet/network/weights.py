"""How a random weight tensor is drawn: the part of a component that formulas and torch must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

Distribution = Literal["normal", "uniform", "truncated_normal", "orthogonal"]

# Excess kurtosis of one weight. Truncated: N(0, 1) cut at +-2 and rescaled to the asked variance.
EXCESS_KURTOSIS: dict[str, float] = {"normal": 0.0, "uniform": -1.2, "truncated_normal": -0.6310, "orthogonal": 0.0}


@dataclass(frozen=True)
class WeightLaw:
    """The law of one weight tensor and of its bias, as fixed by `gain`, `std` or `init`.

    `variance` is that of a single weight, whatever the distribution; an orthogonal tensor has orthonormal rows or
    columns (whichever are fewer) times a scale, and `variance` is the mean square of its entries.
    """

    fan_in: int
    fan_out: int
    variance: float
    distribution: Distribution = "normal"
    bias_mean: float = 0.0
    bias_std: float = 0.0
    bias_distribution: Literal["normal", "uniform"] = "normal"

    @property
    def gain(self) -> float:
        """Effective gain: sqrt(fan_in * variance), 1 when the second moment is preserved by a linear layer."""
        return sqrt(self.fan_in * self.variance)

    @property
    def has_bias(self) -> bool:
        return self.bias_mean != 0.0 or self.bias_std != 0.0

    @property
    def excess_kurtosis(self) -> float:
        return EXCESS_KURTOSIS[self.distribution]
