"""How strictly a prediction is held against a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from lensnet.compare.row import View


@dataclass(frozen=True)
class Settings:
    """The numbers in the verdict rule (`lensnet.compare.verdict`), all relative unless said otherwise.

    tolerance: largest error of one component that still counts as agreement (`--tolerance`).
    resolution: widest error bar (2 se) that still counts as a test; wider ones leave the row undecided.
    depth_cap: in the through view both grow with sqrt(components above), by at most this factor.
    mean_floor: absolute tolerance of a mean, as a part of `tolerance` times the rms value of the signal. At 0.2 and a
        tolerance of 5 % a mean may be off by 1 % of the rms value, which is 0.01 % of the signal's energy.
    zero_floor: absolute tolerance of a second moment in units of the signal that goes in: what rounding leaves where
        zero is predicted.
    scatter_limit: predicted variance of the logarithm over weight draws above which the sample mean is not trusted and
        logarithms are compared.
    """

    tolerance: float = 0.05
    resolution: float = 0.10
    depth_cap: float = 3.0
    mean_floor: float = 0.2
    zero_floor: float = 1e-9
    scatter_limit: float = 0.5

    def __post_init__(self) -> None:
        for name in ("tolerance", "resolution", "depth_cap", "mean_floor", "zero_floor", "scatter_limit"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"{name} must be a number >= 0, not {value!r}")

    def allowance(self, view: View, depth: int = 1) -> float:
        """Factor on tolerance and resolution: 1 for a single component, the random walk of many in the through view."""
        return 1.0 if view == "local" else min(sqrt(max(depth, 1)), self.depth_cap)
