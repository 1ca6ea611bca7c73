"""What no rule describes: a component that is measured, and claims nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from lensnet.importers.draft import Beam, Lost, Unmapped, Value, sizes_of
from lensnet.importers.inputs import beam_of, grid_parameters
from lensnet.importers.layout import CHANNELS, EXAMPLES, LayoutError
from lensnet.importers.operations import name_of

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def opaque(mapper: Mapper, node: Node, reason: str) -> Value:
    """A component that is only measured; where even the shape of its value cannot be read, a lost value."""
    sources: list[Node] = []
    operations: list[str] = []
    cluster = mapper.clusters.get(node)
    inputs = node.all_input_nodes if cluster is None else cluster.info.get("sources", [cluster.source])
    for one in inputs:
        value = mapper.values.get(one)
        if isinstance(value, Lost):
            sources += value.sources
            operations += value.operations
        elif isinstance(value, Beam):
            sources.append(one)
    sources = list(dict.fromkeys(sources))
    name = name_of(node)
    operations = [*dict.fromkeys((*operations, name))]
    value = node.meta.get("val")
    if not sources or not torch.is_tensor(value) or isinstance(value, tuple | list):
        return Lost(tuple(sources), reason, tuple(operations))
    beams = [mapper.beam(one) for one in sources]
    try:
        beam = _guess(mapper.batch_axis, node, beams)
        parameters = grid_parameters(beam)
        kind = "opaque" if len(sources) == 1 else "opaque_merge"
        return mapper.add(
            node, kind, parameters, list(zip(sources, beams, strict=True)), beam,
            reason=f"{' '.join(operations[-4:])}: {reason}",
        )  # fmt: skip
    except (Unmapped, LayoutError):
        return Lost(tuple(sources), reason, tuple(operations))


def _guess(batch_axis: int | None, node: Node, beams: Sequence[Beam]) -> Beam:
    """How an unknown operation's value is laid out: as one of its inputs of the same shape, else by rank."""
    sizes = sizes_of(node)
    examples = beams[0].layout.size_of(EXAMPLES)
    for beam in beams:
        if beam.layout.sizes == sizes:
            return beam
    first = 0 if batch_axis is None or len(sizes) == 2 else batch_axis
    if len(sizes) < 2 or (batch_axis is not None and sizes[first] != examples):
        raise Unmapped("a shape that does not begin with the examples")
    for beam in beams:
        if beam.layout.sizes[:-1] == sizes[:-1] and beam.layout.roles(-1) <= {CHANNELS}:
            layout = beam.layout.with_axis(-1, CHANNELS, sizes[-1])
            if layout.axes_of(CHANNELS) in ([len(sizes) - 1], []):
                return Beam("", layout, beam.positions, sizes[-1])
    if len(sizes) > 5:
        raise Unmapped("too many axes")
    images = [beam.layout.roles(1) == {CHANNELS} for beam in beams if len(beam.layout.axes) > 3]
    return beam_of(batch_axis, "", sizes, len(sizes) > 3 and (any(images) or sizes[1] != sizes[2]))
