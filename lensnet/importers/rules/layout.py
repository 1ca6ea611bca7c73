"""Operations that only rearrange: the signal passes unchanged, its layout is followed.

Three things are drawn all the same, because from there on the network has another shape: an image that becomes a
sequence, a sequence that becomes an image, and positions that become channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Index, Unmapped, Value, sizes_of
from lensnet.importers.inputs import named
from lensnet.importers.layout import CHANNELS, COPIES, EXAMPLES, Atom, Layout, Role
from lensnet.importers.operations import argument, arguments

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_SAME = {"contiguous", "clone", "to", "_to_copy", "type_as", "alias", "detach", "lift_fresh_copy", "float", "double",
         "type", "half", "bfloat16", "cpu", "cuda", "detach_", "requires_grad_"}  # fmt: skip
_SHAPED = {"view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "_unsafe_view", "ravel"}


def relaid(layout: Layout, node: Node, name: str) -> Layout:
    """The layout behind a rearranging operation. Raises LayoutError or Unmapped."""
    rank = len(layout.axes)
    if name in _SAME:
        return layout
    if name in _SHAPED:
        return layout.reshaped(sizes_of(node))
    if name == "permute":
        order = argument(node, 1, "dims")
        return layout.permuted(order if isinstance(order, list | tuple) else arguments(node)[1:])
    if name in ("transpose", "swapaxes", "swapdims"):
        order = list(range(rank))
        a, b = int(arguments(node)[1]), int(arguments(node)[2])
        order[a % rank], order[b % rank] = order[b % rank], order[a % rank]
        return layout.permuted(order)
    if name in ("t", "numpy_T", "T", "mT", "adjoint", "H"):
        order = list(range(rank))
        order = order[::-1] if name in ("t", "numpy_T", "T") else [*order[:-2], order[-1], order[-2]]
        return layout.permuted(order)
    if name in ("movedim", "moveaxis"):
        return layout.permuted(_moved(rank, arguments(node)[1], arguments(node)[2]))
    if name == "unsqueeze":
        return layout.unsqueezed(int(arguments(node)[1]))
    if name == "squeeze":
        axes = argument(node, 1, "dim")
        if axes is None:
            axes = range(rank)
        return layout.squeezed([axes] if isinstance(axes, int) else axes)
    if name in ("expand", "expand_as", "broadcast_to"):
        return layout.expanded(sizes_of(node))
    if name in ("repeat_interleave", "repeat"):
        return _copied(layout, node, name)
    raise Unmapped(f"no rule for {name}")


def _copied(layout: Layout, node: Node, name: str) -> Layout:
    """repeat_interleave(x, n, dim) and repeat(x, sizes): copies inside or outside of what an axis holds."""
    if name == "repeat_interleave":
        count, axis = argument(node, 1, "repeats"), argument(node, 2, "dim")
        if not isinstance(count, int) or axis is None:
            raise Unmapped("a repetition that depends on the data")
        axes = list(layout.axes)
        axes[axis] = (*axes[axis], Atom(COPIES, count))
        return Layout(tuple(axes))
    counts = argument(node, 1, "repeats")
    counts = list(counts) if isinstance(counts, list | tuple) else list(arguments(node)[1:])
    axes = [()] * (len(counts) - len(layout.axes)) + list(layout.axes)
    return Layout(tuple((Atom(COPIES, n), *axis) if n > 1 else axis for n, axis in zip(counts, axes, strict=True)))


def _moved(rank: int, source: Any, target: Any) -> list[int]:
    sources = [source] if isinstance(source, int) else list(source)
    targets = [target] if isinstance(target, int) else list(target)
    pairs = dict(zip([t % rank for t in targets], [s % rank for s in sources], strict=True))
    rest = iter(axis for axis in range(rank) if axis not in pairs.values())
    return [pairs[place] if place in pairs else next(rest) for place in range(rank)]


def rearranged(mapper: Mapper, node: Node, name: str) -> Value:
    source = arguments(node)[0]
    value = mapper.values.get(source) if isinstance(source, Node) else None
    if isinstance(value, Index):
        return value
    beam = mapper.beam(source)
    layout = relaid(beam.layout, node, name)
    assert isinstance(source, Node)
    if name in _SHAPED:
        return _drawn(mapper, node, source, beam, layout)
    if name == "repeat_interleave" and (repeated := _each_repeated(mapper, node, source, beam)) is not None:
        return repeated
    return alone(mapper, node, source, beam, layout)


def alone(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout) -> Beam:
    """The signal laid out anew; a sequence of one place that lost its axis is a vector."""
    if beam.positions == (1,) and len(layout.axes) == 2 < len(beam.layout.axes):
        return mapper.one(node, "pick", {"index": 0}, Beam("", layout, (), beam.channels), source)
    return beam.laid(layout)


def _each_repeated(mapper: Mapper, node: Node, source: Node, beam: Beam) -> Beam | None:
    """Whole positions, each as many times: an interpolation by the nearest; None where something else is repeated."""
    axis = int(argument(node, 2, "dim")) % len(beam.layout.axes)
    role = next(iter(beam.layout.roles(axis)), 0 if beam.positions == (1,) else None)
    if not isinstance(role, int) or beam.layout.axes[axis] not in ((), (Atom(role, beam.positions[role]),)):
        return None
    layout = beam.layout.with_axis(axis, role, sizes_of(node)[axis])
    positions = tuple(layout.sizes[axis] if place == role else n for place, n in enumerate(beam.positions))
    return mapper.one(node, "resample", dict(named(positions)), Beam("", layout, positions, beam.channels), source)


def _drawn(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout) -> Beam:
    """A reshape: plain, unless it makes a sequence of an image or channels of positions."""
    ranks = range(len(beam.positions))
    for place, axis in enumerate(layout.axes):
        roles = [atom.role for atom in axis]
        whole = [r for r in ranks if prod(atom.size for atom in axis if atom.role == r) == beam.positions[r]]
        grid = [r for r in roles if isinstance(r, int)]
        if CHANNELS in roles and grid and len(whole) == len(beam.positions) and EXAMPLES not in roles:
            if prod(atom.size for atom in axis if atom.role == CHANNELS) == beam.channels:
                flat = layout.with_axis(place, CHANNELS, beam.channels * prod(beam.positions))
                made = Beam("", flat, (), beam.channels * prod(beam.positions))
                return mapper.one(node, "flatten", {}, made, source)
        if CHANNELS in roles and len(grid) == 1 and whole and len(beam.positions) > 1 and EXAMPLES not in roles:
            all_there = prod(atom.size for atom in axis if atom.role == CHANNELS) == beam.channels
            if layout.axes_of(CHANNELS) == [place] and all_there:
                return _stacked(mapper, node, source, beam, layout, place)
        ordered = [atom.role for atom in axis] == sorted(roles, key=str) and all(isinstance(r, int) for r in roles)
        if len(beam.positions) > 1 and ordered and layout.sizes[place] == prod(beam.positions) > max(beam.positions):
            made = Beam("", layout.with_axis(place, 0, prod(beam.positions)), (prod(beam.positions),), beam.channels)
            return mapper.one(node, "tokens", {}, made, source)
    return _as_picture(mapper, node, source, beam, layout) or alone(mapper, node, source, beam, layout)


def _stacked(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout, place: int) -> Beam:
    """One position axis becomes channels; the others are numbered anew."""
    (gone,) = (int(atom.role) for atom in layout.axes[place] if isinstance(atom.role, int))
    length = beam.positions[gone]
    axes = [tuple(Atom(int(a.role) - (int(a.role) > gone), a.size, a.stride) if isinstance(a.role, int) else a
                  for a in axis) for axis in layout.axes]  # fmt: skip
    made = Layout(tuple(axes)).with_axis(place, CHANNELS, beam.channels * length)
    positions = (*beam.positions[:gone], *beam.positions[gone + 1 :])
    parameters = {"along": ("rows", "columns", "slices")[gone], "places": length}
    return mapper.one(node, "stack", parameters, Beam("", made, positions, beam.channels * length), source)


def _as_picture(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout) -> Beam | None:
    """A sequence whose axis is cut into rows and columns, or both into windows, is a picture from there on."""
    places = layout.axes_of(0)
    if len(beam.positions) == 1 and len(places) == 4:
        return _as_windows(mapper, node, source, beam, layout, places)
    if len(beam.positions) != 1 or len(places) != 2 or any(len(layout.axes[place]) != 1 for place in places):
        return None
    size = tuple(layout.sizes[place] for place in places)
    if prod(size) != beam.positions[0] or layout.axes[places[1]][0].stride != 1:
        return None
    for role, place in enumerate(places):
        layout = layout.with_axis(place, role, size[role])
    return mapper.one(node, "grid", named(size), Beam("", layout, size, beam.channels), source)


def _as_windows(
    mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout, places: list[int]
) -> Beam | None:  # fmt: skip
    """A sequence cut into (rows, rows of a window, columns, columns of a window)."""
    outer, rows, across, columns = (layout.sizes[place] for place in places)
    strides = [atom.stride for place in places for atom in layout.axes[place]]
    if strides != [rows * across * columns, across * columns, columns, 1]:
        return None
    size = outer * rows, across * columns
    pieces = (Atom(0, outer, rows), Atom(0, rows), Atom(1, across, columns), Atom(1, columns))
    axes = list(layout.axes)
    for place, piece in zip(places, pieces, strict=True):
        axes[place] = (piece,)
    return mapper.one(node, "grid", named(size), Beam("", Layout(tuple(axes)), size, beam.channels), source)


def as_grid(mapper: Mapper, node: Node, source: Node, axes: tuple[int, ...]) -> tuple[Node, Beam]:
    """The signal at `source`, as `node` takes it, with its positions along `axes`, each one whole position axis, and
    the node where it has that form. Draws `grid` where a sequence is read as an image."""
    beam = mapper.beam(source)
    sizes = beam.layout.sizes
    rank = len(axes)
    if len(beam.positions) == rank and all(
        beam.layout.roles(axis) <= {role} and sizes[axis] == beam.positions[role] for role, axis in enumerate(axes)
    ):
        return source, beam
    wanted = tuple(sizes[axis] for axis in axes)
    kept = [role for role, size in enumerate(beam.positions) if size > 1]
    if len(kept) == rank < len(beam.positions) and all(
        beam.layout.roles(axis) == {role} and sizes[axis] == beam.positions[role]
        for role, axis in zip(kept, axes, strict=True)
    ):
        here = mapper.between(node, source)
        return here, regridded(mapper, here, source, beam.layout, kept)
    if rank > 1 and len(beam.positions) == 1 and prod(wanted) == beam.positions[0]:
        layout = beam.layout
        order = [atom for axis in axes for atom in layout.axes[axis]]
        strides = [atom.stride for atom in order]
        if all(atom.role == 0 for atom in order) and strides == sorted(strides, reverse=True):
            for role, axis in enumerate(axes):
                layout = layout.with_axis(axis, role, sizes[axis])
            made = Beam("", layout, wanted, beam.channels)
            here = mapper.between(node, source)
            return here, mapper.one(here, "grid", named(wanted), made, source)
    if not beam.positions and prod(wanted) > 1 and all(beam.layout.roles(axis) <= {CHANNELS} for axis in axes):
        here = mapper.between(node, source)
        return here, unflattened(mapper, here, source, beam, axes)
    if not beam.positions and set(wanted) == {1}:
        made = Beam("", beam.layout, wanted, beam.channels)
        here = mapper.between(node, source)
        kind, parameters = ("tokens", {}) if rank == 1 else ("grid", named(wanted))
        return here, mapper.one(here, kind, parameters, made, source)
    raise Unmapped(f"a tensor {sizes} whose axes {axes} are not the positions {beam.positions}")


def regridded(mapper: Mapper, node: Node, source: Node, layout: Layout, kept: Sequence[int]) -> Beam:
    """The signal at `source`, laid out as `layout` at `node`, with the position axes `kept`: others are one long."""
    beam = mapper.beam(source)
    new: dict[Role, Role] = {role: place for place, role in enumerate(kept)}
    axes = (tuple(Atom(new.get(a.role, a.role), a.size, a.stride) for a in axis) for axis in layout.axes)
    positions = tuple(beam.positions[role] for role in kept)
    made = Beam("", Layout(tuple(axes)), positions, beam.channels)
    kind, parameters = ("grid", named(positions)) if len(positions) > 1 else ("tokens", {})
    return mapper.one(node, kind, parameters, made, source)


def unflattened(mapper: Mapper, node: Node, source: Node, beam: Beam, axes: tuple[int, ...]) -> Beam:
    """Channels that lie along `axes` of a tensor become positions."""
    layout, size = beam.layout, tuple(beam.layout.sizes[axis] for axis in axes)
    count = prod(size)
    for role, axis in enumerate(axes):
        layout = layout.with_axis(axis, role, size[role])
    left = [axis for axis in layout.axes_of(CHANNELS) if len(layout.axes[axis]) == 1]
    if beam.channels % count or len(left) > 1 or len(left) != len(layout.axes_of(CHANNELS)):
        raise Unmapped("channels of several axes beside those that are read as positions")
    for axis in left:
        layout = layout.with_axis(axis, CHANNELS, beam.channels // count)
    made = Beam("", layout, size, beam.channels // count)
    return mapper.one(node, "unflatten", dict(named(size)), made, source)


def turned(mapper: Mapper, node: Node, source: Node) -> tuple[Node, Beam]:
    """The signal at `source`, as `node` takes it, with tokens and channels exchanged, and the node where it is so."""
    beam = mapper.beam(source)
    swap: dict[Role, Role] = {CHANNELS: 0, 0: CHANNELS}
    axes = (tuple(Atom(swap.get(a.role, a.role), a.size, a.stride) for a in axis) for axis in beam.layout.axes)
    made = Beam("", Layout(tuple(axes)), (beam.channels,), beam.positions[0])
    members = mapper.clusters[node].members if node in mapper.clusters else {node}
    users = [one for one in mapper.graph.nodes if one in members and source in one.all_input_nodes]
    here = mapper.before(users[0], torch.ops.aten.alias.default, (source,))
    made = mapper.one(here, "transpose", {}, made, source)
    for one in users:
        one.replace_input_with(source, here)
    return here, made
