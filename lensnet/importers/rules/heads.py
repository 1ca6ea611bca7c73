"""Dense layers over a part of the channels: those of a head."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Value
from lensnet.importers.layout import CHANNELS, Atom, Layout
from lensnet.importers.rules.initial import initial

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def each_head(layout: Layout, sizes: tuple[int, ...]) -> bool:
    """Whether a matrix for every head meets the channels of heads, (..., heads, T, width) @ (heads, width, units)."""
    whole = len(sizes) > 2 and len(layout.axes) > 2 and set(sizes[:-3]) <= {1}
    return (
        whole
        and all(layout.roles(axis) == {CHANNELS} for axis in (-1, -3))
        and (layout.size_of(CHANNELS) == sizes[-3] * sizes[-2])
    )


def on_heads(mapper: Mapper, node: Node, source: Any, weight: Any, bias: Any, units: int, tied: bool = True) -> Value:
    """A dense layer over the last axis, which holds a part of the channels: the same one for all parts, or one each."""
    beam = mapper.beam(source)
    last = beam.layout.axes[-1]
    rest = sorted((atom for axis in beam.layout.axes[:-1] for atom in axis if atom.role == CHANNELS),
                  key=lambda atom: atom.stride)  # fmt: skip
    new: dict[Atom, Atom] = {}
    stride = units
    for atom in rest:
        new[atom] = Atom(CHANNELS, atom.size, stride)
        stride *= atom.size
    fan_in = prod(atom.size for atom in last)
    axes = tuple(tuple(new.get(atom, atom) for atom in axis) for axis in beam.layout.axes[:-1])
    made = Beam("", Layout((*axes, (Atom(CHANNELS, units),) if units > 1 else ())), beam.positions, stride)
    laws = mapper.law(weight), None if bias is None else mapper.law(bias)
    parameters = {"heads": beam.channels // fan_in, "units": units, **({} if tied else {"tied": False})}
    return mapper.add(
        node, "head_linear", parameters | initial(*laws, fan_in), [(source, beam)], made, owns=[weight, bias]
    )
