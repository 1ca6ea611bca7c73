"""Broadcasting: a signal that is the same along some positions of another that it meets is copied there."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Static, Unmapped
from lensnet.importers.inputs import lit, named
from lensnet.importers.layout import CHANNELS, COPIES, EXAMPLES, Atom, Axis, Layout
from lensnet.importers.operations import name_of

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def broadcast(mapper: Mapper, node: Node, left: Node, right: Node) -> tuple[Node, Beam, Node, Beam]:
    """Two signals with the positions of both, each with the node where it has them. Draws for each that lacks some a
    `grid` with one place along these axes, and an interpolation that copies it. Raises Unmapped."""
    a, b = mapper.beam(left), mapper.beam(right)
    rank = max(len(a.layout.axes), len(b.layout.axes))
    target = next((one for one, two in ((a, b), (b, a)) if _covers(one, two, rank)), None) or _joint(node, a, b, rank)
    both = [_spread(mapper, node, source, beam, target) for source, beam in ((left, a), (right, b))]
    node.args = (both[0][0], both[1][0], *node.args[2:])
    return (*both[0], *both[1])


def spread_like(mapper: Mapper, node: Node, source: Node, beam: Beam, other: Beam) -> tuple[Node, Beam]:
    """The signal at `source` copied to the positions of another one of a single channel. Raises Unmapped."""
    rank = len(other.layout.axes)
    axes = tuple(
        mine if {atom.role for atom in mine} == {CHANNELS} else theirs
        for mine, theirs in zip(_plain(beam.layout, rank), other.layout.axes, strict=True)
    )
    target = Beam("", Layout(axes), other.positions, beam.channels)
    made = _spread(mapper, node, source, beam, target)
    node.args = tuple(made[0] if one is source else one for one in node.args)
    return made


def wider(mapper: Mapper, node: Node, table: Node, beam: Beam) -> Node:
    """A tensor that depends on no input, as a light at places that a signal without places of its own meets there; the
    node of it. Raises Unmapped where the signal has places, or the table is no picture of its channels."""
    sizes, layout = [int(n) for n in table.meta["val"].shape], beam.layout
    sizes = [1] * (len(layout.axes) - len(sizes)) + sizes
    if len(sizes) != len(layout.axes) or any(n > 1 for n in beam.positions):
        raise Unmapped("a table that is larger than the signal")
    axes: list[Axis] = []
    positions: list[int] = []
    for mine, size in zip(layout.axes, sizes, strict=True):
        if not mine and size > 1:
            positions.append(size)
            axes.append((Atom(len(positions) - 1, size),))
        elif {atom.role for atom in mine} == {EXAMPLES}:
            axes.append(mine)
        elif size == layout.sizes[len(axes)]:
            axes.append(mine)
        else:
            raise Unmapped("a table that is larger than the signal")
    made = Layout(tuple(axes))
    if made.channels != beam.channels:
        raise Unmapped("a table that is larger than the signal")
    whole = mapper.before(node, torch.ops.aten.expand.default, (table, list(made.sizes)))
    mapper.values[whole] = Static(whole)
    node.replace_input_with(table, whole)
    return lit(mapper, node, whole, made, tuple(positions))


def _plain(layout: Layout, rank: int) -> tuple[Axis, ...]:
    """The axes of a tensor broadcast to `rank` axes, expansions left out."""
    axes = tuple(tuple(atom for atom in axis if atom.role != COPIES) for axis in layout.axes)
    return ((),) * (rank - len(axes)) + axes


def _covers(one: Beam, other: Beam, rank: int) -> bool:
    axes = zip(_plain(one.layout, rank), _plain(other.layout, rank), strict=True)
    return len(one.layout.axes) == rank and one.layout.copies == 1 and all(mine or not theirs for mine, theirs in axes)


def _joint(node: Node, a: Beam, b: Beam, rank: int) -> Beam:
    """The axes of both, positions numbered anew in the order of the tensor's axes."""
    axes: list[Axis] = []
    positions: list[int] = []
    for pair in zip(_plain(a.layout, rank), _plain(b.layout, rank), strict=True):
        axis = pair[0] or pair[1]
        roles = {atom.role for atom in axis}
        if any(isinstance(role, int) for role in roles):
            if len(axis) > 1:
                raise Unmapped(f"{name_of(node)} of tensors that are alike along a part of their positions")
            positions.append(axis[0].size)
            axis = (Atom(len(positions) - 1, axis[0].size),)
        axes.append(axis)
    layout = Layout(tuple(axes))
    return Beam("", layout, tuple(positions), layout.size_of(CHANNELS))


