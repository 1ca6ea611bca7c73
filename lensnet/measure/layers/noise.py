"""Dropout and additive noise: random, but the same for the same seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lensnet.measure.layers.merge import Identity
from lensnet.measure.layers.registry import NoiseLayer, implementation, parameter
from lensnet.network.graph import Node


class Dropout(NoiseLayer):
    """Zeroes each element with probability `rate` and divides the rest by 1 - rate (inverted dropout)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def sample(self, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
        if self.rate >= 1.0:
            return torch.zeros(shape)
        return torch.empty(shape).bernoulli_(1.0 - self.rate, generator=source).div_(1.0 - self.rate)

    def forward(self, x: Tensor) -> Tensor:
        return x.view_as(x) if self.silent else x * self.noise


@implementation("dropout")
def dropout(node: Node) -> nn.Module:
    rate = float(parameter(node, "rate", 0.5))
    return Identity() if parameter(node, "mode", "train") == "eval" or rate == 0.0 else Dropout(rate)


class GaussianNoise(NoiseLayer):
    """Adds independent normal noise of standard deviation `std` to every element."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def sample(self, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=source).mul_(self.std)

    def forward(self, x: Tensor) -> Tensor:
        return x.view_as(x) if self.silent else x + self.noise


@implementation("gaussian_noise")
def gaussian_noise(node: Node) -> nn.Module:
    std = float(parameter(node, "std", 0.1))
    return Identity() if parameter(node, "mode", "train") == "eval" or std == 0.0 else GaussianNoise(std)
