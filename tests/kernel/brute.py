"""Covariances of one component by brute force: correlated Gaussian inputs, many weight draws, every pair of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensnet.catalog.catalog import catalog
from lensnet.ladder.trial import port_channels
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import FullPairs
from lensnet.measure.layers.registry import NoiseLayer, RandomLayer, build
from lensnet.network.graph import Node
from lensnet.network.shape import Shape
from lensnet.predict.kernel.source import sample_matrix
from tests.effects.monte_carlo import place

torch.set_num_threads(1)
EXAMPLE, POSITION = 0.5, 0.3  # correlations of the inputs, between examples and between positions


@dataclass
class Tried:
    """A component on inputs of one mean and variance, correlated between examples and positions."""

    node: Node
    mean: float
    std: float

    @property
    def layouts(self) -> tuple[FullPairs, FullPairs]:
        return self.ports[0], FullPairs(self.node.examples, self.node.shape.positions)

    @property
    def ports(self) -> list[FullPairs]:
        return [FullPairs(self.node.examples, shape.positions) for shape in self.node.shapes_in]

    def states(self) -> list[Covariance]:
        """What the kernel level is told about the inputs; several ports are independent."""
        given, _ = self.layouts
        if self.node.shapes_in[0].kind == "ids":
            ids = np.tile(_ids(self.node), 1).ravel()
            pairs = (ids[:, None] == ids[None, :]).astype(float)
            return [Covariance(np.zeros(given.field_shape), pairs, given)]
        return [self.state(*port) for port in zip(self.ports, self.node.shapes_in, strict=True)]

    def state(self, layout: FullPairs, shape: Shape) -> Covariance:
        pairs = self.mean**2 + self.std**2 * correlations(layout)
        mean = np.full(layout.field_shape, self.mean)
        population = Population("input", shape.channels, float("inf"), mean, pairs, layout)
        return Covariance(mean, pairs, layout, population)

    def probe(self) -> np.ndarray:
        """Covariance of the gradient at the output: half of it common to all examples, positions independent."""
        _, made = self.layouts
        return made.same_place * (0.5 + 0.5 * made.same_example)

    def inputs(self, source: torch.Generator) -> list[Tensor]:
        return [self.input(shape, source) for shape in self.node.shapes_in]

    def input(self, shape: Shape, source: torch.Generator) -> Tensor:
        if shape.kind == "ids":
            return torch.as_tensor(_ids(self.node))
        size, places = (self.node.examples, shape.position_count, shape.channels), shape.position_count
        x = torch.zeros(size, dtype=torch.float64)
        for share, examples in ((EXAMPLE, 1), (1 - EXAMPLE, size[0])):
            for other, positions in ((POSITION, 1), (1 - POSITION, places)):
                part = torch.randn((examples, positions, size[2]), generator=source, dtype=torch.float64)
                x = x + sqrt(share * other) * part
        return _as_layout(self.mean + self.std * x, shape)

    def gradient(self, source: torch.Generator) -> Tensor:
        shape, examples = self.node.shape, self.node.examples
        size = (examples, shape.position_count, shape.channels)
        own = torch.randn(size, generator=source, dtype=torch.float64)
        common = torch.randn((1, *size[1:]), generator=source, dtype=torch.float64)
        return _as_layout(sqrt(0.5) * (own + common), shape)


def tried(name: str, trial: Mapping[str, Any], examples: int = 3) -> Tried:
    """A component at the settings of one of its trials."""
    settings, units = dict(trial), port_channels(catalog()[name], trial)
    shape = Shape(settings.pop("channels"), tuple(settings.pop("positions", ())), settings.pop("kind", "real"))
    batch = settings.pop("batch", examples)
    if name == "batchnorm":
        examples = min(batch, 8)
    for key in ("ports", "port_channels", "given", "correlation", "position_correlation", "outside"):
        settings.pop(key, None)
    mean = float(settings.pop("mean", 0.0))
    second = float(settings.pop("second_moment", mean**2 + 1.0))
    return Tried(
        place(name, [replace(shape, channels=count) for count in units], examples, **settings),
        mean,
        sqrt(second - mean**2),
    )


def correlations(layout: FullPairs) -> np.ndarray:
    over_examples = layout.same_example + (1 - layout.same_example) * EXAMPLE
    return over_examples * (layout.same_place + (1 - layout.same_place) * POSITION)


@dataclass
class Found:
    """Mean and standard error over draws of a Gram matrix, and of its averages over groups of alike pairs."""

    mean: np.ndarray
    error: np.ndarray
    draws: list[np.ndarray]

    def group(self, mask: np.ndarray) -> tuple[float, float]:
        values = np.array([draw[mask > 0].mean() for draw in self.draws])
        return float(values.mean()), float(values.std(ddof=1) / sqrt(len(values)))


def simulate(case: Tried, draws: int, seed: int = 0) -> dict[str, Found]:
    """Gram matrices over all samples: of the output, and of dL/dx at every port (`"gradient port"`)."""
    node = case.node
    layer = build(node).train().double()
    out: dict[str, list[np.ndarray]] = {}
    for draw in range(draws):
        source = torch.Generator().manual_seed(7919 * seed + draw)
        xs = [x.requires_grad_(torch.is_floating_point(x)) for x in case.inputs(source)]
        for part in layer.modules():
            if isinstance(part, RandomLayer):
                part.redraw(seed * 100003 + draw, "tried")
            if isinstance(part, NoiseLayer):
                part.redraw_noise(seed * 100003 + draw, "tried", tuple(xs[0].shape))
        y = layer(*xs)
        out.setdefault("output", []).append(_gram(y, node.shape))
        if xs[0].requires_grad:
            back = _gradients(y, xs, case.gradient(source))
            for port, shape, grad in zip(node.ports, node.shapes_in, back, strict=True):
                out.setdefault(f"gradient {port}", []).append(_gram(grad, shape))
    return {
        name: Found(np.mean(grams, axis=0), np.std(grams, axis=0, ddof=1) / sqrt(len(grams)), grams)
        for name, grams in out.items()
    }


def _gradients(y: Tensor, xs: list[Tensor], upstream: Tensor) -> list[Tensor]:
    """Gradients at the ports; zero where nothing can be differentiated (a step)."""
    if not y.requires_grad:
        return [torch.zeros_like(x) for x in xs]
    return list(torch.autograd.grad(y, xs, upstream))


def _gram(x: Tensor, shape: Shape) -> np.ndarray:
    rows = sample_matrix(x.detach().double().numpy(), shape)
    return rows @ rows.T / rows.shape[1]


def _ids(node: Node) -> np.ndarray:
    shape = node.shapes_in[0]
    count = node.examples * shape.position_count
    return (np.arange(count).reshape(node.examples, *shape.positions) * 7) % 11 % shape.channels


def _as_layout(rows: Tensor, shape: Shape) -> Tensor:
    """(E, P, C) in torch's layout."""
    if shape.positions and shape.channel_axis == 1:
        rows = rows.transpose(1, 2)
    return rows.reshape(shape.tensor_shape(len(rows)))
