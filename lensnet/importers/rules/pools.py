"""Averages and maxima over positions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.inputs import named
from lensnet.importers.layout import CHANNELS, Atom, Layout
from lensnet.importers.operations import argument, arguments, axes_of, name_of
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.blocks import pooled, within
from lensnet.importers.rules.layout import alone, as_grid, regridded
from lensnet.importers.rules.windows import ground

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


_MOST_TAPS = 256


def _pooled(mapper: Mapper, node: Node, component: str, parameters: dict[str, Any]) -> Value:
    source, out = arguments(node)[0], sizes_of(node)
    assert isinstance(source, Node)
    axes = tuple(range(2, len(out)))
    if (found := within(mapper, node, source, axes, component, parameters)) is not None:
        return found
    under = ground(mapper, node, source, axes)
    beam = under.beam
    if not beam.layout.roles(1) <= {CHANNELS}:
        raise Unmapped("a pool whose second axis is not the channels")
    layout, positions = under.made(out[2:])
    if under.rank > len(out) - 2:
        if component == "resample":
            parameters = parameters | named(positions)
        elif component[-1] != "d" or "kernel" not in parameters:
            raise Unmapped("unequal windows over frames that stand among the examples")
        component = f"{component[:-2]}{under.rank}d" if component[-1] == "d" else component
        parameters = {key: under.each(value, _STILL[key]) if key in _STILL else value
                      for key, value in parameters.items()}  # fmt: skip
    return mapper.one(node, component, parameters, Beam("", layout, positions, beam.channels), under.source)


_STILL = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}


def pair_of(value: Any, default: Any = None) -> Any:
    """One number where all axes have the same, else a list."""
    if value is None or value == []:
        value = default
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values[0] if len(set(values)) == 1 else values


def _rounded_up(node: Node, parameters: dict[str, Any]) -> bool:
    """Whether the last window of a pool reaches beyond the picture and its padding."""
    before, after = sizes_of(arguments(node)[0])[2:], sizes_of(node)[2:]
    rank = len(before)
    defaults = {"kernel": 1, "stride": parameters["kernel"], "padding": 0, "dilation": 1}
    each = ((two_of(parameters.get(name, default)) * rank)[:rank] for name, default in defaults.items())
    sizes = zip(before, after, *each, strict=True)
    return any((out - 1) * step + far * (width - 1) + 1 > size + 2 * around
               for size, out, width, step, around, far in sizes)  # fmt: skip


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
      "max_pool3d_with_indices")  # fmt: skip
def max_pool(mapper: Mapper, node: Node) -> Value:
    kernel = pair_of(argument(node, 1, "kernel_size"))
    parameters = {"kernel": kernel}
    for place, name, default in ((2, "stride", kernel), (3, "padding", 0), (4, "dilation", 1)):
        value = pair_of(argument(node, place, name), default)
        if value != default:
            parameters[name] = value
    parameters |= {"ceil": True} if _rounded_up(node, parameters) else {}
    return _pooled(mapper, node, name_of(node).removesuffix("_with_indices"), parameters)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(mapper: Mapper, node: Node) -> Value:
    kernel = pair_of(argument(node, 1, "kernel_size"))
    padding = pair_of(argument(node, 3, "padding"), 0)
    if argument(node, 6, "divisor_override") is not None:
        raise Unmapped("a pool that divides by another number")
    parameters = {"kernel": kernel}
    stride = pair_of(argument(node, 2, "stride"), kernel)
    parameters |= {"stride": stride} if stride != kernel else {}
    parameters |= {"padding": padding} if padding else {}
    if padding and not argument(node, 5, "count_include_pad", True):
        parameters["padding_mode"] = "ignore"
    if _rounded_up(node, parameters):
        if padding and "padding_mode" not in parameters:
            raise Unmapped("a pool that counts its padding, but not what lies beyond")
        parameters |= {"padding_mode": "ignore", "ceil": True}
    return _pooled(mapper, node, name_of(node), parameters)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool3d",
      "_adaptive_avg_pool3d")  # fmt: skip
def adaptive(mapper: Mapper, node: Node) -> Value:
    out = sizes_of(node)[2:]
    axes = tuple(range(2, 2 + len(out)))
    if set(out) == {1}:
        source = arguments(node)[0]
        assert isinstance(source, Node)
        under = ground(mapper, node, source, axes)
        layout = under.beam.layout.without(axes, keep=True)
        if under.rank > len(axes):
            return _along(mapper, node, under.source, under.beam, layout, set(under.roles))
        return _collapsed(mapper, node, under.source, under.beam, layout)
    before = sizes_of(arguments(node)[0])[2:]
    if all(large % small == 0 for large, small in zip(before, out, strict=True)) and before != out:
        steps = pair_of([large // small for large, small in zip(before, out, strict=True)])
        return _pooled(mapper, node, f"avg_pool{len(out)}d", {"kernel": steps})
    if len(out) != 2:
        return resample(mapper, node, "area")
    return _pooled(mapper, node, "adaptive_avg_pool2d", {"output": pair_of(out)})


_FILTERS = {
    "upsample_nearest": "nearest", "_upsample_nearest_exact": "nearest_exact", "upsample_linear": "linear",
    "upsample_bilinear": "linear", "upsample_trilinear": "linear", "upsample_bicubic": "cubic",
}  # fmt: skip


@rule(*(f"{name}{rank}d" for name in _FILTERS for rank in (1, 2, 3)))
def resampled(mapper: Mapper, node: Node) -> Value:
    """An interpolation: to another size, or of a single place to all."""
    filter = _FILTERS[name_of(node)[:-2]]
    smooth = filter in ("linear", "cubic")
    corners = bool(argument(node, 2, "align_corners", False)) and smooth
    return resample(mapper, node, filter, corners)


def resample(mapper: Mapper, node: Node, filter: str, corners: bool = False) -> Value:
    source, out = arguments(node)[0], sizes_of(node)[2:]
    if filter != "area" and sizes_of(source)[2:] == out:
        return mapper.beam(source)
    parameters: dict[str, Any] = dict(named(out))
    parameters |= {"filter": filter} if filter != "nearest" else {}
    parameters |= {"corners": True} if corners else {}
    return _pooled(mapper, node, "resample", parameters)


@rule("pixel_shuffle", "pixel_unshuffle")
def shuffled(mapper: Mapper, node: Node) -> Value:
    """Channels as pixels, or pixels as channels."""
    source, out = arguments(node)[0], sizes_of(node)
    assert isinstance(source, Node)
    if len(out) != 4:
        raise Unmapped("a shuffle of something else than images")
    source, beam = as_grid(mapper, node, source, (2, 3))
    if not beam.layout.roles(1) <= {CHANNELS} or beam.layout.sizes[1] != beam.channels:
        raise Unmapped("a shuffle whose second axis is not the channels")
    layout = beam.layout.with_axis(1, CHANNELS, out[1]).with_axis(2, 0, out[2]).with_axis(3, 1, out[3])
    parameters = {"factor": int(arguments(node)[1]), "output": pair_of(out[2:])}
    return mapper.one(node, name_of(node), parameters, Beam("", layout, tuple(out[2:]), out[1]), source)


def _collapsed(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Any) -> Value:
    component = "token_mean" if len(beam.positions) == 1 else "global_avg_pool"
    return mapper.one(node, component, {}, Beam("", layout, (), beam.channels), source)


@rule("mean")
def mean(mapper: Mapper, node: Node) -> Value:
    source = arguments(node)[0]
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    axes = axes_of(node, 1)
    if not axes:
        raise Unmapped("an average over everything")
    places = [axis % len(beam.layout.axes) for axis in axes]
    keep = bool(argument(node, 2, "keepdim", False))
    layout = beam.layout.without(places, keep)
    roles = {atom.role for place in places for atom in beam.layout.axes[place]}
    if not roles:
        return alone(mapper, node, source, beam, layout)
    if roles == {CHANNELS} and beam.layout.without(places, True).channels == 1:
        return mapper.one(node, "channel_mean", {}, Beam("", layout, beam.positions, 1), source)
    if roles == {CHANNELS}:
        return _grouped(mapper, node, source, beam, layout)
    if not all(isinstance(role, int) for role in roles):
        raise Unmapped("an average over something else than positions or channels")
    if any(isinstance(atom.role, int) for atom in layout.atoms):
        return _along(mapper, node, source, beam, layout, {int(role) for role in roles})
    return _collapsed(mapper, node, source, beam, layout)


def _grouped(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout) -> Value:
    """An average over a part of the channels: what is left of them is numbered anew."""
    left = sorted({atom for atom in layout.atoms if atom.role == CHANNELS}, key=lambda atom: atom.stride)
    new, groups = dict[Atom, Atom](), 1
    for atom in left:
        new[atom] = Atom(CHANNELS, atom.size, groups)
        groups *= atom.size
    made = Layout(tuple(tuple(new.get(atom, atom) for atom in axis) for axis in layout.axes))
    return mapper.one(node, "channel_mean", {"groups": groups}, Beam("", made, beam.positions, groups), source)


def _along(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout, gone: set[int]) -> Value:
    """An average over some of the position axes: a pool whose window is as long as they are."""
    if any(atom.role in gone for atom in layout.atoms):
        places = [place for place, axis in enumerate(beam.layout.axes) if axis and axis not in layout.axes]
        return pooled(mapper, node, source, places, layout, "avg")
    if not 1 < len(beam.positions) < 4:
        raise Unmapped("an average over one of more than three axes of positions")
    kernel = [size if role in gone else 1 for role, size in enumerate(beam.positions)]
    positions = tuple(1 if role in gone else size for role, size in enumerate(beam.positions))
    places = [axis for axis, pieces in enumerate(beam.layout.axes) if {atom.role for atom in pieces} & gone]
    here = mapper.before(node, torch.ops.aten.mean.dim, (source, places, True))
    made = Beam("", beam.layout.without(places, True), positions, beam.channels)
    pool, name = f"avg_pool{len(kernel)}d", mapper.name(node, "average")
    mapper.one(here, pool, {"kernel": kernel}, made, source, name=name)
    node.target, node.args, node.kwargs = torch.ops.aten.reshape.default, (here, list(sizes_of(node))), {}
    left = [role for role, size in enumerate(beam.positions) if role not in gone]
    return regridded(mapper, node, here, layout, left)


@rule("amax")
def largest(mapper: Mapper, node: Node) -> Value:
    """The largest over all positions, as a pool of one window; or over groups of channels."""
    source = arguments(node)[0]
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    places = [axis % len(beam.layout.axes) for axis in axes_of(node, 1)] or list(range(len(beam.layout.axes)))
    layout = beam.layout.without(places, bool(argument(node, 2, "keepdim", False)))
    roles = {atom.role for place in places for atom in beam.layout.axes[place]}
    if roles == {CHANNELS} and len(places) == 1 and len(beam.layout.axes[places[0]]) == 1:
        return _maxout(mapper, node, source, beam, layout, places[0])
    if roles and all(isinstance(role, int) for role in roles) and any(isinstance(a.role, int) for a in layout.atoms):
        return pooled(mapper, node, source, places, layout, "max")
    if not all(isinstance(role, int) for role in roles):
        raise Unmapped("a maximum over something else than positions or a group of channels")
    if prod(beam.positions) > _MOST_TAPS:
        raise Unmapped(f"a maximum over {prod(beam.positions)} places: more than {_MOST_TAPS} are not integrated")
    here = mapper.before(node, torch.ops.aten.amax.default, (source, places, True))
    inner = Beam("", beam.layout.without(places, True), (1,) * len(beam.positions), beam.channels)
    kernel = pair_of(beam.positions)
    pool = f"max_pool{len(beam.positions)}d"
    mapper.one(here, pool, {"kernel": kernel}, inner, source, name=mapper.name_for(node, "largest"))
    node.target, node.kwargs = torch.ops.aten.reshape.default, {}
    node.args = (here, list(sizes_of(node)))
    return mapper.one(node, "flatten", {}, Beam("", layout, (), beam.channels), here)


def _maxout(mapper: Mapper, node: Node, source: Node, beam: Beam, layout: Layout, place: int) -> Value:
    (group,) = beam.layout.axes[place]
    if group.stride != 1:
        raise Unmapped("a maximum over channels that are no neighbours")
    kept = [tuple(Atom(a.role, a.size, a.stride // group.size) if a.role == CHANNELS else a for a in axis)
            for axis in layout.axes]  # fmt: skip
    made = Beam("", Layout(tuple(kept)), beam.positions, beam.channels // group.size)
    return mapper.one(node, "maxout", {"pieces": group.size}, made, source)


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max(mapper: Mapper, node: Node) -> Value:
    before, after = sizes_of(arguments(node)[0])[2:], sizes_of(node)[2:]
    if any(large % small for large, small in zip(before, after, strict=True)):
        raise Unmapped("an adaptive maximum whose windows are unequal")
    kernel = pair_of([large // small for large, small in zip(before, after, strict=True)])
    return _pooled(mapper, node, f"max_pool{len(after)}d", {"kernel": kernel})


def two_of(value: Any) -> list[int]:
    """A number for both axes of a window."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [int(one) for one in (values * 2 if len(values) == 1 else values)]
