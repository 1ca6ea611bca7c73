"""Averages and maxima over positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.layout import CHANNELS
from lensnet.importers.operations import argument, arguments, axes_of, name_of
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.layout import as_grid

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def _pooled(mapper: Mapper, node: Node, component: str, parameters: dict[str, Any]) -> Value:
    source = arguments(node)[0]
    assert isinstance(source, Node)
    out = sizes_of(node)
    axes = tuple(range(2, len(out)))
    source, beam = as_grid(mapper, node, source, axes)
    if not beam.layout.roles(1) <= {CHANNELS}:
        raise Unmapped("a pool whose second axis is not the channels")
    layout = beam.layout
    for role, axis in enumerate(axes):
        layout = layout.with_axis(axis, role, out[axis])
    return mapper.one(node, component, parameters, Beam("", layout, tuple(out[2:]), beam.channels), source)


def _pair(value: Any, default: Any = None) -> Any:
    if value is None or value == []:
        value = default
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values[0] if len(set(values)) == 1 else values


def _rounded_up(node: Node, kernel: Any, padding: Any) -> bool:
    """Whether the last window reaches beyond the picture."""
    stride = argument(node, 2, "stride") or kernel
    source = arguments(node)[0]
    lists = [list(one) if isinstance(one, list | tuple) else [one] for one in (kernel, stride, padding or 0)]
    places = sizes_of(source)[2:]
    sizes = zip(places, *((each * len(places))[: len(places)] for each in lists), strict=True)
    return any((size + 2 * around - width) % step for size, width, step, around in sizes)


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
      "max_pool3d_with_indices")  # fmt: skip
def max_pool(mapper: Mapper, node: Node) -> Value:
    kernel = _pair(argument(node, 1, "kernel_size"))
    if argument(node, 5, "ceil_mode", False) and _rounded_up(node, kernel, argument(node, 3, "padding")):
        raise Unmapped("a pool that rounds its size up")
    parameters = {"kernel": kernel}
    for place, name, default in ((2, "stride", kernel), (3, "padding", 0), (4, "dilation", 1)):
        value = _pair(argument(node, place, name), default)
        if value != default:
            parameters[name] = value
    return _pooled(mapper, node, name_of(node).removesuffix("_with_indices"), parameters)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(mapper: Mapper, node: Node) -> Value:
    kernel = _pair(argument(node, 1, "kernel_size"))
    padding = _pair(argument(node, 3, "padding"), 0)
    up = bool(argument(node, 4, "ceil_mode", False)) and _rounded_up(node, kernel, padding)
    if up or argument(node, 6, "divisor_override") is not None:
        raise Unmapped("a pool that rounds its size up or divides by another number")
    parameters = {"kernel": kernel}
    stride = _pair(argument(node, 2, "stride"), kernel)
    parameters |= {"stride": stride} if stride != kernel else {}
    if padding:
        parameters["padding"] = padding
        if not argument(node, 5, "count_include_pad", True):
            parameters["padding_mode"] = "ignore"
    return _pooled(mapper, node, name_of(node), parameters)


@rule("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool3d")
def adaptive(mapper: Mapper, node: Node) -> Value:
    out = sizes_of(node)[2:]
    axes = tuple(range(2, 2 + len(out)))
    if set(out) == {1}:
        source = arguments(node)[0]
        assert isinstance(source, Node)
        source, beam = as_grid(mapper, node, source, axes)
        return _collapsed(mapper, node, source, beam, beam.layout.without(axes, keep=True))
    before = sizes_of(arguments(node)[0])[2:]
    if len(out) == 3 and all(large % small == 0 for large, small in zip(before, out, strict=True)):
        kernel = [large // small for large, small in zip(before, out, strict=True)]
        return _pooled(mapper, node, "avg_pool3d", {"kernel": _pair(kernel)})
    if len(out) == 3:
        raise Unmapped("an adaptive pool over three axes whose windows are unequal")
    return _pooled(mapper, node, "adaptive_avg_pool2d", {"output": _pair(out)})


@rule("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d")
def upsample(mapper: Mapper, node: Node) -> Value:
    """By a whole factor and without smoothing; of a single place, whatever the way."""
    before, after = sizes_of(arguments(node)[0])[2:], sizes_of(node)[2:]
    whole = all(large % small == 0 for large, small in zip(after, before, strict=True))
    if tuple(before) != (1, 1) and not (whole and name_of(node) == "upsample_nearest2d"):
        raise Unmapped("an enlargement that smooths, or by no whole factor")
    return _pooled(mapper, node, "upsample2d", {"output": _pair(after)})


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
    parameters = {"factor": int(arguments(node)[1]), "output": _pair(out[2:])}
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
    roles = {atom.role for place in places for atom in beam.layout.axes[place]}
    if not roles:
        return beam.laid(beam.layout.without(places, bool(argument(node, 2, "keepdim", False))))
    left = {a.role for place, axis in enumerate(beam.layout.axes) if place not in places for a in axis}
    if not all(isinstance(role, int) for role in roles) or any(isinstance(role, int) for role in left):
        raise Unmapped("an average over something else than all positions")
    layout = beam.layout.without(places, bool(argument(node, 2, "keepdim", False)))
    return _collapsed(mapper, node, source, beam, layout)
