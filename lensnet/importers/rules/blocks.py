"""Blocks of neighbouring places: maxima and averages over a part of an axis.

A model that pools inside windows cuts the axes of a picture and moves the pieces about. Whichever way it lays them out,
the innermost pieces are the places of one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped
from lensnet.importers.layout import Atom, Layout

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_MOST_TAPS = 256


def run_of(atoms: Iterable[Atom]) -> tuple[int, int] | None:
    """(size, stride) of pieces of one axis, in any order, that together are neighbours; None where they are not."""
    pieces = sorted(atoms, key=lambda atom: atom.stride)
    stride = pieces[0].stride if pieces else 1
    for atom in pieces:
        if atom.stride != stride:
            return None
        stride *= atom.size
    first = pieces[0].stride if pieces else 1
    return stride // first, first


def block_of(atoms: Sequence[Atom], positions: tuple[int, ...]) -> tuple[int, ...] | None:
    """How many neighbouring places along each axis some pieces hold; None where they are no blocks that tile it."""
    out = []
    for role, whole in enumerate(positions):
        found = run_of(atom for atom in atoms if atom.role == role)
        if found is None or found[1] != 1 or whole % found[0]:
            return None
        out.append(found[0])
    return tuple(out)


def pooled(mapper: Mapper, node: Node, source: Node, places: Sequence[int], layout: Layout, kind: str) -> Beam:
    """An average (`avg`) or maximum (`max`) over tensor axes that hold blocks of places; `layout`: without them."""
    beam = mapper.beam(source)
    block = block_of([atom for place in places for atom in beam.layout.axes[place]], beam.positions)
    if block is None or not 1 <= len(block) <= 3:
        raise Unmapped("an average or maximum over a part of an axis of positions that is no block")
    if kind == "max" and prod(block) > _MOST_TAPS:
        raise Unmapped(f"a maximum over {prod(block)} places: more than {_MOST_TAPS} are not integrated")
    axes = [tuple(_outer(atom, block) for atom in axis) for axis in layout.axes]
    positions = tuple(whole // part for whole, part in zip(beam.positions, block, strict=True))
    parameters = {"kernel": block[0] if len(set(block)) == 1 else list(block)}
    made = Beam("", Layout(tuple(axes)), positions, beam.channels)
    return mapper.one(node, f"{kind}_pool{len(block)}d", parameters, made, source)


def within(mapper: Mapper, node: Node, source: Node, axes: tuple[int, ...], component: str,
           parameters: dict[str, Any]) -> Beam | None:  # fmt: skip
    """A pool whose windows tile those that a picture was cut into: none looks beyond, so that it is the same pool over
    the whole picture. None where it is another."""
    beam, value = mapper.beam(source), parameters.get("kernel", 1)
    steps = list(value) if isinstance(value, list) else [value] * len(axes)
    roles = [next(iter(beam.layout.roles(axis)), None) for axis in axes]
    if set(parameters) != {"kernel"} or roles != list(range(len(beam.positions))):
        return None
    block, layout = tuple(int(step) for step in steps), beam.layout
    runs = [run_of(layout.axes[axis]) for axis in axes]
    if any(run is None or run[1] != 1 or run[0] % step for run, step in zip(runs, block, strict=True)):
        return None
    made = [tuple(_outer(atom, block) for atom in axis) for axis in layout.axes]
    for role, (axis, step) in enumerate(zip(axes, block, strict=True)):
        size = layout.sizes[axis] // step
        made[axis] = (Atom(role, size),) if size > 1 else ()
    positions = tuple(whole // step for whole, step in zip(beam.positions, block, strict=True))
    return mapper.one(node, component, parameters, Beam("", Layout(tuple(made)), positions, beam.channels), source)


def _outer(atom: Atom, block: tuple[int, ...]) -> Atom:
    return Atom(atom.role, atom.size, atom.stride // block[atom.role]) if isinstance(atom.role, int) else atom
