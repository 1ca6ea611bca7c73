"""Scaled dot-product attention, fused or written out, and rotary positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.inputs import lit
from lensnet.importers.layout import CHANNELS, COPIES, EXAMPLES, Atom, Layout
from lensnet.importers.operations import argument, arguments, name_of, table
from lensnet.importers.patterns.attention import trunk
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.blocks import run_of
from lensnet.importers.rules.layout import turned
from lensnet.importers.rules.logits import QUIET, Added, on_logits, sink_of
from lensnet.network.windows import Windows

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def _all_lit(mapper: Mapper, node: Node, tensors: tuple[Any, ...], spread: bool) -> list[Any]:
    """Queries, keys or values that depend on no input as lights of their own, laid out as one that does. `spread`: the
    key is given with its last two axes exchanged."""
    signals = [one for one in tensors if isinstance(mapper.values.get(one), Beam)]
    out = []
    for place, one in enumerate(tensors):
        if signals and mapper.static(one):
            like = mapper.beam(signals[0]).layout
            rank = len(like.axes)
            turned = [*range(rank - 2), rank - 1, rank - 2]
            like = like.permuted(turned) if spread and signals[0] is tensors[1] else like
            length, width = (sizes_of(one)[axis] for axis in ((-1, -2) if spread and place == 1 else (-2, -1)))
            layout = _of_width(like.with_axis(-2, 0, length), width)
            own = layout.permuted(turned) if spread and place == 1 else layout
            if own.sizes != sizes_of(one):
                raise Unmapped("queries that are laid out in another way than keys")
            one = lit(mapper, node, one, own, (length,))
        out.append(one)
    return out


@rule("scaled_dot_product_attention")
def fused(mapper: Mapper, node: Node) -> Value:
    query, key, value = _all_lit(mapper, node, arguments(node)[:3], spread=False)
    mask, causal = argument(node, 3, "attn_mask"), bool(argument(node, 5, "is_causal", False))
    width = mapper.beam(query).layout.sizes[-1]
    scale = argument(node, 6, "scale")
    factor = 1.0 if scale is None else float(scale) * sqrt(width)
    added = Added()
    if mask is not None:
        (added.biases.append((mask, 1.0)) if mask.meta["val"].is_floating_point() else added.seen.append(mask))
    taps = [_Tap(one, mapper.beam(one)) for one in (query, key)]
    return _attend(mapper, node, taps[0], taps[1], value, added, causal, factor)


@rule("cluster attention")
def written_out(mapper: Mapper, node: Node) -> Value:
    info = mapper.clusters[node].info
    query, key, value = info["query"], info["key"], info["value"]
    tables: dict[str, Any] = {}
    if info["tables"]:
        query, key, factor, tables = _with_tables(mapper, info)
    else:
        query, key, factor = _Tap(query, mapper.beam(query)), _Tap(key, mapper.beam(key)), info["factor"]
    if not info.get("upright"):
        rank = len(key.seen.layout.axes)
        key = _Tap(key.node, key.seen.laid(key.seen.layout.permuted([*range(rank - 2), rank - 1, rank - 2])))
    factor *= sqrt(query.seen.layout.sizes[-1])
    if info["capped"] is not None:
        mapper.notes.append(f"a cap of logits at {info['capped']:g} is left out: they do not come near it")
    added = Added(info["biases"], info["hidden"], info["seen"])
    sink = info.get("sink")
    tables |= {} if sink is None else sink_of(mapper, *sink[:2])
    return _attend(mapper, node, query, key, value, added, False, factor, tables, [sink[0]] if sink else [])


@dataclass(frozen=True)
class _Tap:
    """Where queries or keys come in, and how they are laid out where they meet."""

    node: Any
    seen: Beam


def _with_tables(mapper: Mapper, info: dict[str, Any]) -> tuple[_Tap, _Tap, float, dict[str, Any]]:
    """Queries and keys that also meet tables of relative positions: both where they part, the factor of their product,
    and the root mean squares of what the tables add to the keys of a query, and to the queries of a key."""
    stems = [trunk(info[port], mapper, mapper.is_signal) for port in ("query", "key")]
    factor = info["factor"] * stems[0][1] * stems[1][1]
    power = [0.0, 0.0]
    for signal, relative, scale, along in info["tables"]:
        stem, own, _ = trunk(signal, mapper, mapper.is_signal)
        places = [place for place in (0, 1) if stems[place][0] is stem]
        value = mapper.value_of(relative)
        if len(places) != 1 or value is None or not factor:
            raise Unmapped("logits with a part that depends on something else than queries and keys")
        keys = int(relative.meta["val"].shape[-1 if along else -2])
        length = min(mapper.beam(stems[1][0]).positions[0], keys) if mapper.beam(stems[1][0]).positions else keys
        power[places[0]] += (scale * own / factor) ** 2 * _own_power(value, -1 if along else -2, length)
    taps = [_Tap(stem, _led(mapper, stem, way)) for stem, _, way in stems]
    added = [mapper.value_of(one) for node in stems[0][2] if name_of(node) == "add" for one in arguments(node)[:2]
             if mapper.static(one)]  # fmt: skip
    power.append(sum(float(one.double().square().mean()) for one in added if one is not None))
    names = zip(("key_table", "query_table", "query_offset"), power, strict=True)
    return taps[0], taps[1], factor, {name: float(f"{sqrt(one):.4g}") for name, one in names if one > QUIET**2}


def _own_power(value: Tensor, axis: int, length: int) -> float:
    """Second moment of what differs between the rows of a table that one query meets: `length` neighbours."""
    if length < 2:
        return float(value.double().square().mean())
    return float(value.double().unfold(axis, length, 1).var(-1).mean())


def _led(mapper: Mapper, stem: Any, way: list[Node]) -> Beam:
    """How a signal is laid out after views, factors and tables that are added."""
    from lensnet.importers.rules.layout import relaid

    beam = mapper.beam(stem)
    for node in way:
        if name_of(node) in table()["layout"]:
            beam = beam.laid(relaid(beam.layout, node, name_of(node)))
        elif beam.layout.sizes != tuple(node.meta["val"].shape):
            raise Unmapped("queries or keys that are spread by what is added to them")
    return beam


def _attend(
    mapper: Mapper, node: Node, query: _Tap, key: _Tap, value: Any, added: Added, causal: bool, factor: float,
    more: dict[str, Any] | None = None, owns: Sequence[Any] = (),
) -> Value:  # fmt: skip
    crossed = _crossed(mapper.beam(value))
    query, key, last = (_exchanged(mapper, node, one) for one in (query, key, _Tap(value, mapper.beam(value))))
    q, k = query.seen, key.seen
    heads, key_heads, windows = _heads(q), _heads(k), _windows(q)
    value = _for_all(mapper, node, last.node, key_heads)
    v = mapper.beam(value)
    if _heads(v) != key_heads or q.layout.sizes[-1] != k.layout.sizes[-1]:
        raise Unmapped("attention whose heads have different widths")
    if _windows(k) != _windows(v) or windows.count != _windows(k).count:
        raise Unmapped("queries and keys that are cut into different windows")
    parameters: dict[str, Any] = {"heads": heads} | ({"crossed": True} if crossed else {})
    if key_heads != heads:
        parameters["key_heads"] = key_heads
    if windows.count > 1:
        parameters["window"] = list(windows.sizes) if len(windows.sizes) > 1 else windows.sizes[0]
        if windows.spread:
            parameters["spread"] = True
    marked = causal or added.biases or added.hidden or added.seen
    if k.layout.axes[-2] != v.layout.axes[-2] or (marked and not (_ordered(q) and _ordered(k))):
        raise Unmapped("attention over positions in another order")
    parameters |= on_logits(mapper, added, causal, windows, _windows(k), heads)
    if abs(factor - 1) > 1e-6:
        parameters["factor"] = float(f"{factor:.7g}")
    width = v.layout.sizes[-1]
    made = Beam("", _of_width(q.layout, width), q.positions, heads * width)
    if made.layout.sizes != tuple(node.meta["val"].shape):
        made = made.laid(made.layout.reshaped(tuple(node.meta["val"].shape)))
    taps = [(one.node, mapper.beam(one.node)) for one in (query, key)]
    return mapper.add(node, "attend", parameters | (more or {}), [*taps, (value, v)], made, owns=owns)


def _for_all(mapper: Mapper, node: Node, value: Node, heads: int) -> Node:
    """Values that are repeated so that there are as many heads of them as of the keys (differential attention), as
    heads of their own."""
    beam = mapper.beam(value)
    times = heads // max(_heads(beam), 1)
    copies = [(place, atom) for place, axis in enumerate(beam.layout.axes) for atom in axis if atom.role == COPIES]
    if times < 2 or not copies or copies[0][1].size != times:
        return value
    place, first = copies[0]
    axis = tuple(Atom(CHANNELS, times, beam.channels) if one is first else one for one in beam.layout.axes[place])
    made = Beam("", Layout((*beam.layout.axes[:place], axis, *beam.layout.axes[place + 1 :])), beam.positions,
                beam.channels * times)  # fmt: skip
    here = mapper.between(node, value)
    mapper.values[here] = mapper.add(here, "tile", {"times": times, "compared": True}, [(value, beam)], made)
    return here


def _crossed(beam: Beam) -> bool:
    """Whether channels attend to one another: tokens stand where the channels of a head do (El-Nouby et al. 2021)."""
    return len(beam.positions) == 1 and beam.layout.roles(-1) == {0} and beam.layout.roles(-2) == {CHANNELS}


def _exchanged(mapper: Mapper, node: Node, tap: _Tap) -> _Tap:
    """Channels as the tokens of attention in windows, one window for each head; other taps as they are."""
    if not _crossed(tap.seen):
        return tap
    same = tap.seen.layout.axes == mapper.beam(tap.node).layout.axes
    here, beam = turned(mapper, node, tap.node)
    rank = len(beam.layout.axes)
    order = [*range(rank - 2), rank - 1, rank - 2]
    return _Tap(here, beam if same else beam.laid(beam.layout.permuted(order)))


def _of_width(layout: Layout, width: int) -> Layout:
    """The layout of queries where every head has another width."""
    old = layout.sizes[-1]
    if old == width:
        return layout
    outer = tuple(
        tuple(Atom(a.role, a.size, a.stride // old * width) if a.role == CHANNELS else a for a in axis)
        for axis in layout.axes[:-1]
    )
    return Layout((*outer, (Atom(CHANNELS, width),) if width > 1 else ()))


def _heads(beam: Beam) -> int:
    """Heads of a tensor (..., T, width): channels that do not stand on the last axis."""
    layout = beam.layout
    if not beam.positions:
        raise Unmapped("attention over something without positions")
    if layout.roles(-1) - {CHANNELS} or not all(isinstance(role, int) for role in layout.roles(-2)):
        raise Unmapped("attention over something else than positions")
    outside = Layout(layout.axes[:-2])
    if any(not isinstance(a.role, int) and a.role not in (EXAMPLES, CHANNELS, COPIES) for a in outside.atoms):
        raise Unmapped("attention over something else than positions")
    return outside.size_of(CHANNELS)


def _ordered(beam: Beam) -> bool:
    """Whether the places of a window lie row by row along the axis before the last."""
    pieces = beam.layout.axes[-2]
    return [a.role for a in pieces] == sorted({a.role for a in pieces}, key=str)


def _windows(beam: Beam) -> Windows:
    """The windows that a tensor (..., T, width) is cut into: its axis before the last holds the places of one."""
    sizes, kinds = [], set()
    for role, whole in enumerate(beam.positions):
        found = run_of(atom for atom in beam.layout.axes[-2] if atom.role == role)
        if found is None:
            raise Unmapped("attention over a part of the positions that is no window")
        size, stride = found
        if 1 < size < whole:
            kinds.add(stride)
            if stride not in (1, whole // size):
                raise Unmapped("attention over a part of the positions that is no window")
        sizes.append(size)
    spread = any(stride > 1 for stride in kinds)
    if spread and 1 in kinds:
        raise Unmapped("attention in windows that are near along one axis and spread along another")
    return Windows(beam.positions, tuple(sizes), spread)


@rule("cluster rotary")
def rotary(mapper: Mapper, node: Node) -> Value:
    cluster = mapper.clusters[node]
    beam = mapper.beam(cluster.source)
    if len(beam.positions) != 1:
        raise Unmapped("a rotation of something else than tokens")
    layout = beam.layout
    width = layout.sizes[-1] if layout.roles(-1) == {CHANNELS} else beam.channels
    found = [
        mapper.value_of(one) for factor in cluster.info["tables"] for one in arguments(factor) if mapper.static(one)
    ]
    stretch = max((float(value.abs().max()) for value in found if value is not None), default=1.0)
    parameters = {"heads": beam.channels // width}
    if stretch <= 1.0 + 1e-4:
        return mapper.one(node, "rotary", parameters, beam, cluster.source)
    if not all(value is not None and _within(value, stretch) for value in found):
        raise Unmapped("a linear map that is no rotation")
    return _stretched(mapper, node, parameters, beam, cluster.source, float(f"{stretch:.7g}"))


def _within(table: Tensor, length: float) -> bool:
    """Whether a table holds cosines or sines of that amplitude: at the first place all of them are there in full, or
    none is."""
    sizes = table.abs().flatten(0, -2)[0]
    return bool(((sizes - length).abs() < 1e-3 * length).all() or (sizes < 1e-3 * length).all())


def _stretched(
    mapper: Mapper, node: Node, parameters: dict[str, Any], beam: Beam, source: Node, factor: float
) -> Value:  # fmt: skip
    """A rotation whose tables are all longer than one (positions beyond the trained length), and that factor."""
    users, behind = list(node.users), node.next
    turned = mapper.before(behind, torch.ops.aten.mul.Tensor, (node, 1 / factor))
    whole = mapper.before(behind, torch.ops.aten.mul.Tensor, (turned, factor))
    for user in users:
        user.replace_input_with(node, whole)
    for cluster in mapper.clusters.values():  # what found the rotation before finds the longer one
        cluster.info = {key: whole if value is node else value for key, value in cluster.info.items()}
    made = mapper.add(turned, "rotary", parameters, [(source, beam)], beam)
    mapper.values[turned] = made
    mapper.values[whole] = mapper.one(whole, "scale", {"factor": factor}, made, turned)
    return made
