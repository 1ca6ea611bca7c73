"""Neighbouring places whose channels are laid side by side: patches cut by a reshape, tokens that are merged."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam
from lensnet.importers.layout import CHANNELS, Atom, Layout

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def windowed(mapper: Mapper, node: Node, source: Node) -> tuple[Node, Beam]:
    """The signal at `source`, as `node` takes it over its last axis, and the node where it has that form. Draws
    `unfold` where that axis holds all channels of a window of places; else the signal as it is."""
    beam = mapper.beam(source)
    kernel = _window(beam)
    if kernel is None:
        return source, beam
    if len(kernel) == 1:
        here = mapper.before(node, torch.ops.aten.alias.default, (source,))
        grid = (*beam.positions, 1)
        beam = Beam("", beam.layout, grid, beam.channels)
        mapper.one(here, "grid", {"rows": grid[0], "columns": 1}, beam, source)
        node.replace_input_with(source, here)
        source, kernel = here, (*kernel, 1)
    count, positions = prod(kernel), tuple(n // k for n, k in zip(beam.positions, kernel, strict=True))
    places = {0: kernel[1], 1: 1}
    last = tuple(
        Atom(CHANNELS, a.size, places[a.role] if isinstance(a.role, int) else a.stride * count)
        for a in beam.layout.axes[-1]
    )  # fmt: skip
    rest = tuple(
        tuple(Atom(a.role, a.size, a.stride // kernel[a.role]) if isinstance(a.role, int) else a for a in axis)
        for axis in beam.layout.axes[:-1]
    )
    here = mapper.before(node, torch.ops.aten.alias.default, (source,))
    made = Beam("", Layout((*rest, last)), positions, beam.channels * count)
    mapper.one(here, "unfold", {"kernel": list(kernel), "stride": list(kernel)}, made, source)
    node.replace_input_with(source, here)
    return _in_a_row(mapper, node, here)


def _window(beam: Beam) -> tuple[int, ...] | None:
    """Places along each axis of positions that the last axis of a tensor holds with all their channels; None where it
    holds none, or something else."""
    last = beam.layout.axes[-1]
    places = [atom for atom in last if isinstance(atom.role, int)]
    channels = prod(atom.size for atom in last if atom.role == CHANNELS)
    others = {atom.role for atom in last} - {CHANNELS, *range(len(beam.positions))}
    if not places or others or channels != beam.channels or len(beam.positions) > 2 or channels == 1:
        return None
    if any(atom.stride != 1 for atom in places) or len({atom.role for atom in places}) < len(places):
        return None
    sizes = {atom.role: atom.size for atom in places}
    return tuple(sizes.get(role, 1) for role in range(len(beam.positions)))


def _in_a_row(mapper: Mapper, node: Node, source: Node) -> tuple[Node, Beam]:
    """Windows that lie along one axis of the tensor are tokens."""
    beam = mapper.beam(source)
    if 1 not in beam.positions and len({*beam.layout.axes_of(0), *beam.layout.axes_of(1)}) > 1:
        return source, beam
    row = beam.positions[1]
    layout = Layout(tuple(
        tuple(Atom(0, a.size, a.stride * (row if a.role == 0 else 1)) if isinstance(a.role, int) else a for a in axis)
        for axis in beam.layout.axes
    ))  # fmt: skip
    here = mapper.before(node, torch.ops.aten.alias.default, (source,))
    made = Beam("", layout.reshaped(layout.sizes), (prod(beam.positions),), beam.channels)
    mapper.one(here, "tokens", {}, made, source)
    node.replace_input_with(source, here)
    return here, mapper.beam(here)
