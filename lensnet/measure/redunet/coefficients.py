"""From features to the coefficients that a ReduNet layer acts on, and back.

A real signal's spectrum is symmetric, V(-t) = conj V(t), and so are the operators. Only half of it is kept; `weights`
says how often each kept frequency counts (1, or 2 where its mirror image was left out).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from lensnet.network.shape import Shape


@dataclass(frozen=True)
class Transform:
    """How features of a shape become coefficients (F, m, c).

    `orthonormal`: coefficients are divided by sqrt(positions), as the public ReduNet code does; its eps2 is then that
    of the plain transform times the number of positions.
    """

    shape: Shape
    orthonormal: bool = False

    @property
    def frequencies(self) -> int:
        """Kept ones; 1 for vectors."""
        *front, last = self.shape.positions or (1,)
        return prod(front) * (last // 2 + 1 if self.shape.positions else 1)

    @property
    def complex(self) -> bool:
        return bool(self.shape.positions)

    def weights(self, like: Tensor) -> Tensor:
        """How often each kept frequency stands in the whole spectrum: (F,), summing to the number of positions."""
        if not self.shape.positions:
            return like.real.new_ones(1)
        *front, last = self.shape.positions
        half = torch.full((last // 2 + 1,), 2.0, dtype=like.real.dtype, device=like.device)
        half[0] = 1.0
        if last % 2 == 0:
            half[-1] = 1.0
        return half.repeat(prod(front))

    def forward(self, x: Tensor) -> Tensor:
        """Features in torch's layout -> coefficients (F, m, c)."""
        if not self.shape.positions:
            return x[None]
        signal = x.movedim(self.shape.channel_axis, -1)
        axes = tuple(range(1, signal.dim() - 1))
        spectrum = torch.fft.rfftn(signal, dim=axes, norm=self._norm)
        return spectrum.flatten(1, -2).movedim(1, 0)

    def backward(self, coefficients: Tensor) -> Tensor:
        """Coefficients -> features in torch's layout."""
        if not self.shape.positions:
            return coefficients[0]
        *front, last = self.shape.positions
        spectrum = coefficients.movedim(0, 1).unflatten(1, (*front, last // 2 + 1))
        axes = tuple(range(1, spectrum.dim() - 1))
        signal = torch.fft.irfftn(spectrum, s=self.shape.positions, dim=axes, norm=self._norm)
        return signal.movedim(-1, self.shape.channel_axis)

    @property
    def _norm(self) -> str:
        return "ortho" if self.orthonormal else "backward"
