"""Operations that take a part: of the channels (`slice`), of a sequence (`take`, `pick`), of an image (`frame`)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Index, Static, Unmapped, Value, sizes_of
from lensnet.importers.layout import CHANNELS, COPIES, Atom, Layout
from lensnet.importers.operations import argument, arguments, name_of
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.layout import alone, regridded
from lensnet.importers.rules.windows import framed

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("getitem")
def getitem(mapper: Mapper, node: Node) -> Value:
    value = mapper.values.get(arguments(node)[0])
    if isinstance(value, Beam) and arguments(node)[1] == 0:
        return value  # the first of several outputs stands for all
    raise Unmapped("one of several outputs")


@rule("select")
def select(mapper: Mapper, node: Node) -> Value:
    source = arguments(node)[0]
    beam = mapper.beam(source)
    axis = int(arguments(node)[1]) % len(beam.layout.axes)
    index = int(arguments(node)[2]) % beam.layout.sizes[axis]
    assert isinstance(source, Node)
    return taken(mapper, node, source, axis, index, 1, 1, drop=True)


@rule("slice", "narrow")
def sliced(mapper: Mapper, node: Node) -> Value:
    source = arguments(node)[0]
    if isinstance(mapper.values.get(source), Index):
        return Index()
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    axis = int(argument(node, 1, "dim", 0)) % len(beam.layout.axes)
    length = beam.layout.sizes[axis]
    start = _inside(argument(node, 2, "start", 0) or 0, length)
    end = argument(node, 3, "end", sys.maxsize)
    end = length if end is None else _inside(end, length)
    step = int(argument(node, 4, "step", 1))
    return taken(mapper, node, source, axis, start, max(0, -(-(end - start) // step)), step, False)


@rule("index", "index_select")
def index(mapper: Mapper, node: Node) -> Value:
    """A fixed list of places along one axis, where they follow one another; rows of a table at computed places."""
    source = arguments(node)[0]
    if mapper.static(source):
        return Static(node)
    beam = mapper.beam(source)
    if name_of(node) == "index_select":
        axis, given = int(arguments(node)[1]) % len(beam.layout.axes), arguments(node)[2]
    else:
        places = [(axis, one) for axis, one in enumerate(arguments(node)[1]) if one is not None]
        if len(places) != 1:
            raise Unmapped("a choice by several lists of places")
        ((axis, given),) = places
    found = mapper.value_of(given) if mapper.static(given) else None
    if found is None or found.dim() != 1 or found.dtype == torch.bool:
        raise Unmapped("a choice that depends on the input")
    steps = {int(step) for step in found.diff()}
    if len(steps) > 1 or min(steps, default=1) < 1:
        raise Unmapped("a choice of places in no order")
    first = int(found[0]) % beam.layout.sizes[axis]
    return taken(mapper, node, source, axis, first, len(found), steps.pop() if steps else 1, False)


def _inside(place: Any, length: int) -> int:
    place = int(place)
    return min(max(place + length if place < 0 else place, 0), length)


def taken(mapper: Mapper, node: Node, source: Node, axis: int, start: int, size: int, step: int, drop: bool) -> Value:
    """`size` places of one axis, from `start` on; the axis is dropped when `drop`."""
    beam = mapper.beam(source)
    layout = beam.layout
    atoms = layout.axes[axis]
    if size == layout.sizes[axis] and step == 1 and start == 0:
        return alone(mapper, node, source, beam, _dropped(layout, axis) if drop and not atoms else layout)
    if atoms and size and {one.role for one in atoms} == {CHANNELS} and (len(atoms) > 1 or step != 1):
        source, beam = _in_order(mapper, node, source, beam, axis, step)
        if beam.layout.sizes[axis] != layout.sizes[axis]:
            raise Unmapped("every second channel of some heads")
        (atom,), start, step = beam.layout.axes[axis], start // step, 1
        return _channels(mapper, node, source, beam, axis, atom, start, size, step, drop)
    if len(atoms) != 1 or size == 0:
        raise Unmapped("a part of several axes at once")
    (atom,) = atoms
    if atom.role == COPIES:
        new = layout.with_axis(axis, COPIES, size)
        return beam.laid(_dropped(new, axis) if drop else new)
    if atom.role == CHANNELS:
        return _channels(mapper, node, source, beam, axis, atom, start, size, step, drop)
    if isinstance(atom.role, int) and atom.size == beam.positions[atom.role]:
        return _positions(mapper, node, source, beam, axis, atom.role, start, size, step, drop)
    raise Unmapped("some of the examples" if not isinstance(atom.role, int) else "a part of a window")


def _in_order(mapper: Mapper, node: Node, source: Node, beam: Beam, axis: int, step: int) -> tuple[Node, Beam]:
    """Channels that lie along an axis in another order than the network has them, or are taken every so many: put in
    the order of the axis, and these together."""
    if beam.layout.sizes[axis] != beam.channels or beam.channels % step:
        raise Unmapped("a part of several axes at once")
    outer = beam.layout.axes[axis][0].size if len(beam.layout.axes[axis]) > 1 else 1
    here = mapper.before(node, torch.ops.aten.alias.default, (source,))
    made = Beam("", beam.layout.with_axis(axis, CHANNELS, beam.channels), beam.positions, beam.channels)
    groups = beam.channels // (step if step > 1 else outer)
    made = mapper.one(here, "channel_shuffle", {"groups": groups}, made, source)
    node.replace_input_with(source, here)
    return here, made


@rule("channel_shuffle", "native_channel_shuffle")
def shuffled(mapper: Mapper, node: Node) -> Value:
    source, groups = arguments(node)[0], int(arguments(node)[1])
    beam = mapper.beam(source)
    if not beam.layout.roles(1) <= {CHANNELS} or beam.layout.sizes[1] != beam.channels:
        raise Unmapped("a shuffle whose second axis is not the channels")
    made = beam.laid(beam.layout.with_axis(1, CHANNELS, beam.channels))
    return mapper.one(node, "channel_shuffle", {"groups": groups}, made, source)


def _dropped(layout: Layout, axis: int) -> Layout:
    return Layout((*layout.axes[:axis], *layout.axes[axis + 1 :]))


def _channels(
    mapper: Mapper, node: Node, source: Node, beam: Beam, axis: int, atom: Atom,
    start: int, size: int, step: int, drop: bool,
) -> Beam:  # fmt: skip
    if step != 1:
        raise Unmapped("every second channel")
    old, new = atom.size * atom.stride, size * atom.stride
    axes = []
    for place, pieces in enumerate(beam.layout.axes):
        axes.append(
            tuple(
                Atom(CHANNELS, size, atom.stride)
                if place == axis
                else Atom(piece.role, piece.size, piece.stride // old * new)
                if piece.role == CHANNELS and piece.stride >= old
                else piece
                for piece in pieces
                if not (place == axis and size == 1)
            )
        )
    layout = Layout(tuple(axes))
    made = Beam("", _dropped(layout, axis) if drop else layout, beam.positions, beam.channels // old * new)
    parameters = {"start": start * atom.stride, "width": new}
    if old != beam.channels:
        parameters["period"] = old
    return mapper.one(node, "slice", parameters, made, source)


def _positions(
    mapper: Mapper, node: Node, source: Node, beam: Beam, axis: int, role: int,
    start: int, size: int, step: int, drop: bool,
) -> Beam:  # fmt: skip
    layout = beam.layout.with_axis(axis, role, size)
    if len(beam.positions) == 1:
        if drop:
            made = Beam("", _dropped(layout, axis), (), beam.channels)
            return mapper.one(node, "pick", {"index": start}, made, source)
        made = Beam("", layout, (size,), beam.channels)
        return mapper.one(node, "take", {"start": start, "step": step, "size": size}, made, source)
    rank = len(beam.positions)
    positions = tuple(size if place == role else n for place, n in enumerate(beam.positions))
    parameters = {
        "start": [start if place == role else 0 for place in range(rank)],
        "step": [step if place == role else 1 for place in range(rank)],
        "size": list(positions),
    }
    made = Beam("", layout, positions, beam.channels)
    if not drop:
        return mapper.one(node, framed(rank), parameters, made, source)
    here = mapper.before(node, torch.ops.aten.slice.Tensor, (source, axis, start, start + 1))
    name = mapper.name_for(node, "row")
    mapper.values[here] = mapper.one(here, framed(rank), parameters, made, source, name=name)
    node.target, node.args, node.kwargs = torch.ops.aten.select.int, (here, axis, 0), {}
    return regridded(mapper, node, here, _dropped(layout, axis), [place for place in range(rank) if place != role])


@rule("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def pad(mapper: Mapper, node: Node) -> Value:
    source, given = arguments(node)[0], [mapper.number(amount) for amount in arguments(node)[1]]
    amounts = [int(amount) for amount in given if amount is not None]
    if len(amounts) < len(given):
        raise Unmapped("padding that depends on the data")
    mode, value = argument(node, 2, "mode", "constant"), argument(node, 3, "value", None)
    if isinstance(mode, int | float):
        mode, value = "constant", mode
    mode = name_of(node).partition("_pad")[0] if "tion_pad" in name_of(node) else mode
    edges = {"constant": "dark", "reflect": "mirror", "reflection": "mirror", "replicate": "copy",
             "replication": "copy", "circular": "wrap"}  # fmt: skip
    if mode == "constant" and value not in (None, 0, 0.0):
        raise Unmapped(f"padding with {value}")
    rank = len(sizes_of(node))
    moves = {rank - 1 - place: pair for place, pair in enumerate(zip(amounts[::2], amounts[1::2], strict=True))}
    before = {axis: -pair[0] for axis, pair in moves.items()}
    return _framed(mapper, node, source, before, {}, edges[mode])


@rule("roll")
def roll(mapper: Mapper, node: Node) -> Value:
    shifts, axes = (_each(one) for one in (arguments(node)[1], argument(node, 2, "dims", [])))
    if not axes:
        raise Unmapped("a roll of the flattened tensor")
    rank = len(sizes_of(node))
    return _framed(mapper, node, arguments(node)[0], {a % rank: -s for a, s in zip(axes, shifts, strict=True)}, {},
                   "wrap")  # fmt: skip


@rule("flip")
def flip(mapper: Mapper, node: Node) -> Value:
    sizes = sizes_of(node)
    axes = [axis % len(sizes) for axis in _each(argument(node, 1, "dims"))]
    start = {axis: sizes[axis] - 1 for axis in axes}
    return _framed(mapper, node, arguments(node)[0], start, dict.fromkeys(axes, -1), "dark")


def _each(value: Any) -> list[int]:
    return [int(one) for one in value] if isinstance(value, list | tuple) else [int(value)]


def _framed(mapper: Mapper, node: Node, source: Any, starts: dict[int, int], steps: dict[int, int], edge: str) -> Value:
    """Whole position axes moved, turned, cut or padded: tensor axis -> first place and step."""
    beam, sizes = mapper.beam(source), sizes_of(node)
    layout, rank = beam.layout, len(beam.positions)
    start, step, size = [0] * rank, [1] * rank, list(beam.positions)
    for axis in starts:
        if layout.sizes[axis] == sizes[axis] and not starts[axis] and steps.get(axis, 1) == 1:
            continue
        role = next(iter(layout.roles(axis)), None)
        if len(layout.axes[axis]) != 1 or not isinstance(role, int) or layout.sizes[axis] != beam.positions[role]:
            raise Unmapped("padding or turning of something else than positions")
        start[role], step[role], size[role] = starts[axis], steps.get(axis, 1), sizes[axis]
        layout = layout.with_axis(axis, role, sizes[axis])
    if tuple(size) == beam.positions and not any(start) and set(step) <= {1}:
        return beam
    parameters: dict[str, Any] = {"start": start, "step": step, "size": size} if rank > 1 else {
        "start": start[0], "step": step[0], "size": size[0]}  # fmt: skip
    parameters = {key: value for key, value in parameters.items() if key != "step" or value not in (1, [1] * rank)}
    if edge != "dark":
        parameters["edge"] = edge
    made = Beam("", layout, tuple(size), beam.channels)
    return mapper.one(node, framed(rank), parameters, made, source)