def _tiled(mapper: Mapper, node: Node, source: Node, beam: Beam, target: Beam) -> tuple[Node, Beam]:
    """A signal of which every channel meets several of the target's, in axes that it lacks, copied along these."""
    rank = len(target.layout.axes)
    mine = _plain(beam.layout, rank)
    pairs = list(zip(mine, target.layout.axes, strict=True))
    channels = [{atom.role for atom in theirs} == {CHANNELS} for _, theirs in pairs]
    missing = [theirs for (own, theirs), of in zip(pairs, channels, strict=True) if of and not own]
    times = prod(atom.size for axis in missing for atom in axis)
    fits = all(not of or not own or [(a.role, a.size) for a in own] == [(a.role, a.size) for a in theirs]
               for (own, theirs), of in zip(pairs, channels, strict=True))  # fmt: skip
    if not missing or not fits or beam.channels * times != target.channels:
        return source, beam
    shape = [int(n) for n in source.meta["val"].shape]
    shape = [1] * (rank - len(shape)) + shape
    here = mapper.before(node, torch.ops.aten.reshape.default, (source, shape))
    sizes = [n if not of else whole for n, of, whole in zip(shape, channels, target.layout.sizes, strict=True)]
    here = mapper.before(node, torch.ops.aten.expand.default, (here, sizes))
    axes = tuple(theirs if of else own for (own, theirs), of in zip(pairs, channels, strict=True))
    made = Beam("", Layout(axes), beam.positions, target.channels)
    return here, mapper.one(here, "tile", {"times": times}, made, source, name=mapper.name_for(node, "tile"))


def _spread(mapper: Mapper, node: Node, source: Node, beam: Beam, target: Beam) -> tuple[Node, Beam]:
    source, beam = _tiled(mapper, node, source, beam, target)
    if beam.layout.like(target.layout) and beam.positions == target.positions:
        return source, beam
    grid = [1] * len(target.positions)
    seen: list[Axis] = []
    for mine, theirs in zip(_plain(beam.layout, len(target.layout.axes)), target.layout.axes, strict=True):
        whole = [atom.role for atom in theirs if isinstance(atom.role, int)]
        alike = [(a.size, a.stride) for a in mine] == [(a.size, a.stride) for a in theirs]
        if mine and not (alike and all(isinstance(a.role, int) == isinstance(b.role, int) and (
            isinstance(a.role, int) or a.role == b.role) for a, b in zip(mine, theirs, strict=True))):  # fmt: skip
            raise Unmapped(f"{name_of(node)} across layouts")
        if not mine and any(atom.role in (CHANNELS, EXAMPLES) for atom in theirs):
            raise Unmapped(f"{name_of(node)} of tensors that are alike along their {theirs[0].role}")
        for role in whole if mine else ():
            grid[role] = target.positions[role]
        seen.append(theirs if mine else ())
    if beam.channels != target.channels or sorted(n for n in beam.positions if n > 1) != sorted(
        n for n in grid if n > 1
    ):
        raise Unmapped(f"{name_of(node)} of tensors whose positions are not each other's")
    shape = [int(n) for n in source.meta["val"].shape]
    if any(n not in (1, whole) for n, whole in zip(shape[::-1], target.layout.sizes[::-1], strict=False)):
        raise Unmapped(f"{name_of(node)} of tensors whose positions are not each other's")
    here = mapper.before(node, torch.ops.aten.reshape.default, (source, [1] * (len(seen) - len(shape)) + shape))
    layout = Layout(tuple(_copied(axis, n) for axis, n in zip(seen, here.meta["val"].shape, strict=True)))
    laid = Beam("", layout, tuple(grid), beam.channels)
    if tuple(grid) == beam.positions:
        mapper.values[here] = Beam(beam.path, layout, beam.positions, beam.channels)
    else:
        kind, parameters = ("grid", named(grid)) if len(grid) > 1 else ("tokens", {})
        mapper.one(here, kind, parameters, laid, source)
    wide = mapper.before(node, torch.ops.aten.expand.default, (here, list(target.layout.sizes)))
    made = Beam("", target.layout, target.positions, target.channels)
    name = mapper.name_for(node, "spread")
    return wide, mapper.one(wide, "resample", dict(named(target.positions)), made, here, name=name)


def _copied(axis: Axis, size: int) -> Axis:
    """An axis of a tensor that was expanded before: it holds copies."""
    return axis or ((Atom(COPIES, int(size)),) if size > 1 else ())
