"""What a tensor looks like between two components."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal


@dataclass(frozen=True)
class Shape:
    """The shape of one example at an edge.

    `positions` are the axes that a weight is shared over: none for a plain vector, `(T,)` for a sequence of tokens,
    `(H, W)` for an image, `(D, H, W)` for a volume or a film. The torch layout follows from their number: `(N, C)`,
    `(N, T, C)`, `(N, C, H, W)` and `(N, C, D, H, W)`;
    token ids (`kind="ids"`) are integers `(N, T)`. A `state` is the iterate of an algorithm, `channels` numbers.
    """

    channels: int
    positions: tuple[int, ...] = ()
    kind: Literal["real", "ids", "state"] = "real"

    @property
    def position_count(self) -> int:
        return prod(self.positions)

    @property
    def features(self) -> int:
        """Numbers per example."""
        return self.channels * self.position_count

    @property
    def channel_axis(self) -> int:
        """Axis of the channels in the torch layout (0 is the example)."""
        return 2 if len(self.positions) == 1 else 1

    def tensor_shape(self, examples: int) -> tuple[int, ...]:
        if self.kind == "ids":
            return (examples, *self.positions)
        if len(self.positions) == 1:
            return (examples, *self.positions, self.channels)
        return (examples, self.channels, *self.positions)

    def __str__(self) -> str:
        if self.kind == "ids":
            return f"ids[{'x'.join(map(str, self.positions))}]"
        if self.kind == "state":
            return f"state[{self.channels}]"
        if not self.positions:
            return f"{self.channels}"
        return f"{self.channels} @ {'x'.join(map(str, self.positions))}"
