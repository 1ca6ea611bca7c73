"""Layers that are made from labelled data: one forward pass that constructs each when its input arrives.

`supply` gives a drawn module what it cannot draw: tensors of a file, and operators made from the batch and its labels.
`examples_in_force` tells estimators and gates which labels and layers the running pass has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter
from torch.fx.node import Node as FxNode

from lensnet.measure.errors import MeasureError
from lensnet.measure.examples import Examples, in_force
from lensnet.measure.layers import NoiseLayer, RandomLayer
from lensnet.measure.layers.constructed import IMPLEMENTATIONS, ConstructedLayer
from lensnet.measure.module import layers
from lensnet.network.graph import Network

OnLayer = Callable[[str, ConstructedLayer, Tensor], None]
Weights = Mapping[str, Tensor]
"""Tensors by `<component path>/<name>`."""


def examples_in_force(
    module: GraphModule, labels: Tensor | None, everywhere: bool = False
) -> AbstractContextManager[None]:
    """A pass of the module on the batch that these labels belong to."""
    return in_force(Examples(labels, layers(module), everywhere))


def recognise(module: GraphModule, batch: Tensor, labels: Tensor) -> None:
    """Calls of the module on exactly this batch have its labels from now on; calls on any other have none."""
    running: list[AbstractContextManager[None]] = []

    def enter(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        known = torch.is_tensor(inputs[0]) and inputs[0].shape == batch.shape and bool((inputs[0] == batch).all())
        running.append(in_force(Examples(labels, layers(module)) if known else None))
        running[-1].__enter__()

    def leave(*_: Any) -> None:
        running.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)


def is_constructed(module: nn.Module) -> bool:
    """Whether any layer of the module is made from data."""
    return any(isinstance(part, ConstructedLayer) for part in module.modules())


def is_made_from_data(network: Network) -> bool:
    """Whether any component of a network is: its rates need float64."""
    return any(node.component.implementation in IMPLEMENTATIONS for node in network)


def is_drawn(module: nn.Module) -> bool:
    """Whether anything in the module changes from seed to seed."""
    return any(
        isinstance(part, NoiseLayer) or (isinstance(part, RandomLayer) and part.random_names)
        for part in module.modules()
    )


def supply(
    module: GraphModule, network: Network, batch: Tensor, labels: Tensor | None, weights: Weights | None
) -> None:
    """Load the tensors of a file; construct from batch and labels what is neither loaded nor constructed already.

    Raises MeasureError for tensors that do not fit the network.
    """
    if weights is not None:
        load(module, network, weights)
    if labels is None:
        return
    labels = labels[: len(batch)].to(batch.device)
    constructed = [part for part in module.modules() if isinstance(part, ConstructedLayer)]
    if weights is None and is_drawn(module):
        for part in constructed:
            part.constructed = False
    if not all(part.constructed for part in constructed):
        construct_layers(module, batch, labels)


@torch.no_grad()
def construct_layers(module: GraphModule, batch: Tensor, labels: Tensor, on_layer: OnLayer | None = None) -> None:
    """Make every layer that is not constructed yet, in the order of the forward pass; `on_layer` is told of
    each, with its output."""
    with examples_in_force(module, labels):
        _Construction(module, labels, on_layer).run(batch)


class _Construction(Interpreter):
    def __init__(self, module: GraphModule, labels: Tensor, on_layer: OnLayer | None) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.labels = labels
        self.on_layer = on_layer

    def run_node(self, n: FxNode) -> Any:
        layer = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if not isinstance(layer, ConstructedLayer) or layer.constructed:
            return super().run_node(n)
        values, _ = self.fetch_args_kwargs_from_env(n)
        made = layer.construct(values[0], self.labels)
        if self.on_layer is not None:
            self.on_layer(n.meta["path"], layer, made)
        return made


@torch.no_grad()
def load(module: GraphModule, network: Network, weights: Weights) -> None:
    """Take the random and constructed tensors of every component that the file has. Raises MeasureError."""
    unknown = {key.split("/")[0] for key in weights} - {node.path for node in network}
    if unknown:
        raise MeasureError(f"the weights are of another network: it has a component {sorted(unknown)[0]!r}")
    for path, layer in layers(module).items():
        given = {key[len(path) + 1 :]: value for key, value in weights.items() if key.startswith(path + "/")}
        if not given:
            continue
        if isinstance(layer, ConstructedLayer):
            try:
                layer.load(given)
            except ValueError as error:
                raise MeasureError(f"{path}: the weights do not fit: {error}") from None
            continue
        for name, parameter in layer.named_parameters():
            if name not in given or given[name].shape != parameter.shape:
                raise MeasureError(f"{path}: the weights do not fit: {name} is missing or has another shape")
            parameter.copy_(given[name])


def tensors_of(module: GraphModule) -> dict[str, Tensor]:
    """The random and constructed tensors by `<component path>/<name>`; of constructed layers only finished ones."""
    out: dict[str, Tensor] = {}
    for path, layer in layers(module).items():
        if isinstance(layer, ConstructedLayer) and not layer.constructed:
            continue
        out |= {f"{path}/{name}": value.detach() for name, value in layer.named_parameters()}
    return out
