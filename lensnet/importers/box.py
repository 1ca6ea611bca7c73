"""Operations that are told by their answers: a part of the graph as a function of the signals that go in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, sizes_of
from lensnet.importers.probe import out_of_order

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_MOST = 1 << 25
"""Numbers in one tensor of what is tried out."""


class Box:
    """The operations of a cluster as a function of sequences (N, T, C), one for each of `ends`. `what` names it.

    Raises Unmapped where it is too large to be tried out, or where what goes in is no sequence.
    """

    def __init__(self, mapper: Mapper, root: Node, ends: Sequence[Node], what: str) -> None:
        self.mapper, self.root, self.ends, self.what = mapper, root, list(ends), what
        self.beams = [mapper.beam(one) for one in ends]
        members = mapper.clusters[root].members
        self.order = [node for node in mapper.graph.nodes if node in members]
        self.fixed: dict[Node, Any] = {}
        if any(torch.is_tensor(node.meta["val"]) and node.meta["val"].numel() > _MOST for node in self.order):
            raise Unmapped(f"{what} that is too large to be tried out")
        if any(len(beam.positions) != 1 for beam in self.beams):
            raise Unmapped(f"{what} over something else than one sequence")

    def made(self, like: Beam) -> Beam:
        """How the output is laid out: as the input, or that in another shape."""
        sizes = sizes_of(self.root)
        return like if like.layout.sizes == sizes else like.laid(like.layout.reshaped(sizes))

    def __call__(self, plain: Sequence[Tensor], order: Sequence[int], at: Node | None = None) -> Tensor:
        """The output for inputs in the order of ports; `at`: what goes into another node instead."""
        values: dict[Node, Any] = {
            self.ends[place]: out_of_order(value, self.beams[place]).contiguous()
            for place, value in zip(order, plain, strict=True)
        }

        def of(one: Node) -> Any:
            return values[one] if one in values else self._fixed(one)

        for node in self.order:
            args = torch.fx.node.map_arg(node.args, of)
            if node is at:
                return torch.as_tensor(args[0])
            assert callable(node.target)
            values[node] = node.target(*args, **torch.fx.node.map_arg(dict(node.kwargs), of))
        out = values[self.root]
        assert torch.is_tensor(out)
        return out

    def _fixed(self, node: Node) -> Any:
        """The value of what depends on no signal."""
        if node not in self.fixed:
            self.fixed[node] = self.mapper.value_of(node)
            if self.fixed[node] is None:
                raise Unmapped(f"{self.what} whose parameters have no values here")
        return self.fixed[node]
