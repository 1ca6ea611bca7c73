"""Layers that are written down from labelled data instead of being drawn.

Such a layer takes its operators from a forward pass over the data (`construct`), or from a file of an earlier one
(`load`). Until then it holds those of random data, one draw per seed, so that it runs in any network like the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lensnet.measure.layers.registry import RandomLayer

IMPLEMENTATIONS = ("redunet_layer", "nearest_subspace")


class ConstructedLayer(RandomLayer):
    """Base class. Subclasses implement `construct`, which fills the operators, and `draw_data` for the random start."""

    def __init__(self) -> None:
        super().__init__()
        self.constructed = False

    def construct(self, x: Tensor, labels: Tensor) -> Tensor:
        """Make the operators from inputs and labels; returns the layer's output for these inputs."""
        raise NotImplementedError

    def draw_operators(self, source: torch.Generator) -> None:
        """Operators of random data."""
        raise NotImplementedError

    @property
    def operator_names(self) -> list[str]:
        """The tensors that are written to a file, and trained when the network is fine-tuned."""
        return [name for name, _ in self.named_parameters(recurse=False)]

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the operators from a file. Raises ValueError for missing tensors or other shapes."""
        for name in self.operator_names:
            mine, given = self.get_parameter(name), tensors.get(name)
            if given is None or given.shape != mine.shape:
                found = "is missing" if given is None else f"has the shape {tuple(given.shape)}"
                raise ValueError(f"{name} {found}, {tuple(mine.shape)} is needed")
            mine.copy_(given)
        self.constructed = True

    @torch.no_grad()
    def redraw(self, seed: int, path: str) -> None:
        if not self.constructed:
            from lensnet.measure.draw import generator

            self.draw_operators(generator(seed, path, "data"))
