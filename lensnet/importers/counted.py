"""Float tensors that are made of whole numbers alone: the time of a diffusion step, the mask of a padded batch.

They are known as soon as the example is, and no weight has touched them. What is told apart here: masks and tables stay
as they are for whoever reads their values, and become lights of their own where an operation takes them as a signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node
from torch.nn import Parameter

from lensnet.importers.draft import Beam, Unmapped, sizes_of
from lensnet.importers.inputs import beam_of, light
from lensnet.importers.layout import Atom, Layout, Role
from lensnet.importers.operations import felt, name_of

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_TAKING = ("linear", "addmm", "matmul", "mm", "conv1d", "conv2d", "add", "sub", "rsub", "mul", "div", "cat")
"""Operations that take such a tensor as a signal; attention and `where` take it as a mask."""
_LOOKED_UP = ("embedding", "embedding_bag", "one_hot")


class Counted:
    """`known`: float tensors that whole numbers of the call make, without a parameter of the model."""

    def __init__(self, mapper: Mapper) -> None:
        self.mapper = mapper
        self.known: set[Node] = set()
        self.weighty: set[Node] = set()

    def static(self, node: Node, inputs: Sequence[Node], ids: set[Node]) -> bool:
        """Whether a float tensor is one of these; all its inputs are whole numbers or depend on no input."""
        if name_of(node) in _LOOKED_UP or any(one in self.weighty for one in inputs):
            return False
        if any(one in ids or one in self.known for one in inputs):
            self.known.add(node)
            return True
        return False

    def owned(self, node: Node) -> None:
        """Notes which static tensors hold parameters, or are made of them."""
        name = self.mapper.captured.owned.get(node.name) if node.op == "placeholder" else None
        drawn = name is not None and isinstance(self.mapper.captured.parameters.get(name), Parameter)
        if drawn or (node.op != "placeholder" and any(one in self.weighty for one in felt(node))):
            self.weighty.add(node)

    def lit(self, node: Node) -> None:
        """Makes lights of those that an operation takes as signals. Raises Unmapped where one has no layout."""
        if node in self.known or node in self.mapper.clusters or name_of(node) not in _TAKING:
            return
        for one in dict.fromkeys(node.all_input_nodes):
            if one in self.known and self._varied(one):
                self._light(node, one)

    def _varied(self, node: Node) -> bool:
        """Whether it is more than one number, or has none here."""
        value = self.mapper.value_of(node)
        return value is None or (value.numel() > 1 and bool((value != value.flatten()[0]).any()))

    def _light(self, node: Node, one: Node) -> None:
        mapper = self.mapper
        if mapper.batch_axis is None or mapper.input is None:
            return
        sizes, examples = sizes_of(one), int(mapper.input.meta["val"].shape[mapper.batch_axis])
        if not sizes or sizes[0] != examples:
            return
        value = mapper.value_of(one)
        if value is not None and not torch.isfinite(value).all():
            raise Unmapped("a mask that hides something")
        beam = self._laid(node, one, sizes)
        mean, std = (0.0, 1.0) if value is None else (float(value.double().mean()), float(value.double().std()))
        here = mapper.before(node, torch.ops.aten.alias.default, (one,))
        params = float(f"{mean:.7g}"), float(f"{std:.7g}")
        light(mapper, here, beam, *params, name=mapper.name_for(node, "source"))
        node.replace_input_with(one, here)

    def _laid(self, node: Node, one: Node, sizes: tuple[int, ...]) -> Beam:
        """As the signal that it meets, else by its rank."""
        for other in node.all_input_nodes:
            value: Any = self.mapper.values.get(other)
            if isinstance(value, Beam) and len(value.layout.axes) == len(sizes) and value.layout.copies == 1:
                layout = value.layout
                for axis, (mine, theirs) in enumerate(zip(sizes, layout.sizes, strict=True)):
                    if mine != theirs and mine != 1:
                        break
                    if mine == 1 != theirs:
                        layout = layout.with_axis(axis, None, 1)
                else:
                    places = [role for role in range(len(value.positions)) if layout.axes_of(role)]
                    if all(layout.size_of(role) == value.positions[role] for role in places):
                        return Beam("", _renumbered(layout, places), tuple(value.positions[r] for r in places),
                                    layout.channels)  # fmt: skip
        return beam_of(self.mapper.batch_axis, "", sizes, False)


def _renumbered(layout: Layout, places: Sequence[int]) -> Layout:
    """The layout where only these position axes are left."""
    new: dict[Role, Role] = {role: index for index, role in enumerate(places)}
    return Layout(tuple(tuple(Atom(new.get(a.role, a.role), a.size, a.stride) for a in axis) for axis in layout.axes))
