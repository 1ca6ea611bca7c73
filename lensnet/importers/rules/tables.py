"""Rows of tables: token embeddings, hashes of tokens, positions and segments that were computed."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Index, Static, Unmapped, Value, sizes_of
from lensnet.importers.inputs import light
from lensnet.importers.layout import CHANNELS, EXAMPLES, Layout
from lensnet.importers.operations import argument
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.initial import short

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@rule("embedding")
def embedding(mapper: Mapper, node: Node) -> Value:
    table, ids = argument(node, 0, "weight"), argument(node, 1, "indices")
    value = mapper.values.get(ids)
    if isinstance(value, Index) and not value.ids:
        layout = _of_tokens(mapper, ids)
        if layout is None and not _different(mapper, ids):
            return Static(node)  # positions or segments that were computed: a table added to every example
        layout = layout or Layout.of([EXAMPLES, 0], sizes_of(ids))
        value = Index(layout, ids=True)
    if not isinstance(value, Index) or value.layout is None:
        raise Unmapped("an embedding of something else than token ids")
    rows, units = sizes_of(table)
    layout = value.layout
    layout = type(layout)((*layout.axes, ())).with_axis(-1, CHANNELS, units)
    places = [atom.role for atom in layout.atoms if isinstance(atom.role, int)]
    sizes = sizes_of(node)
    rank = len(sizes) - 2
    if rank != 1:
        raise Unmapped("token ids that are not (N, T)")
    positions = (layout.size_of(0),) if places else (1,)
    law = mapper.law(table)
    std = sqrt(law.second_moment) if law.kind != "unknown" else 1.0
    made = Beam("", layout, positions, units)
    first, source = _beginning(ids), mapper.input
    if first is source and not mapper.vocabulary:
        mapper.vocabulary = rows
    if source is None or first is not source or sizes_of(first) not in (sizes_of(ids), sizes_of(ids)[:1]):
        return light(mapper, node, made, 0.0, short(std), owns=[table])
    parameters: dict[str, Any] = {"units": units, "std": short(std)}
    if law.kind == "random" and law.distribution != "normal":
        parameters["init"] = law.distribution if law.distribution != "orthogonal" else "normal"
    if mapper.vocabulary != rows:
        parameters["vocabulary"] = rows
    return mapper.add(node, "embedding", parameters, [(source, None)], made, owns=[table])


def _of_tokens(mapper: Mapper, ids: Node) -> Layout | None:
    """How numbers that were computed from the token ids one by one (hashes) are laid out; None for all others."""
    start = _beginning(ids)
    begun, given, found = mapper.values.get(start), mapper.captured.inputs.get(start.name), mapper.value_of(ids)
    if start is not mapper.input or not isinstance(begun, Index) or given is None or found is None:
        return None
    if given.is_meta or given.shape != found.shape or found.unique().numel() <= _FEW:
        return None
    pairs = torch.stack((given.flatten().cpu(), found.flatten()), 1).unique(dim=0)
    return begun.layout if len(pairs) == given.unique().numel() else None


_FEW = 3
"""Numbers of so few values are segments, not tokens."""


def _different(mapper: Mapper, ids: Any) -> bool:
    """Whether ids that were computed from those of the call are others in every example. Raises Unmapped where a signal
    chose them."""
    found = mapper.value_of(ids)
    if found is None and not mapper.captured.on_meta:
        raise Unmapped("a table that is looked up at places which the signal chooses")
    if found is None or found.dim() != 2 or mapper.batch_axis != 0 or mapper.input is None:
        return False
    many = found.unique().numel() > _FEW
    return many and len(found) == sizes_of(mapper.input)[0] and bool((found != found[:1]).any())


def _beginning(node: Any) -> Any:
    """Where ids came in."""
    while isinstance(node, Node) and node.op != "placeholder" and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node
