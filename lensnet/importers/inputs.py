"""How the tensors of a call enter the network: which axis is what, and which of several inputs is followed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import hypot
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Index, Unmapped, Value, module_of, sizes_of
from lensnet.importers.layout import CHANNELS, EXAMPLES, Layout, LayoutError
from lensnet.importers.operations import argument, name_of, table

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def placeholder(mapper: Mapper, node: Node) -> Value:
    """What enters at a placeholder of the call: the network's input, or a light beside it."""
    value = node.meta.get("val")
    if not torch.is_tensor(value):
        return None
    sizes = tuple(value.shape)
    if mapper.input is None or (value.is_floating_point() and node.users and not _leads(mapper.input)):
        mapper.input = node
    if not value.is_floating_point():
        roles: list[Any] = [None] * len(sizes)
        if sizes and mapper.batch_axis is not None:
            roles[min(mapper.batch_axis, len(sizes) - 1)] = EXAMPLES
        for place, axis in enumerate(axis for axis in range(len(sizes)) if roles[axis] is None):
            roles[axis] = place
        return Index(Layout.of(roles, sizes), ids=True)
    if mapper.input is not node:
        return _second(mapper, node)
    return _entering(mapper, node, "input")


def _leads(node: Node) -> bool:
    """Whether an input is followed through the network: a signal, or ids that an embedding looks up."""
    value = node.meta.get("val")
    if torch.is_tensor(value) and value.is_floating_point():
        return True
    return any(name_of(user) == "embedding" and argument(user, 1, "indices") is node for user in node.users)


def _second(mapper: Mapper, node: Node) -> Value:
    """A second float input: a light of its own."""
    assert mapper.input is not None
    beam = _entering(mapper, node, "input")
    example = mapper.captured.inputs.get(node.name)
    mean, std = 0.0, 1.0
    if example is not None and not example.is_meta:
        mean, std = float(example.double().mean()), float(example.double().std(correction=0))
    mapper.notes.append(f"a second input, {node.name}, is a light of its own (rms {hypot(mean, std):.3g})")
    return light(mapper, node, beam, mean, std, name=node.name)


def light(mapper: Mapper, node: Node, beam: Beam, mean: float, std: float, **more: Any) -> Beam:
    """A signal that does not come from the network's input, as a light of this mean and scatter."""
    assert mapper.input is not None
    first = mapper.values.get(mapper.input)
    tap = (mapper.input, first if isinstance(first, Beam) else None)
    params = {"std": std, **({"bias": mean} if mean else {}), **grid_parameters(beam)}
    return mapper.add(node, "source", params, [tap], beam, **more)


def lit(mapper: Mapper, node: Node, table: Node, layout: Layout, positions: tuple[int, ...]) -> Node:
    """A tensor that depends on no input as a light of its own, where `node` takes it as a signal; the node of it."""
    assert mapper.input is not None
    beam = Beam("", layout, positions, layout.size_of(CHANNELS))
    law = mapper.law(table)
    std, mean = (law.std, law.mean) if law.kind != "unknown" else (1.0, 0.0)
    params = {"std": float(f"{std:.7g}"), **({"bias": float(f"{mean:.7g}")} if mean else {}), **grid_parameters(beam)}
    here = mapper.before(node, torch.ops.aten.alias.default, (table,))
    first = mapper.values.get(mapper.input)
    tap = (mapper.input, first if isinstance(first, Beam) else None)
    mapper.add(here, "source", params, [tap], beam, name=mapper.name_for(node, "source"), owns=[table])
    node.replace_input_with(table, here)
    return here


def _entering(mapper: Mapper, node: Node, path: str) -> Beam:
    """A float tensor as the first layer that it meets takes it, else by its rank."""
    sizes = sizes_of(node)
    found = _axes_met(node) if mapper.batch_axis == 0 else None
    if found is None:
        return beam_of(mapper.batch_axis, path, sizes, _image(node))
    channel, places = found
    roles: list[Any] = [
        EXAMPLES,
        *(CHANNELS if axis == channel else places.index(axis) for axis in range(1, len(sizes))),
    ]
    channels = sizes[channel] if channel else 1
    return Beam(path, Layout.of(roles, sizes), tuple(sizes[axis] for axis in places), channels)


def _axes_met(node: Node) -> tuple[int, list[int]] | None:
    """The axis of a tensor that the first convolution or dense layer behind it reads as its channels (0 where it adds a
    single channel: a wave, a spectrogram), and its positions in that layer's order, through views and transpositions;
    None where nothing tells."""
    from lensnet.importers.rules.layout import relaid

    sizes = sizes_of(node)
    if len(sizes) < 2:
        return None
    todo = [(node, Layout.of([EXAMPLES, *range(1, len(sizes))], sizes))]
    for here, layout in todo:
        for user in here.users:
            name = name_of(user) if user.op == "call_function" else ""
            if name in _WITH_WEIGHTS and user.args and user.args[0] is here:
                return _read(name, layout, sizes)
            try:
                if name in table()["layout"] and len(todo) < 64:
                    todo.append((user, relaid(layout, user, name)))
                elif name in _ALONG and sizes_of(user) == layout.sizes:
                    todo.append((user, layout))
            except (LayoutError, Unmapped, KeyError, IndexError):
                continue
    return None


