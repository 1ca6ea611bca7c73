"""Operations with weight matrices: dense layers and convolutions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.layout import CHANNELS
from lensnet.importers.operations import argument, arguments
from lensnet.importers.rulebook import RULES, rule
from lensnet.importers.rules.contraction import contracted
from lensnet.importers.rules.heads import each_head, on_heads
from lensnet.importers.rules.initial import initial, short
from lensnet.importers.rules.layout import as_grid
from lensnet.importers.rules.patches import windowed
from lensnet.importers.rules.windows import ground

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("linear")
def linear(mapper: Mapper, node: Node) -> Value:
    weight = argument(node, 1, "weight")
    return dense(mapper, node, arguments(node)[0], weight, argument(node, 2, "bias"), transposed=False)


@rule("addmm")
def addmm(mapper: Mapper, node: Node) -> Value:
    if node.kwargs.get("beta", 1) != 1 or node.kwargs.get("alpha", 1) != 1:
        raise Unmapped("a scaled product")
    return dense(mapper, node, arguments(node)[1], arguments(node)[2], arguments(node)[0], transposed=True)


@rule("matmul", "mm", "bmm", "mv", "dot")
def matmul(mapper: Mapper, node: Node) -> Value:
    left, right = arguments(node)[:2]
    if mapper.static(right) and len(sizes_of(right)) == 2 and _over_channels(mapper, left, -1, sizes_of(right)[0]):
        return dense(mapper, node, left, right, None, transposed=True)
    if mapper.static(left) and len(sizes_of(left)) == 2 and _over_channels(mapper, right, -2, sizes_of(left)[1]):
        return _from_the_left(mapper, node, left, right)
    if mapper.static(right) and mapper.drawn(right) and each_head(mapper.beam(left).layout, sizes_of(right)):
        return on_heads(mapper, node, left, right, None, sizes_of(right)[-1], tied=False)
    return contracted(mapper, node, left, right)


@rule("baddbmm")
def baddbmm(mapper: Mapper, node: Node) -> Value:
    """A batch of products and what is added to them."""
    added, left, right = arguments(node)[:3]
    if any(node.kwargs.get(name, 1) != 1 for name in ("alpha", "beta")):
        raise Unmapped("a scaled product")
    if mapper.static(right) and mapper.static(added) and each_head(mapper.beam(left).layout, sizes_of(right)):
        return on_heads(mapper, node, left, right, added, sizes_of(right)[-1], tied=False)
    here = mapper.before(node, torch.ops.aten.bmm.default, (left, right))
    mapper.values[here] = matmul(mapper, here)
    node.target, node.args = torch.ops.aten.add.Tensor, (here, added)
    return RULES["add"](mapper, node)


def _over_channels(mapper: Mapper, source: Any, axis: int, count: int) -> bool:
    """Whether an axis of a signal holds all its channels, or (the last one) what a dense layer can be turned to."""
    beam = mapper.beam(source)
    if axis == -1 and mapper.static(source):
        return False
    return beam.layout.roles(axis) <= {CHANNELS} and beam.channels == count


def _from_the_left(mapper: Mapper, node: Node, weight: Any, source: Any) -> Value:
    """W x: a dense layer over the channels where they are the last axis but one."""
    beam, (units, fan_in) = mapper.beam(source), sizes_of(weight)
    if not beam.layout.roles(-2) <= {CHANNELS} or fan_in != beam.channels:
        raise Unmapped("a dense layer over something else than all channels")
    made = Beam("", beam.layout.with_axis(-2, CHANNELS, units), beam.positions, units)
    parameters = {"units": units, **initial(mapper.law(weight), None, fan_in)}
    return mapper.one(node, "linear", parameters, made, source, owns=[weight])


def dense(mapper: Mapper, node: Node, source: Any, weight: Any, bias: Any, transposed: bool) -> Value:
    """y = x W^T + b over the last axis; `transposed`: the weight is stored (in, out)."""
    if not mapper.static(weight):
        raise Unmapped("weights that depend on the input")
    if bias is not None and not mapper.static(bias):
        raise Unmapped("a bias that depends on the input")
    source, beam = windowed(mapper, node, source)
    rows = sizes_of(weight)
    fan_in, units = (rows[0], rows[1]) if transposed else (rows[1], rows[0])
    last = beam.layout.axes[-1]
    roles = {atom.role for atom in last}
    if roles and roles <= set(range(9)) and len(beam.positions) == 1 and fan_in == beam.positions[0]:
        source, beam = _turned(mapper, node, source, beam)
        roles = {CHANNELS}
    if roles <= {CHANNELS} and 1 < beam.channels > fan_in == beam.layout.sizes[-1]:
        return on_heads(mapper, node, source, weight, bias, units)
    if not roles <= {CHANNELS} or fan_in != beam.channels:
        raise Unmapped("a dense layer over something else than all channels")
    laws = mapper.law(weight), None if bias is None else mapper.law(bias)
    parameters = {"units": units, **initial(*laws, fan_in)}
    made = Beam("", beam.layout.with_axis(-1, CHANNELS, units), beam.positions, units)
    kind, owner = "tied_linear" if mapper.is_embedding(weight) else "linear", mapper.owner(weight)
    if owner is not None and kind == "linear":
        turned = mapper.turned(weight) != transposed
        if (owner, not turned) in mapper.passed:
            raise Unmapped("a matrix that was passed the other way before: there and back nothing is independent")
        mapper.passed.add((owner, turned))
    return mapper.add(node, kind, parameters, [(source, beam)], made, owns=[weight, bias])


@rule("bilinear")
def bilinear(mapper: Mapper, node: Node) -> Value:
    left, right, weight, bias = arguments(node)[:4]
    a, b = mapper.beam(left), mapper.beam(right)
    units, rows, columns = sizes_of(weight)
    whole = all(one.layout.roles(-1) <= {CHANNELS} for one in (a, b)) and (rows, columns) == (a.channels, b.channels)
    if not whole or a.positions != b.positions or not mapper.static(weight):
        raise Unmapped("a bilinear layer over something else than all channels")
    laws = mapper.law(weight), None if bias is None else mapper.law(bias)
    parameters = {"units": units, **initial(*laws, rows * columns)}
    made = Beam("", a.layout.with_axis(-1, CHANNELS, units), a.positions, units)
    return mapper.add(node, "bilinear", parameters, [(left, a), (right, b)], made, owns=[weight, bias])


def _turned(mapper: Mapper, node: Node, source: Node, beam: Beam) -> tuple[Node, Beam]:
    """Tokens and channels exchanged, for a dense layer over the tokens."""
    layout = beam.layout
    axis = layout.axes_of(CHANNELS)
    if len(axis) != 1 or layout.roles(axis[0]) != {CHANNELS}:
        raise Unmapped("a dense layer over tokens whose channels are cut")
    turned = layout.with_axis(axis[0], 0, beam.channels).with_axis(-1, CHANNELS, beam.positions[0])
    made = Beam("", turned, (beam.channels,), beam.positions[0])
    here = mapper.between(node, source)
    return here, mapper.add(here, "transpose", {}, [(source, beam)], made, name=f"{_place(node)}transpose")


def _place(node: Node) -> str:
    from lensnet.importers.draft import module_of

    path = module_of(node)[0]
    return f"{path.rpartition('.')[0]}." if "." in path else ""


@rule("conv1d", "conv2d", "conv3d", "convolution")
def conv(mapper: Mapper, node: Node) -> Value:
    weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    stride, padding = argument(node, 3, "stride", 1), argument(node, 4, "padding", 0)
    dilation, groups = argument(node, 5, "dilation", 1), int(argument(node, 6, "groups", 1))
    sizes = sizes_of(weight)
    rank = len(sizes) - 2
    if rank not in (1, 2, 3) or not mapper.static(weight):
        raise Unmapped("a convolution whose weights depend on the input, or over more than three axes")
    source = arguments(node)[0]
    assert isinstance(source, Node)
    if groups == 1 and _covered(mapper.beam(source), sizes) and set(_each(padding, rank)) <= {0, "valid"}:
        return _whole(mapper, node, source, weight, bias)
    if rank == 2 and (made := _along_tokens(mapper, node, source, weight, bias)) is not None:
        return made
    under = ground(mapper, node, source, tuple(range(2, 2 + rank)))
    beam = under.beam
    if not beam.layout.roles(1) <= {CHANNELS} or beam.channels != sizes[1] * groups:
        raise Unmapped("a convolution whose second axis is not the channels")
    kernel = list(sizes[2:])
    if isinstance(padding, str):
        if padding == "same" and any(k % 2 == 0 for k in kernel):
            raise Unmapped("uneven padding")
        dilations = _each(dilation, rank)
        padding = (
            [d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True)] if padding == "same" else [0] * rank
        )
    laws = mapper.law(weight), None if bias is None else mapper.law(bias)
    parameters = {
        "filters": sizes[0],
        "kernel": under.each(kernel, 1),
        "stride": under.each(stride, 1),
        "padding": under.each(padding, 0),
        "dilation": under.each(dilation, 1),
        "groups": groups,
    }
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    parameters = {key: value for key, value in parameters.items() if defaults.get(key) != value}
    parameters |= initial(*laws, prod(sizes[1:])) | _centred(mapper, weight)
    layout, positions = under.made(sizes_of(node)[2:])
    made = Beam("", layout.with_axis(1, CHANNELS, sizes[0]), positions, sizes[0])
    return mapper.one(node, f"conv{under.rank}d", parameters, made, under.source, owns=[weight, bias])


def _centred(mapper: Mapper, weight: Any) -> dict[str, bool]:
    """Filters that are computed from a parameter and have no mean: standardised ones."""
    value = mapper.value_of(weight) if mapper.owner(weight) is None else None
    if value is None or value[0].numel() < 2:
        return {}
    rows = value.flatten(1).double()
    return {"centred": True} if bool((rows.mean(1).abs() < 1e-4 * rows.std(1)).all()) else {}


def _covered(beam: Beam, sizes: tuple[int, ...]) -> bool:
    """Whether a kernel is as large as what lies along its axes, and all of that are the channels of one place."""
    axes = range(1, len(sizes))
    channels = all(beam.layout.roles(axis) <= {CHANNELS} for axis in axes)
    return channels and beam.layout.sizes[2:] == sizes[2:] and prod(sizes[1:]) == beam.channels


def _whole(mapper: Mapper, node: Node, source: Node, weight: Any, bias: Any) -> Value:
    """A convolution that sees everything at once, behind a pool or over patches that were cut before: a dense layer."""
    beam, sizes = mapper.beam(source), sizes_of(weight)
    laws = mapper.law(weight), None if bias is None else mapper.law(bias)
    layout = beam.layout.with_axis(1, CHANNELS, sizes[0])
    for axis in range(2, len(sizes)):
        layout = layout.with_axis(axis, None, 1)
    parameters = {"units": sizes[0], **initial(*laws, prod(sizes[1:]))}
    made = Beam("", layout, beam.positions, sizes[0])
    return mapper.one(node, "linear", parameters, made, source, owns=[weight, bias])


def _along_tokens(mapper: Mapper, node: Node, source: Node, weight: Any, bias: Any) -> Value:
    """A convolution over a sequence that is read as a picture of one colour, whose filters are as wide as its channels:
    one along the tokens. None where it is anything else."""
    beam, sizes = mapper.beam(source), sizes_of(weight)
    stride, padding, dilation = (
        _each(argument(node, 3 + place, name, default), 2)
        for place, (name, default) in enumerate((("stride", 1), ("padding", 0), ("dilation", 1)))
    )
    layout = beam.layout
    if len(beam.positions) != 1 or sizes[1] != 1 or layout.axes[1] or "same" in padding:
        return None
    for along, across in ((2, 3), (3, 2)):
        whole = layout.roles(across) == {CHANNELS} and layout.roles(along) == {0}
        if whole and sizes[across] == beam.channels == layout.sizes[across]:
            if padding[across - 2] not in (0, "valid"):
                return None
            place, out = along - 2, sizes_of(node)[along]
            given = {"stride": stride[place], "padding": padding[place], "dilation": dilation[place]}
            laws = mapper.law(weight), None if bias is None else mapper.law(bias)
            made = layout.with_axis(1, CHANNELS, sizes[0]).with_axis(along, 0, out).with_axis(across, None, 1)
            parameters = {"filters": sizes[0], "kernel": sizes[along], **initial(*laws, prod(sizes[1:]))}
            parameters |= {key: n for key, n in given.items() if n not in (0, "valid") and (key, n) not in _USUAL}
            return mapper.one(node, "conv1d", parameters, Beam("", made, (out,), sizes[0]), source, owns=[weight, bias])
    return None


_USUAL = (("stride", 1), ("dilation", 1))


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(mapper: Mapper, node: Node) -> Value:
    weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    groups = int(argument(node, 6, "groups", 1))
    source = arguments(node)[0]
    assert isinstance(source, Node)
    sizes, out = sizes_of(weight), sizes_of(node)
    rank = len(sizes) - 2
    source, beam = as_grid(mapper, node, source, tuple(range(2, 2 + rank)))
    parameters: dict[str, Any] = {"filters": sizes[1] * groups, "kernel": _plain(sizes[2:])}
    for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "output_padding", 0), (7, "dilation", 1)):
        value = _plain(_each(argument(node, place, name, default), rank))
        if value != default:
            parameters[name] = value
    if groups != 1:
        parameters["groups"] = groups
    laws = mapper.law(weight), None if bias is None else mapper.law(bias)
    # torch counts the fan-in of a transposed convolution along the outputs
    parameters |= initial(*laws, sizes[0] * prod(sizes[2:]) // groups)
    if parameters.get("init") == "torch":
        parameters.pop("init")
        parameters |= {"init": "uniform", "std": short(laws[0].std)}
        parameters |= {"bias_std": short(laws[1].std)} if laws[1] is not None and laws[1].std else {}
    layout = beam.layout.with_axis(1, CHANNELS, out[1])
    for role in range(rank):
        layout = layout.with_axis(2 + role, role, out[2 + role])
    made = Beam("", layout, tuple(out[2:]), out[1])
    return mapper.one(node, f"conv_transpose{rank}d", parameters, made, source, owns=[weight, bias])


def _each(value: Any, rank: int) -> list[Any]:
    """One number for each axis, or what torch says instead."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [one if isinstance(one, str) else int(one) for one in (values * rank if len(values) == 1 else values)]


def _plain(values: Any) -> Any:
    values = list(values)
    return values[0] if len(set(values)) == 1 else values
