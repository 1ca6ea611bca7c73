"""The features of a constructed network, layer by layer: one pass, nothing kept but what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import torch
from torch import Tensor, nn

from lensnet.construct.network import OUTPUT, Constructed
from lensnet.measure.labelled import load_labels
from lensnet.measure.layers.redunet import RedunetLayer
from lensnet.measure.sources import load_batch

T = TypeVar("T")


def labelled_batch(made: Constructed) -> tuple[Tensor, Tensor] | None:
    """The input and its classes, in the precision and on the device of the ReduNet layers; None without either."""
    places, labels = made.redunet_layers, load_labels(made.network.input)
    if not places or labels is None:
        return None
    like = next(iter(places.values())).expansion
    return load_batch(made.network.input, dtype=like.dtype).to(like.device), labels.to(like.device)


def by_layer(
    made: Constructed, batch: Tensor, read: Callable[[RedunetLayer, Tensor], T], paths: Collection[str] | None = None
) -> dict[str, T]:
    """What `read` says of the features that enter each ReduNet layer, and under "output" of those that leave the last.

    batch: `(N, ...)`, in the network's precision and on its device. paths: only of these (default: of all).
    """
    found: dict[str, T] = {}
    places = made.redunet_layers
    names = {layer: path for path, layer in places.items()}
    last = list(places)[-1]

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, RedunetLayer)
        path = names[module]
        if paths is None or path in paths:
            found[path] = read(module, inputs[0])
        if path == last and (paths is None or OUTPUT in paths):
            found[OUTPUT] = read(module, output)

    hooks = [layer.register_forward_hook(look) for layer in places.values()]
    try:
        with torch.no_grad():
            made.module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found