def _read(name: str, layout: Layout, sizes: Sequence[int]) -> tuple[int, list[int]] | None:
    early = name.startswith("conv") or name in ("batch_norm", "im2col")
    place = 1 if early else len(layout.axes) - 1
    seen = [atom for axis in layout.axes[place : place + 1] for atom in axis]
    if len(seen) > 1:  # a patch: its channels are the one axis that is there as a whole
        seen = [atom for atom in seen if isinstance(atom.role, int) and atom.size == sizes[atom.role]]
        return (int(seen[0].role), [a for a in range(1, len(sizes)) if a != seen[0].role]) if len(seen) == 1 else None
    if any(not isinstance(atom.role, int) or atom.size != sizes[atom.role] for atom in seen):
        return None
    if not seen and not (name.startswith("conv") and len(layout.axes) == len(sizes) + 1):
        return None
    channel = int(seen[0].role) if seen else 0
    order = [int(atom.role) for where, axis in enumerate(layout.axes) if where != place for atom in axis
             if isinstance(atom.role, int)]  # fmt: skip
    rest = [axis for axis in range(1, len(sizes)) if axis != channel]
    return channel, order if sorted(order) == rest else rest


_ALONG = ("add", "sub", "mul", "div", "dropout")
"""Operations that leave every axis what it is."""


def _image(node: Node) -> bool:
    """Whether channels come right after the examples: a convolution or a norm over axis 1 says so."""
    rank = len(sizes_of(node))
    if rank > 3:
        first = _first_with_weights(node)
        return not (first is not None and name_of(first) in ("linear", "layer_norm"))
    if rank == 3:
        first = _first_with_weights(node)
        return first is not None and name_of(first) in ("conv1d", "conv_transpose1d", "batch_norm")
    return False


def beam_of(batch_axis: int | None, path: str, sizes: Sequence[int], image: bool) -> Beam:
    """A tensor read by its rank: (N, C), (N, T, C), (N, C, H, W), (N, C, D, H, W); without an axis of examples
    (`batch_axis` None) the places of a single one: (T, C)."""
    rank = len(sizes)
    if not 2 <= rank <= 5:
        raise Unmapped(f"a tensor of {rank} axes; signals are (N, C), (N, T, C), (N, C, H, W) or (N, C, D, H, W)")
    roles: list[Any] = [None] * rank
    if batch_axis is not None:
        roles[batch_axis if rank > 2 else 0] = EXAMPLES
    rest = [axis for axis in range(rank) if roles[axis] is None]
    channel = rest[0] if image else rest[-1]
    roles[channel] = CHANNELS
    positions = [axis for axis in rest if axis != channel]
    for place, axis in enumerate(positions):
        roles[axis] = place
    return Beam(path, Layout.of(roles, sizes), tuple(sizes[axis] for axis in positions), sizes[channel])


def grid_parameters(beam: Beam) -> dict[str, int]:
    """Shape parameters of the components that may have any shape."""
    return {"channels_to": beam.channels, **named(beam.positions)}


def named(positions: Sequence[int]) -> dict[str, int]:
    """The sizes of a grid as parameters."""
    return dict(zip(("rows", "columns", "slices"), positions, strict=False))


def lone_operations(nodes: Iterable[Node]) -> dict[tuple[str, int], int]:
    """(module path, call) -> how many operations it has that compute something."""
    out: dict[tuple[str, int], int] = {}
    layout, ignored = table()["layout"], table()["ignored"]
    for node in nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        name = name_of(node)
        if name in layout or name in ignored or name in ("getitem", "slice", "select", "split", "chunk", "unbind"):
            continue
        path, _, call = module_of(node)
        out[path, call] = out.get((path, call), 0) + 1
    return out


_WITH_WEIGHTS = (
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "batch_norm",
    "layer_norm", "addmm", "lstm", "gru", "rnn_tanh", "rnn_relu", "im2col",
)  # fmt: skip


def _first_with_weights(node: Node) -> Node | None:
    """The first operation with weights that a tensor meets."""
    seen: set[Node] = set()
    todo = [node]
    while todo and len(seen) < 64:
        here = todo.pop(0)
        if here in seen:
            continue
        seen.add(here)
        for user in here.users:
            if name_of(user) in _WITH_WEIGHTS:
                return user
            if user.op == "call_function":
                todo.append(user)
    return None
