"""What can be predicted and measured: one definition serves both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lensnet.levels.ladder import Level

Scale = Literal["linear", "log", "nats", "bits", "count"]


@dataclass(frozen=True)
class Quantity:
    """A named number (or field) of a signal.

    `definition` says what is averaged over what, for prediction and measurement alike; `scale` how two values of it
    compare (`log`: as a ratio); `shape` what the estimator returns: `scalar`, `examples` (E,), `field`
    (E, *positions), or a matrix.
    """

    name: str
    symbol: str
    level: Level
    scale: Scale
    definition: str
    shape: str = "field"


def _moments(name: str, symbol: str, scale: Scale, definition: str, shape: str = "field") -> Quantity:
    return Quantity(name, symbol, Level.MOMENTS, scale, definition, shape)


def _kernel(name: str, symbol: str, definition: str, shape: str) -> Quantity:
    return Quantity(name, symbol, Level.KERNEL, "linear", definition, shape)


QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        _moments("mean", "m", "linear", "E x over channels and weight draws, per example and position"),
        _moments("second_moment", "q", "log", "E x^2 over channels and weight draws; backward: of dL/dx with L = <r, y>"),
        _moments("invariant", "I", "linear", "<x, dL/dx> summed over the batch", "scalar"),
        _kernel("cross_moment", "k", "E a b over channels, for two signals that meet, per example and position", "field"),
        _kernel("token_correlation", "rho", "E_c x_i x_j averaged over pairs i != j, over q", "examples"),
        _kernel("token_gram", "G", "E_c x_i x_j for every pair of tokens", "(E, T, T)"),
        _kernel("window_gram", "W", "E_c x_a x_b for every pair of taps of a window, averaged over windows", "(k, k)"),
        _kernel("batch_mean_square", "S", "E_c (mean of x_c over examples and positions)^2", "scalar"),
        _kernel("batch_overlap", "r", "E_c x_c times the mean of x_c over examples and positions", "field"),
        _kernel("position_mean_square", "S", "E_c (mean of x_c over the positions of an example)^2", "examples"),
        _kernel("position_overlap", "r", "E_c x_c times the mean of x_c over the positions of its example", "field"),
    )
}
