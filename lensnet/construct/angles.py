"""How a constructed network turns the classes apart: principal angles between their subspaces, layer by layer."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from lensnet.construct.network import OUTPUT, Constructed
from lensnet.measure.labelled import load_labels
from lensnet.measure.layers.redunet import RedunetLayer
from lensnet.measure.module import layers
from lensnet.measure.sources import load_batch
from lensnet.quantities.subspaces import class_geometry


def angles_by_layer(made: Constructed, paths: Collection[str]) -> dict[str, tuple[float, float]]:
    """The smallest and the largest principal angle between two classes, in radians, by layer.

    Of the features that enter the ReduNet layers among `paths`, and under "output" of those that leave the last one;
    by one pass of the labelled input. NaN where there are no two classes.
    """
    ascents = {layer: path for path, layer in layers(made.module).items() if isinstance(layer, RedunetLayer)}
    labels = load_labels(made.network.input)
    if not ascents or labels is None:
        return {}
    last = list(ascents)[-1]
    like = last.expansion
    batch, labels = load_batch(made.network.input, dtype=like.dtype).to(like.device), labels.to(like.device)
    found: dict[str, tuple[float, float]] = {}

    def angles(features: Tensor) -> tuple[float, float]:
        geometry = class_geometry(features.flatten(1), labels)
        return float(geometry.smallest), float(geometry.largest)

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, RedunetLayer)
        if ascents[module] in paths:
            found[ascents[module]] = angles(inputs[0])
        if module is last and OUTPUT in paths:
            found[OUTPUT] = angles(output)

    hooks = [layer.register_forward_hook(look) for layer in ascents]
    try:
        with torch.no_grad():
            made.module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found
