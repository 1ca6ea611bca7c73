"""Operations that take a part: of the channels (`slice`), of a sequence (`take`, `pick`), of an image (`frame`)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Index, Unmapped, Value
from lensnet.importers.layout import CHANNELS, COPIES, Atom, Layout
from lensnet.importers.mapping import rule
from lensnet.importers.operations import argument, arguments

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


def _inside(place: Any, length: int) -> int:
    place = int(place)
    return min(max(place + length if place < 0 else place, 0), length)


def taken(mapper: Mapper, node: Node, source: Node, axis: int, start: int, size: int, step: int, drop: bool) -> Value:
    """`size` places of one axis, from `start` on; the axis is dropped when `drop`."""
    beam = mapper.beam(source)
    layout = beam.layout
    atoms = layout.axes[axis]
    if size == layout.sizes[axis] and step == 1 and start == 0:
        return beam.laid(_dropped(layout, axis) if drop and not atoms else layout)
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
    if drop:
        raise Unmapped("one row of an image")
    positions = tuple(size if place == role else n for place, n in enumerate(beam.positions))
    parameters = {
        "start": [start if place == role else 0 for place in range(2)],
        "step": [step if place == role else 1 for place in range(2)],
        "size": list(positions),
    }
    return mapper.one(node, "frame", parameters, Beam("", layout, positions, beam.channels), source)


@rule("pad", "constant_pad_nd")
def pad(mapper: Mapper, node: Node) -> Value:
    source = arguments(node)[0]
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    amounts = [int(amount) for amount in arguments(node)[1]]
    mode, value = argument(node, 2, "mode", "constant"), argument(node, 3, "value", None)
    if isinstance(mode, int | float):
        mode, value = "constant", mode
    if not any(amounts):
        return beam
    if mode != "constant" or value not in (None, 0, 0.0):
        raise Unmapped(f"padding in mode {mode}")
    layout, positions = beam.layout, list(beam.positions)
    starts = [0] * len(positions)
    for place, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        axis = len(layout.axes) - 1 - place
        if not (before or after):
            continue
        roles = layout.roles(axis)
        role = next(iter(roles), None)
        if len(roles) != 1 or not isinstance(role, int) or layout.sizes[axis] != beam.positions[role]:
            raise Unmapped("padding of something else than positions")
        starts[role], positions[role] = -before, positions[role] + before + after
        layout = layout.with_axis(axis, role, positions[role])
    made = Beam("", layout, tuple(positions), beam.channels)
    if len(positions) == 2:
        return mapper.one(node, "frame", {"start": starts, "size": positions}, made, source)
    return mapper.one(node, "take", {"start": starts[0], "size": positions[0]}, made, source)
