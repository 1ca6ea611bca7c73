"""Operations of a captured graph run on other numbers than the model's, to be known by what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node

from lensnet.importers.patterns.cluster import between
from lensnet.importers.statics import Statics

_SYMBOLIC = 8  # rows where their number depends on the data


def run(statics: Statics, order: Sequence[Node], given: Mapping[Node, Any], ends: Sequence[Node]) -> list[Any]:
    """Operations on other numbers than those of the model; what has none there is zero."""
    values: dict[Node, Any] = dict(given)

    def of(one: Node) -> Any:
        if one not in values:
            found = statics.value_of(one) if statics.static(one) or not one.all_input_nodes else None
            shape = getattr(one.meta.get("val"), "shape", ())
            kind = getattr(one.meta.get("val"), "dtype", None)
            values[one] = torch.zeros(concrete(shape), dtype=kind) if found is None else found
        return values[one]

    for node in order:
        if node not in values:
            assert callable(node.target)
            args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), of)
            values[node] = node.target(*args, **kwargs)
    return [values[end] for end in ends]


def concrete(shape: Any) -> list[int]:
    return [size if isinstance(size, int) else _SYMBOLIC for size in shape]


def before(end: Node, stops: Sequence[Node], inside: set[Node] | None = None) -> list[Node]:
    """The operations on the ways from `stops` to `end`, in order."""
    found: set[Node] = set()
    for stop in stops:
        found |= between(end, stop)
    place = {node: index for index, node in enumerate(end.graph.nodes)}
    return sorted((one for one in found if one not in stops and (inside is None or one in inside)),
                  key=place.__getitem__)  # fmt: skip
