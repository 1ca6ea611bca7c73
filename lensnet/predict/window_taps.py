"""The taps of a pooling window as an explicit list: for what is not a sum over the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.network.geometry import Window

Field = NDArray[np.float64]


@dataclass(frozen=True)
class TapTable:
    """`index[o, t]`: flat input position of tap t of output o (0 where outside), `inside[o, t]`: whether it is real.

    Outputs and taps are listed row by row.
    """

    index: NDArray[np.int64]
    inside: NDArray[np.bool_]
    positions: tuple[int, ...]
    positions_out: tuple[int, ...]

    def take(self, field: Field) -> Field:
        """The taps of every output: `(E, *positions)` -> `(E, outputs, taps)`; outside taps repeat position 0."""
        return field.reshape(len(field), -1)[:, self.index]

    def give(self, shares: Field) -> Field:
        """The adjoint on the real taps: `(E, outputs, taps)` -> `(E, *positions)`."""
        size = int(np.prod(self.positions))
        flat = [np.bincount(self.index[self.inside], row[self.inside], minlength=size) for row in shares]
        return np.stack(flat).astype(float).reshape(-1, *self.positions)


def tap_table(window: Window, positions: tuple[int, ...]) -> TapTable:
    """The taps of `window` over an input with these positions."""
    positions_out = window.out_positions(positions)
    places, real = [], []
    for size, out, k, s, p, d in zip(
        positions, positions_out, window.kernel, window.stride, window.padding, window.dilation, strict=True
    ):
        place = np.arange(out)[:, None] * s - p + np.arange(k)[None] * d
        real.append((place >= 0) & (place < size))
        places.append(np.where(real[-1], place, 0))
    index, inside = places[0], real[0]
    for place, here, size in zip(places[1:], real[1:], positions[1:], strict=True):
        outputs, taps = index.shape[0] * place.shape[0], index.shape[1] * place.shape[1]
        index = (index[:, None, :, None] * size + place[None, :, None, :]).reshape(outputs, taps)
        inside = (inside[:, None, :, None] & here[None, :, None, :]).reshape(outputs, taps)
    return TapTable(index, inside, tuple(positions), positions_out)
