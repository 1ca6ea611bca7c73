"""Signals laid side by side: along their channels (`concat`), or along their positions (padded, and added)."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.inputs import lit
from lensnet.importers.layout import CHANNELS, COPIES, Atom, Layout
from lensnet.importers.operations import argument, arguments
from lensnet.importers.rulebook import RULES, rule
from lensnet.importers.rules.windows import framed

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("cat", "concat")
def cat(mapper: Mapper, node: Node) -> Value:
    parts = [one for one in arguments(node)[0] if 0 not in sizes_of(one)]
    if len(parts) == 1:
        return mapper.beam(parts[0])
    axis = int(argument(node, 1, "dim", 0)) % len(sizes_of(node))
    signals = [one for one in parts if isinstance(mapper.values.get(one), Beam)]
    if signals and len(signals) < len(parts) and CHANNELS in mapper.beam(signals[0]).layout.roles(axis):
        parts = signals = _all_lit(mapper, node, parts, mapper.beam(signals[0]), axis)
    if len(signals) == len(parts):
        parts = [_tiled(mapper, node, one, parts) for one in parts]
        beams = [mapper.beam(one) for one in parts]
        lone = all(not beam.positions and beam.channels == 1 for beam in beams)
        if all(beam.layout.roles(axis) <= {CHANNELS} for beam in beams) and (beams[0].layout.roles(axis) or lone):
            return _channels(mapper, node, parts, beams, axis)
        return _positions(mapper, node, parts, axis)
    if len(signals) == 1 and parts[-1] is signals[0]:
        return _prepended(mapper, node, parts, axis)
    if len(signals) == 1:
        return _appended(mapper, node, parts, parts.index(signals[0]), axis)
    if signals and parts[-1] is signals[-1] and all(mapper.static(one) for one in parts if one not in signals):
        return _between(mapper, node, parts, axis)
    raise Unmapped("a signal laid beside something else")


def _tiled(mapper: Mapper, node: Node, part: Any, parts: list[Any]) -> Any:
    """Channels that all heads share, beside channels of their own: laid out once for every head."""
    beam = mapper.beam(part)
    if beam.layout.copies == 1 or all(mapper.beam(one).layout.copies > 1 for one in parts):
        return part
    copies = beam.layout.copies
    axes = tuple(
        tuple(Atom(CHANNELS, a.size, beam.channels) if a.role == COPIES else a for a in axis)
        for axis in beam.layout.axes
    )  # fmt: skip
    here = mapper.between(node, part)
    made = Beam("", Layout(axes), beam.positions, beam.channels * copies)
    mapper.values[here] = mapper.add(here, "tile", {"times": copies}, [(part, beam)], made)
    return here


def _all_lit(mapper: Mapper, node: Node, parts: list[Any], like: Beam, axis: int) -> list[Any]:
    """Tables that are laid beside the channels of a signal: lights of their own."""
    out = []
    for one in parts:
        if not isinstance(mapper.values.get(one), Beam):
            size = sizes_of(one)[axis]
            layout = _of_heads(like.layout, axis, like.layout.sizes[axis], size)
            if not mapper.static(one) or layout.sizes != sizes_of(one):
                raise Unmapped("something laid beside the channels")
            one = lit(mapper, node, one, layout, like.positions)
        out.append(one)
    return out


@rule("stack")
def stack(mapper: Mapper, node: Node) -> Value:
    """Several tensors along a new axis: vectors as the tokens of a sequence, else channels in groups of their own."""
    parts, axis = list(arguments(node)[0]), int(argument(node, 1, "dim", 0)) % len(sizes_of(node))
    beams = [mapper.beam(one) for one in parts]
    if len(parts) == 1:
        return beams[0].laid(beams[0].layout.unsqueezed(axis))
    if not all(beam.layout.like(beams[0].layout) and beam.positions == beams[0].positions for beam in beams):
        raise Unmapped("a stack of tensors of different layouts")
    channels = beams[0].channels
    axes = beams[0].layout.axes
    if not beams[0].positions and axis == 1 and len(axes) == 2 and beams[0].layout.roles(1) <= {CHANNELS}:
        tokens = [mapper.before(node, torch.ops.aten.unsqueeze.default, (one, axis)) for one in parts]
        for one, beam in zip(tokens, beams, strict=True):
            mapper.values[one] = beam.laid(beam.layout.unsqueezed(axis))
        node.target, node.args, node.kwargs = torch.ops.aten.cat.default, (tokens, axis), {}
        return _positions(mapper, node, tokens, axis)
    layout = Layout((*axes[:axis], (Atom(CHANNELS, len(parts), channels),), *axes[axis:]))
    made = Beam("", layout, beams[0].positions, channels * len(parts))
    return mapper.add(node, "concat", {}, list(zip(parts, beams, strict=True)), made)


def _channels(mapper: Mapper, node: Node, parts: list[Any], beams: list[Beam], axis: int) -> Value:
    """Whole channels, or those of every head."""
    sizes = [beam.layout.sizes[axis] for beam in beams]
    heads = {beam.channels // size for beam, size in zip(beams, sizes, strict=True)}
    inner = all(len(b.layout.axes[axis]) <= 1 and all(a.stride == 1 for a in b.layout.axes[axis]) for b in beams)
    if len(heads) > 1 or (heads != {1} and not inner) or len({beam.positions for beam in beams}) > 1:
        raise Unmapped("channels of different heads laid side by side")
    total = sum(sizes)
    layouts = [_of_heads(beam.layout, axis, size, total) for beam, size in zip(beams, sizes, strict=True)]
    if not all(one.like(layouts[0]) for one in layouts):
        raise Unmapped("channels laid side by side across layouts")
    (count,) = heads
    parameters = {"parts": count} if count > 1 else {}
    made = Beam("", layouts[0], beams[0].positions, total * count)
    return mapper.add(node, "concat", parameters, list(zip(parts, beams, strict=True)), made)


def _of_heads(layout: Layout, axis: int, old: int, new: int) -> Layout:
    """The layout where every head has `new` channels instead of `old`."""
    axes = [
        tuple(Atom(a.role, a.size, a.stride // old * new) if a.role == CHANNELS else a for a in pieces)
        for pieces in layout.axes
    ]
    axes[axis] = (Atom(CHANNELS, new),)
    return Layout(tuple(axes))


def _positions(mapper: Mapper, node: Node, parts: list[Any], axis: int) -> Value:
    """Each part is given dark places before and behind it, and all are added: nothing meets anything."""
    sizes = [sizes_of(one)[axis] for one in parts]
    beams = [mapper.beam(one) for one in parts]
    first = next((beam for beam in beams if beam.layout.axes[axis]), beams[0])
    role = next(iter(first.layout.roles(axis)), 0)
    if not isinstance(role, int) or len({beam.channels for beam in beams}) > 1:
        raise Unmapped("signals laid side by side along something else than positions")
    placed: list[Node] = []
    for index, part in enumerate(parts):
        placed.append(_placed(mapper, node, part, axis, role, sum(sizes[:index]), sum(sizes)))
    total = placed[0]
    for index, one in enumerate(placed[1:], 1):
        here = node if index == len(placed) - 1 else mapper.before(node, torch.ops.aten.add.Tensor, (total, one))
        beam = mapper.beam(total)
        if not beam.layout.like(mapper.beam(one).layout) or beam.positions != mapper.beam(one).positions:
            raise Unmapped("signals laid side by side across layouts")
        if here is node:
            node.target, node.args, node.kwargs = torch.ops.aten.add.Tensor, (total, one), {}
        taps = [(total, beam), (one, mapper.beam(one))]
        made = mapper.add(here, "sum", {}, taps, beam, name=mapper.name_for(here, "join"))
        mapper.values[here], total = made, here
    return mapper.values[node]


def _placed(mapper: Mapper, node: Node, part: Node, axis: int, role: int, before: int, total: int) -> Node:
    """A part among dark places."""
    beam = mapper.beam(part)
    if not beam.positions and role == 0:
        layout = beam.layout
        here = mapper.before(node, torch.ops.aten.alias.default, (part,))
        mapper.values[here] = mapper.one(here, "tokens", {}, Beam("", layout, (1,), beam.channels), part)
        part, beam = here, mapper.beam(here)
    pieces = beam.layout.axes[axis]
    if beam.positions[role] != beam.layout.sizes[axis] or len(pieces) > 1 or any(a.role != role for a in pieces):
        raise Unmapped("a part of the positions laid beside others")
    rank = len(beam.layout.axes)
    behind = total - before - beam.positions[role]
    amounts = [0] * (2 * (rank - 1 - axis)) + [before, behind]
    here = mapper.before(node, torch.ops.aten.constant_pad_nd.default, (part, amounts))
    start = [-before if place == role else 0 for place in range(len(beam.positions))]
    size = [total if place == role else whole for place, whole in enumerate(beam.positions)]
    many = len(size) > 1
    parameters = {"start": start if many else start[0], "size": size if many else size[0]}
    made = Beam("", beam.layout.with_axis(axis, role, total), tuple(size), beam.channels)
    mapper.values[here] = mapper.one(here, framed(len(size)), parameters, made, part)
    return here


def _between(mapper: Mapper, node: Node, parts: list[Any], axis: int) -> Value:
    """Rows of a table among several signals: each laid before the signal that follows."""
    joined: list[Any] = []
    waiting: list[Any] = []
    for part in parts:
        if mapper.static(part):
            waiting.append(part)
            continue
        if waiting:
            here = mapper.before(node, torch.ops.aten.cat.default, ([*waiting, part], axis))
            mapper.values[here] = _prepended(mapper, here, [*waiting, part], axis)
            part, waiting = here, []
        joined.append(part)
    node.args = (joined, axis)
    return cat(mapper, node)


def _appended(mapper: Mapper, node: Node, parts: list[Any], place: int, axis: int) -> Value:
    """Rows of a table behind a sequence: laid before it, and the whole turned."""
    before, source, behind = parts[:place], parts[place], parts[place + 1 :]
    turned = sum(sizes_of(one)[axis] for one in behind)
    here = mapper.before(node, torch.ops.aten.cat.default, ([*behind, *before, source], axis))
    mapper.values[here] = _prepended(mapper, here, [*behind, *before, source], axis)
    node.target, node.args, node.kwargs = torch.ops.aten.roll.default, (here, [-turned], [axis]), {}
    return RULES["roll"](mapper, node)


def _prepended(mapper: Mapper, node: Node, parts: list[Any], axis: int) -> Value:
    source = parts[-1]
    beam = mapper.beam(source)
    if beam.layout.roles(axis) != {0} or len(beam.positions) != 1 or beam.layout.sizes[axis] != beam.positions[0]:
        raise Unmapped("something laid beside the channels")
    size = sizes_of(node)[axis]
    count = size - beam.positions[0]
    laws = [mapper.law(one) for one in parts[:-1]]
    power = sum(law.second_moment if law.kind != "unknown" else 0.0004 for law in laws) / len(laws)
    made = Beam("", beam.layout.with_axis(axis, 0, size), (size,), beam.channels)
    parameters = {"start": -count, "size": size, "std": float(f"{sqrt(power):.7g}")}
    return mapper.add(node, "prepend", parameters, [(source, beam)], made, owns=parts[:-1])
