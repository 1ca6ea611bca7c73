"""How two signals meet in a contraction: which of their axes are summed, which they share, which each brings along.

    y[w, f, g; h, c, d] = sum over k of left[w, f, k; h, c] right[w, g, k; h, d]

k: the summed axis, of positions or of channels, at either side by itself; w: positions, and h: groups of channels, that
meet place by place; f and c, g and d: the positions and channels that the left and the right bring along.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lensnet.network.graph import Node

_AXES = ("rows", "columns", "slices")
LONGEST = 512  # a longer axis has no Gram matrix kept, only the averages of its diagonal and of the rest
MOST = 1 << 20  # more entries in the Gram matrices of an example are averaged over the groups


@dataclass(frozen=True)
class Operand:
    """One side. `summed`: its position axes that are summed, none where channels are; `shared`: how many of the others,
    counted from the first, meet those of the other side."""

    positions: tuple[int, ...]
    channels: int
    terms: int
    groups: int
    summed: tuple[int, ...]
    shared: int

    def __post_init__(self) -> None:
        if self.summed and prod(self.positions[axis] for axis in self.summed) != self.terms:
            raise ValueError(f"{self.positions} has other places than {self.terms} along what is summed")
        if self.channels % (self.groups * self.split):
            raise ValueError(f"{self.channels} channels are no {self.groups} groups of {self.split} terms")
        if len(self.kept) < self.shared:
            raise ValueError(f"{self.positions} has fewer than {self.shared} axes that are not summed")

    @property
    def split(self) -> int:
        """Terms that stand in the channels."""
        return 1 if self.summed else self.terms

    @property
    def kept(self) -> tuple[int, ...]:
        """The position axes that are not summed."""
        return tuple(axis for axis in range(len(self.positions)) if axis not in self.summed)

    @property
    def places(self) -> tuple[int, ...]:
        """The shared positions."""
        return tuple(self.positions[axis] for axis in self.kept[: self.shared])

    @property
    def free(self) -> tuple[int, ...]:
        """The positions that it brings along."""
        return tuple(self.positions[axis] for axis in self.kept[self.shared :])

    @property
    def places_count(self) -> int:
        return prod(self.places)

    @property
    def free_count(self) -> int:
        return prod(self.free)

    @property
    def free_channels(self) -> int:
        """The channels that it brings along, of each group."""
        return self.channels // (self.groups * self.split)

    def cut(self, x: Any) -> Any:
        """(N, *positions, channels) -> (N, shared places, groups, terms, free places, free channels), of numpy or
        torch; a field of one number per place has one channel."""
        one = x.shape[-1] != self.channels
        parts = (1, 1, x.shape[-1]) if one else (self.groups, self.split, self.free_channels)
        rank = len(self.positions)
        order = [0, *(1 + a for a in self.kept[: self.shared]), rank + 1, *(1 + a for a in self.summed), rank + 2,
                 *(1 + a for a in self.kept[self.shared :]), rank + 3]  # fmt: skip
        whole = x.reshape((len(x), *self.positions, *parts))
        whole = whole.permute(order) if hasattr(whole, "permute") else whole.transpose(order)
        terms = parts[1] * (self.terms if self.summed else 1)
        return whole.reshape((len(x), prod(self.places), parts[0], terms, prod(self.free), parts[2]))

    def joined(self, field: Any) -> Any:
        """(E, shared places, terms or 1, free places) -> (E, *positions): undoes `cut` of a field."""
        inner = tuple(self.positions[axis] for axis in self.summed)
        whole = field.reshape((len(field), *self.places, *inner, *self.free))
        now = [*self.kept[: self.shared], *self.summed, *self.kept[self.shared :]]
        return whole.transpose([0, *(1 + now.index(axis) for axis in range(len(self.positions)))])


def operands_of(node: Node) -> tuple[Operand, Operand]:
    """The two sides of a contraction. Raises ValueError where their axes do not meet."""
    terms, groups, shared = (int(node.parameters[name]) for name in ("terms", "groups", "shared"))
    sides = []
    for port, shape in zip(("left", "right"), node.shapes_in, strict=True):
        over = str(node.parameters[f"{port}_over"])
        rank = len(shape.positions)
        axes = tuple(range(rank)) if over == "positions" else () if over == "channels" else (_AXES.index(over),)
        if any(axis >= rank for axis in axes):
            raise ValueError(f"the {port} has no {over}")
        sides.append(Operand(shape.positions, shape.channels, terms, groups, axes, shared))
    left, right = sides
    if left.places != right.places:
        raise ValueError(f"{left.places} and {right.places} do not meet place by place")
    given = tuple(size for size in (*left.places, *left.free, *right.free) if size > 1)
    if tuple(size for size in node.shape.positions if size > 1) != given:
        raise ValueError(f"the output has the positions {given}")
    return left, right
