"""Scaled dot-product attention, fused or written out, and rotary positions."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.draft import Beam, Index, Unmapped, Value
from lensnet.importers.layout import CHANNELS, EXAMPLES, Layout
from lensnet.importers.mapping import rule
from lensnet.importers.operations import argument, arguments

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("scaled_dot_product_attention")
def fused(mapper: Mapper, node: Node) -> Value:
    query, key, value = arguments(node)[:3]
    mask, causal = argument(node, 3, "attn_mask"), bool(argument(node, 5, "is_causal", False))
    width = mapper.beam(query).layout.sizes[-1]
    scale = argument(node, 6, "scale")
    factor = 1.0 if scale is None else float(scale) * sqrt(width)
    masks = [] if mask is None else [mask]
    return _attend(mapper, node, query, key, value, masks, causal, factor)


@rule("cluster attention")
def written_out(mapper: Mapper, node: Node) -> Value:
    info = mapper.clusters[node].info
    query, key, value = info["query"], info["key"], info["value"]
    beam = mapper.beam(key)
    rank = len(beam.layout.axes)
    turned = beam.laid(beam.layout.permuted([*range(rank - 2), rank - 1, rank - 2]))
    factor = info["factor"] * sqrt(mapper.beam(query).layout.sizes[-1])
    return _attend(mapper, node, query, key, value, info["masks"], False, factor, turned)


def _attend(
    mapper: Mapper, node: Node, query: Any, key: Any, value: Any, masks: list[Any], causal: bool, factor: float,
    turned: Beam | None = None,
) -> Value:  # fmt: skip
    q, k, v = mapper.beam(query), turned or mapper.beam(key), mapper.beam(value)
    heads, key_heads = _heads(q), _heads(k)
    if _heads(v) != key_heads or q.layout.sizes[-1] != k.layout.sizes[-1] or v.channels != k.channels:
        raise Unmapped("attention whose heads have different widths")
    seen = (q.positions[0], k.positions[0])
    for mask in masks:
        causal |= _masked(mapper, mask, seen)
    parameters: dict[str, Any] = {"heads": heads}
    if key_heads != heads:
        parameters["key_heads"] = key_heads
    if causal:
        parameters["causal"] = True
    if abs(factor - 1) > 1e-6:
        parameters["factor"] = float(f"{factor:.7g}")
    layout = q.layout
    if layout.sizes != tuple(node.meta["val"].shape):
        layout = layout.reshaped(tuple(node.meta["val"].shape))
    made = Beam("", layout, q.positions, q.channels)
    key_beam = mapper.beam(key)
    return mapper.add(node, "attend", parameters, [(query, q), (key, key_beam), (value, v)], made)


def _heads(beam: Beam) -> int:
    """Heads of a tensor (..., T, width): channels that do not stand on the last axis."""
    layout = beam.layout
    if len(beam.positions) != 1:
        raise Unmapped("attention over an image that is not a sequence")
    if layout.roles(-1) != {CHANNELS} or not layout.roles(-2) <= {0} or layout.sizes[-2] != beam.positions[0]:
        raise Unmapped("attention over a part of the positions (windows)" if layout.roles(-2) <= {0, 1} else
                       "attention over something else than positions")  # fmt: skip
    outside = Layout(layout.axes[:-2])
    if any(atom.role not in (EXAMPLES, CHANNELS, "copies") for atom in outside.atoms):
        raise Unmapped("attention in windows")
    return outside.size_of(CHANNELS)


def _masked(mapper: Mapper, mask: Any, seen: tuple[int, int]) -> bool:
    """Whether a mask hides exactly the later positions. Raises Unmapped for any other that hides or biases."""
    filled = isinstance(mask, tuple)
    found = mapper.value_of(mask[1] if filled else mask)
    if found is None:
        if not mapper.captured.on_meta and not isinstance(mapper.values.get(mask), Index):
            raise Unmapped("logits with a bias of their own")
        mapper.notes.append("masks have no values here: where there is one, it is taken as causal")
        return seen[0] == seen[1]
    open_ = ~found if filled else found
    if open_.is_floating_point():
        open_ = _finite(open_)
    if open_.numel() == 1 or bool(open_.all()):
        return False
    rows = open_.expand(*open_.shape[:-2], *seen) if open_.dim() >= 2 else open_
    if seen[0] == seen[1] and bool((rows == torch.ones(seen, dtype=torch.bool).tril()).all()):
        return True
    raise Unmapped("attention with a mask that is neither full nor causal")


def _finite(bias: Tensor) -> Tensor:
    """Which logits stay, of an additive mask."""
    kept = bias > -1e4
    if kept.any() and float(bias[kept].abs().max()) > 1e-3:
        raise Unmapped("logits with a bias of their own")
    return kept


@rule("cluster rotary")
def rotary(mapper: Mapper, node: Node) -> Value:
    cluster = mapper.clusters[node]
    beam = mapper.beam(cluster.source)
    if len(beam.positions) != 1:
        raise Unmapped("a rotation of something else than tokens")
    layout = beam.layout
    width = layout.sizes[-1] if layout.roles(-1) == {CHANNELS} else beam.channels
    for product in cluster.info["tables"]:
        for one in arguments(product):
            value = mapper.value_of(one) if mapper.static(one) else None
            if value is not None and float(value.abs().max()) > 1.0 + 1e-4:
                raise Unmapped("a linear map that is no rotation")
    parameters = {"heads": beam.channels // width}
    return mapper.one(node, "rotary", parameters, beam, cluster.source)
