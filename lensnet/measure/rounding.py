"""What a number format loses: one pass in it beside one in float64, with the same weights and the same input."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter
from torch.fx.node import Node as FxNode

from lensnet.measure.module import draw
from lensnet.measure.statistics import SeedStatistics
from lensnet.network.graph import INPUT, Network

DRAWS = 4
"""Weight draws in which rounding is measured: over thousands of values it hardly differs from draw to draw."""
EXAMPLES = 16
"""Most examples of the two passes."""


def with_rounding(
    done: Iterator[SeedStatistics], module: GraphModule, network: Network, batch: Tensor
) -> Iterator[SeedStatistics]:
    """The same draws, the first few of them with the scalars `rounding` of every component."""
    for place, statistics in enumerate(done):
        if place < DRAWS and batch.is_floating_point() and batch.dtype != torch.float64:
            few = batch[:EXAMPLES]
            draw(module, network, statistics.seed, examples=len(few))
            for path, value in rounding_errors(module, few).items():
                statistics.scalars[path, "rounding", "forward", None] = value
        yield statistics


def rounding_errors(module: GraphModule, batch: Tensor) -> dict[str, float]:
    """Relative rms error of every output against float64 arithmetic on the same numbers, by path.

    `module` and `batch` are of the number format in question and stay as they are.
    """
    exact = deepcopy(module).double()
    with torch.no_grad():
        outputs = _Outputs(module)
        outputs.run(batch)
        reference = _Against(exact, outputs.values)
        reference.run(batch.double())
    return reference.errors


class _Outputs(Interpreter):
    """Keeps the output of every component."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: FxNode) -> object:
        value = super().run_node(n)
        path = n.meta.get("path")
        if path not in (None, INPUT) and torch.is_tensor(value) and value.is_floating_point():
            self.values[path] = value
        return value


class _Against(Interpreter):
    """Compares every output with the one of another pass, and lets that go."""

    def __init__(self, module: GraphModule, values: dict[str, Tensor]) -> None:
        super().__init__(module)
        self.others = values
        self.errors: dict[str, float] = {}

    def run_node(self, n: FxNode) -> object:
        value = super().run_node(n)
        other = self.others.pop(str(n.meta.get("path")), None)
        if other is not None and torch.is_tensor(value):
            power = float(value.square().mean())
            if power > 0:
                self.errors[n.meta["path"]] = float(((other.double() - value).square().mean() / power).sqrt())
        return value
