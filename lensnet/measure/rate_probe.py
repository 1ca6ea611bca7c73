"""Rates, class ranks and angles between classes, layer by layer, of anything that runs in torch with labelled input.

The features of an example are all its channels and positions, scaled to length 1, so that the rates compare between
layers of one width; they grow with the width, so between layers of different widths compare dR/R.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lensnet.measure.redunet.step import project
from lensnet.quantities.coding_rate import rates
from lensnet.quantities.spectra import DISTORTION
from lensnet.quantities.subspaces import class_geometry


@dataclass(frozen=True)
class LayerRates:
    """One module's output: rates in nats at distortion squared `eps2`, `features` numbers per example.

    `class_rank`: average over classes; `class_angle`, `class_angle_largest`: smallest and largest principal angle
    between two classes, radians (`lensnet.quantities.subspaces`).
    """

    name: str
    kind: str
    features: int
    total: float
    conditional: float
    class_rank: float
    class_angle: float
    class_angle_largest: float

    @property
    def reduction(self) -> float:
        return self.total - self.conditional


def labelled_numbers(value: Tensor, labels: Tensor, eps2: float = DISTORTION) -> dict[str, Tensor]:
    """By quantity, of a layer's output (N, ...), flattened: rates of the examples scaled to length 1, and where its
    classes lie. float64, on the device of the output; NaN where the output is not finite."""
    features = project(value.flatten(1).double())
    labels = labels[: len(value)].to(value.device)
    found = rates(features, labels, eps2)
    out = {"total_rate": found.total, "class_rate": found.conditional, "rate_reduction": found.reduction}
    if not bool(torch.isfinite(features).all()):
        return out | dict.fromkeys(("class_rank", "class_angle", "class_angle_largest"), found.total)
    lie = class_geometry(features, labels)
    return out | {"class_rank": lie.mean_rank, "class_angle": lie.smallest, "class_angle_largest": lie.largest}


def probe_rates(model: nn.Module, batch: Tensor, labels: Tensor, eps2: float = DISTORTION) -> list[LayerRates]:
    """Rates, ranks and angles at the input and behind every module without parts, in the order in which they run.

    The model is run once in evaluation mode without gradients; its mode, buffers, hooks and torch's random state are
    afterwards as they were. Outputs that are not tensors of one row per example are left out.
    """
    found: list[LayerRates] = []

    def look(name: str, kind: str, value: Any) -> None:
        if torch.is_tensor(value) and value.is_floating_point() and value.dim() > 1 and len(value) == len(labels):
            made = {quantity: float(number) for quantity, number in labelled_numbers(value, labels, eps2).items()}
            del made["rate_reduction"]
            total, conditional = made.pop("total_rate"), made.pop("class_rate")
            found.append(LayerRates(name, kind, value[0].numel(), total, conditional, **made))

    def hook(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        look(name, type(module).__name__, output)

    modes = {module: module.training for module in model.modules()}
    hooks = [
        module.register_forward_hook(partial(hook, name))
        for name, module in model.named_modules()
        if next(module.children(), None) is None
    ]
    devices = [batch.device] if batch.device.type == "cuda" else []
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            look("input", "input", batch)
            model(batch)
    finally:
        for handle in hooks:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return found
