"""The table of torch implementations, and the base class of those that hold random tensors."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lensnet.measure.draw import draw_bias, draw_weight, generator
from lensnet.measure.errors import ImplementationError
from lensnet.network.graph import Node
from lensnet.network.weights import WeightLaw

Factory = Callable[[Node], nn.Module]
_FACTORIES: dict[str, Factory] = {}


def implementation(*names: str) -> Callable[[Factory], Factory]:
    """Register a factory `build(node) -> nn.Module` under one or more names; a name taken twice is refused."""

    def register(factory: Factory) -> Factory:
        for name in names:
            if name in _FACTORIES:
                raise ValueError(f"two torch implementations are named {name!r}")
            _FACTORIES[name] = factory
        return factory

    return register


def implementations() -> list[str]:
    """Names of all registered implementations."""
    return sorted(_FACTORIES)


def build(node: Node) -> nn.Module:
    """The torch module of one node. Raises `ImplementationError` with the node's path where there is none."""
    name = node.component.implementation or node.component.name
    factory = _FACTORIES.get(name)
    if factory is None and getattr(node.component, "function", None) is not None:
        factory = _FACTORIES["pointwise"]
    if factory is None:
        close = difflib.get_close_matches(name, _FACTORIES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ImplementationError(f"{node.path}: no torch implementation is named {name!r}{hint}")
    try:
        module = factory(node)
    except ImplementationError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ImplementationError(f"{node.path}: cannot build {name!r}: {error}") from error
    return module.requires_grad_(False)


@dataclass(frozen=True)
class _Slot:
    """A random parameter: which law it follows, and whether it is the weight or the bias of that law."""

    law: WeightLaw
    is_bias: bool
    output_axis: int = 0


class RandomLayer(nn.Module):
    """A module whose parameters are drawn anew for every seed.

    Subclasses call `add_weight` for each random tensor; `redraw` fills them in place. Noise (dropout masks and the
    like) is drawn in the same way, see `NoiseLayer`.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self._slots: dict[str, _Slot] = {}

    def add_weight(
        self,
        name: str,
        law: WeightLaw,
        shape: tuple[int, ...],
        bias_shape: tuple[int, ...] | None,
        output_axis: int = 0,
    ) -> None:
        """Register parameter `name`, and `bias` (or `<name>_bias`) of `bias_shape` where the law has one, else None."""
        self.register_parameter(name, nn.Parameter(torch.empty(shape), requires_grad=False))
        self._slots[name] = _Slot(law, False, output_axis)
        bias = "bias" if name == "weight" else f"{name}_bias"
        if law.has_bias and bias_shape is not None:
            self.register_parameter(bias, nn.Parameter(torch.empty(bias_shape), requires_grad=False))
            self._slots[bias] = _Slot(law, True)
        else:
            self.register_parameter(bias, None)

    @property
    def random_names(self) -> list[str]:
        """The parameters that are drawn."""
        return list(self._slots)

    @torch.no_grad()
    def redraw(self, seed: int, path: str) -> None:
        """Fill every random parameter with the draw that belongs to (seed, path, parameter name)."""
        for name, slot in self._slots.items():
            parameter = self.get_parameter(name)
            shape, source = tuple(parameter.shape), generator(seed, path, name)
            if slot.is_bias:
                parameter.copy_(draw_bias(slot.law, shape, source))
            else:
                parameter.copy_(draw_weight(slot.law, shape, source, output_axis=slot.output_axis))


class NoiseLayer(nn.Module):
    """A module that multiplies or adds noise, one fixed draw per seed and batch size.

    The noise is a buffer drawn like a weight, so that it is the same on every device and the same whether seeds are
    measured one by one or together.
    """

    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.empty(0), persistent=False)

    @property
    def silent(self) -> bool:
        """No noise to add: eval mode, or none drawn yet."""
        return not self.training or self.noise.numel() == 0

    def sample(self, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
        """The noise tensor of the given shape, on the CPU."""
        raise NotImplementedError

    def redraw_noise(self, seed: int, path: str, shape: tuple[int, ...]) -> None:
        """Draw the noise for inputs of `shape` (the batch included)."""
        self.noise = self.sample(shape, generator(seed, path, "noise")).to(self.noise)


def parameter(node: Node, name: str, default: Any) -> Any:
    """A parameter of the node by name, or the default that its component leaves out."""
    value = node.parameters.get(name, default)
    return default if value is None else value
