"""Fine-tuning a constructed ReduNet by backpropagation, and what that changed.

Construction makes each layer the best step for the features that reach it; it does not look ahead. Tuning moves all
operators together so that the rate reduction behind the last layer grows. How far an operator moved, and what each
layer gains now, shows where the greedy steps were not the best ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lensnet.construct.features import by_layer, labelled_batch
from lensnet.construct.network import OUTPUT, Constructed, Progress
from lensnet.measure.errors import MeasureError
from lensnet.measure.layers.redunet import RedunetLayer

RATE = 0.002
"""Step of Adam, relative to the root mean square of an operator's entries."""


@dataclass(frozen=True)
class Change:
    """What tuning did to one layer. `expansion`, `compression`: |after - before|/|before|; reductions in nats, of the
    features that enter it (for the last entry, "output": that leave the last layer)."""

    path: str
    expansion: float
    compression: float
    reduction_before: float
    reduction_after: float


def fine_tune(made: Constructed, epochs: int, progress: Progress | None = None) -> list[Change]:
    """Raise the rate reduction of the output by `epochs` steps on all operators, in place; Ctrl-C stops early.

    Raises MeasureError for a network without a ReduNet layer or one that is not finished.
    """
    given = labelled_batch(made)
    if given is None or len(made.done) < len(made.wanted):
        raise MeasureError(f"{made.network.name} has no finished ReduNet layers to tune")
    (batch, labels), ascents = given, made.redunet_layers

    def reduction(layer: RedunetLayer, features: Tensor) -> float:
        return float(layer.rates_of(features, labels).reduction)

    before = {path: _copies(layer) for path, layer in ascents.items()}
    start = by_layer(made, batch, reduction)
    groups: list[dict[str, Any]] = [
        {"params": [tensor.requires_grad_()], "lr": RATE * float(tensor.detach().square().mean().sqrt())}
        for layer in ascents.values()
        for tensor in (layer.expansion, layer.compression)
    ]
    optimiser = torch.optim.Adam(groups)
    last = list(ascents.values())[-1]
    if progress is not None:
        progress.start(epochs)
    try:
        for _ in range(epochs):
            loss = -last.rates_of(_behind(made, last, batch), labels).reduction
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if progress is not None:
                progress.advance(1)
    except KeyboardInterrupt:
        made.interrupted = True
    finally:
        for tensor in (group["params"][0] for group in groups):
            tensor.requires_grad_(False)
            tensor.grad = None
    end = by_layer(made, batch, reduction)
    out = []
    for path, layer in ascents.items():
        moved = [_relative(a, b) for a, b in zip(_copies(layer), before[path], strict=True)]
        out.append(Change(path, moved[0], moved[1], start[path], end[path]))
    return [*out, Change(OUTPUT, 0.0, 0.0, start[OUTPUT], end[OUTPUT])]


def _copies(layer: RedunetLayer) -> tuple[Tensor, Tensor]:
    return layer.expansion.detach().clone(), layer.compression.detach().clone()


def _relative(after: Tensor, before: Tensor) -> float:
    return float((after - before).norm() / before.norm())


class _Reached(Exception):
    """The layer that was asked for has run."""


def _behind(made: Constructed, last: nn.Module, batch: Tensor) -> Tensor:
    """The output of a layer, with gradients; what stands behind it is not run."""
    held: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        held.append(output)
        raise _Reached

    hook = last.register_forward_hook(keep)
    try:
        made.module(batch)
    except _Reached:
        pass
    finally:
        hook.remove()
    return held[0]
