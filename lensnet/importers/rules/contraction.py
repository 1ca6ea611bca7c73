"""Products of two signals that are summed over one axis, from matrix products in any layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.inputs import lit, named
from lensnet.importers.layout import CHANNELS, COPIES, EXAMPLES, Atom, Axis, Layout

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

ATEN = torch.ops.aten
_KINDS = ("shared", "free", "summed")
_AXES = ("rows", "columns", "slices")


@dataclass
class _Side:
    """One factor: where it is taken, and its atoms by what becomes of them; copies are left out."""

    node: Node
    beam: Beam
    atoms: dict[str, list[Atom]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})

    def places(self, kind: str) -> list[Atom]:
        return [atom for atom in self.atoms[kind] if isinstance(atom.role, int)]

    def channels(self, kind: str) -> list[Atom]:
        return [atom for atom in self.atoms[kind] if atom.role == CHANNELS]


def contracted(mapper: Mapper, node: Node, left: Node, right: Node) -> Value:
    """matmul(left, right) of two signals, or of one and a constant matrix; either may be a vector. Raises Unmapped."""
    left, right = _lights(mapper, node, left, right)
    sides = [_Side(one, mapper.beam(one)) for one in (left, right)]
    axes = [list(_bare(side.beam.layout)) for side in sides]
    rows: Axis | None = axes[0].pop(-2) if len(axes[0]) > 1 else None
    columns: Axis | None = axes[1].pop(-1) if len(axes[1]) > 1 else None
    for side, axis in zip(sides, (axes[0].pop(), axes[1].pop()), strict=True):
        side.atoms["summed"] += axis
    count = max(len(one) for one in axes)
    out: list[tuple[tuple[int, Atom], ...]] = []
    for a, b in zip(*([()] * (count - len(one)) + one for one in axes), strict=True):
        out.append(_met(sides, a, b))
    for place, free in ((0, rows), (1, columns)):
        if free is not None:
            sides[place].atoms["free"] += free
            out.append(tuple((place, atom) for atom in free))
    for place in (0, 1):
        _gridded(mapper, node, sides[place], out, place)
    return _drawn(mapper, node, sides, out)


def _lights(mapper: Mapper, node: Node, left: Node, right: Node) -> tuple[Node, Node]:
    """A constant factor as a light of its own, one for every example: its axes are positions, but for those that meet
    channels of the signal."""
    if not mapper.static(left) and not mapper.static(right):
        return left, right
    one, other = (left, right) if mapper.static(left) else (right, left)
    theirs = _bare(mapper.beam(other).layout)
    batch = theirs[: -2 if len(theirs) > 1 else -1]
    apart = next((len(batch) - place for place, axis in enumerate(batch) if any(a.role == EXAMPLES for a in axis)), 0)
    if not apart:
        raise Unmapped("a product with a constant in which examples stand elsewhere than at first")
    sizes = sizes_of(one)
    inner, outer = sizes[-2:], sizes[:-2]
    outer = (1,) * (apart - len(outer)) + outer
    if outer[-apart] != 1 or len(sizes) < 2:
        raise Unmapped("a constant that differs from example to example")
    examples = prod(atom.size for atom in theirs[len(batch) - apart])
    full = (*outer[: len(outer) - apart], examples, *outer[len(outer) - apart + 1 :], *inner)
    wide = mapper.before(node, ATEN.reshape.default, (one, [*outer, *inner]))
    wide = mapper.before(node, ATEN.expand.default, (wide, list(full)))
    axes: list[Axis] = []
    positions: list[int] = []
    for place, size in enumerate(full):
        away = len(full) - place - 2
        mine = batch[len(batch) - away] if 0 < away <= len(batch) else ()
        own = prod(atom.size for atom in mine) == size and {a.role for a in mine} <= {CHANNELS, EXAMPLES}
        if size > 1 and mine and own:
            axes.append(tuple(Atom(atom.role, atom.size) for atom in mine))
        elif size > 1:
            axes.append((Atom(len(positions), size),))
            positions.append(size)
        else:
            axes.append(())
    if len(positions) > 3:
        raise Unmapped("a constant of more than three axes")
    node.replace_input_with(one, wide)
    made = lit(mapper, node, wide, Layout(tuple(axes)), tuple(positions))
    return (made, right) if one is left else (left, made)


def _bare(layout: Layout) -> tuple[Axis, ...]:
    """The axes without copies."""
    return tuple(tuple(atom for atom in axis if atom.role != COPIES) for axis in layout.axes)


def _met(sides: list[_Side], a: Axis, b: Axis) -> tuple[tuple[int, Atom], ...]:
    """One batch axis of both: pieces that both have are shared, those that one has are its own."""
    if not a or not b:
        place = 0 if a else 1
        axis = a or b
        for atom in axis:
            if atom.role != EXAMPLES:
                sides[place].atoms["free"].append(atom)
        return tuple((place, atom) for atom in axis)
    if [atom.size for atom in a] != [atom.size for atom in b]:
        raise Unmapped("a product of two signals whose axes are cut in different ways")
    for one, two in zip(a, b, strict=True):
        alike = isinstance(one.role, int) and isinstance(two.role, int)
        if one.role == two.role == EXAMPLES:
            if one.stride != two.stride:
                raise Unmapped("a product of different examples")
        elif alike or one.role == two.role == CHANNELS:
            sides[0].atoms["shared"].append(one)
            sides[1].atoms["shared"].append(two)
        else:
            raise Unmapped("a product in which positions meet channels")
    return tuple((0, atom) for atom in a)


def _gridded(mapper: Mapper, node: Node, side: _Side, out: list[tuple[tuple[int, Atom], ...]], place: int) -> None:
    """Position axes that are cut become axes of their own."""
    pieces = [atom for kind in _KINDS for atom in side.places(kind)]
    whole = [side.beam.positions[int(atom.role)] for atom in pieces]
    if all(atom.size == size for atom, size in zip(pieces, whole, strict=True)):
        return
    ordered = sorted(pieces, key=lambda atom: (int(atom.role), -atom.stride))
    sizes = tuple(atom.size for atom in ordered)
    if prod(sizes) != prod(side.beam.positions) or len(ordered) > 3:
        raise Unmapped("a product over a part of the positions")
    renamed = {atom: Atom(index, atom.size) for index, atom in enumerate(ordered)}
    layout = Layout(tuple(tuple(renamed.get(atom, atom) for atom in axis) for axis in side.beam.layout.axes))
    here = mapper.between(node, side.node)
    made = mapper.one(here, "grid", named(sizes), Beam("", layout, sizes, side.beam.channels), side.node)
    side.node, side.beam = here, made
    for kind in _KINDS:
        side.atoms[kind] = [renamed.get(atom, atom) for atom in side.atoms[kind]]
    for index, axis in enumerate(out):
        out[index] = tuple((at, renamed.get(atom, atom) if at == place else atom) for at, atom in axis)


def _drawn(mapper: Mapper, node: Node, sides: list[_Side], out: list[tuple[tuple[int, Atom], ...]]) -> Value:
    terms = {prod(atom.size for atom in side.atoms["summed"]) for side in sides}
    if len(terms) > 1:
        raise Unmapped("a product of different axes")
    shared = len(sides[0].places("shared"))
    groups = prod(atom.size for atom in sides[0].channels("shared"))
    parameters: dict[str, Any] = {"terms": terms.pop()}
    for name, side in zip(("left", "right"), sides, strict=True):
        over = _over(side)
        _in_order(side)
        parameters |= {f"{name}_over": over} if over != "channels" else {}
    parameters |= {"groups": groups} if groups > 1 else {}
    parameters |= {"shared": shared} if shared else {}
    pairs = [(place, atom) for axis in out for place, atom in axis]
    ranked = sorted(
        ((place, atom) for place, atom in pairs if isinstance(atom.role, int)),
        key=lambda pair: (pair[1] not in sides[pair[0]].atoms["shared"], pair[0], int(pair[1].role)),
    )
    if len(ranked) > 3:
        raise Unmapped("a product of two signals with more than three axes of positions")
    positions = tuple(atom.size for _, atom in ranked)
    numbers = {pair: Atom(index, pair[1].size) for index, pair in enumerate(ranked)}
    stride = 1
    for place, kind in ((1, "free"), (0, "free"), (0, "shared")):
        for atom in reversed(sides[place].channels(kind)):
            numbers[place, atom] = Atom(CHANNELS, atom.size, stride)
            stride *= atom.size
    layout = Layout(tuple(tuple(numbers.get(pair, pair[1]) for pair in axis) for axis in out))
    made = Beam("", layout, positions, stride)
    parameters |= named(positions)
    taps = [(side.node, _restrided(side)) for side in sides]
    return mapper.add(node, "contract", parameters, taps, made)


def _over(side: _Side) -> str:
    places, channels = side.places("summed"), side.channels("summed")
    if places and channels or any(atom.role == EXAMPLES for atom in side.atoms["summed"]):
        raise Unmapped("a sum over positions and channels at once" if places else "a sum over examples")
    if not places:
        return "channels"
    if [int(atom.role) for atom in places] == list(range(len(side.beam.positions))):
        return "positions"
    if len(places) > 1:
        raise Unmapped("a product that is summed over a part of the positions")
    return _AXES[int(places[0].role)]


def _in_order(side: _Side) -> None:
    """Shared places come before others, in one order on both sides."""
    shared = [int(atom.role) for atom in side.places("shared")]
    free = [int(atom.role) for atom in side.places("free")]
    if shared != sorted(shared) or (shared and free and max(shared) > min(free)):
        raise Unmapped("positions that meet in another order than they stand")


def _restrided(side: _Side) -> Beam:
    """The signal with its channels in the order: groups, summed ones, others; copies stay."""
    new: dict[Atom, Atom] = {}
    stride = 1
    for kind in ("free", "summed", "shared"):
        for atom in reversed(side.channels(kind)):
            new[atom] = Atom(CHANNELS, atom.size, stride)
            stride *= atom.size
    axes = tuple(tuple(new.get(atom, atom) for atom in axis) for axis in side.beam.layout.axes)
    return Beam(side.beam.path, Layout(axes), side.beam.positions, side.beam.channels)
