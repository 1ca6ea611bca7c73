"""R, Rc and the rate reduction, layer by layer, of anything that runs in torch and has labelled input.

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
from lensnet.quantities.coding_rate import Rates, rates
from lensnet.quantities.spectra import DISTORTION


@dataclass(frozen=True)
class LayerRates:
    """One module's output: rates in nats at distortion squared `eps2`, `features` numbers per example."""

    name: str
    kind: str
    features: int
    total: float
    conditional: float

    @property
    def reduction(self) -> float:
        return self.total - self.conditional


def rates_of(value: Tensor, labels: Tensor, eps2: float = DISTORTION) -> Rates:
    """Rates of a layer's output (N, ...), flattened and scaled to length 1."""
    return rates(project(value.flatten(1).double()), labels[: len(value)].to(value.device), eps2)


def probe_rates(model: nn.Module, batch: Tensor, labels: Tensor, eps2: float = DISTORTION) -> list[LayerRates]:
    """The rates at the input and behind every module without parts, in the order in which they run.

    The model is run once in evaluation mode without gradients; its mode, buffers, hooks and torch's random state are
    afterwards as they were. Outputs that are not tensors of one row per example are left out.
    """
    found: list[LayerRates] = []

    def look(name: str, kind: str, value: Any) -> None:
        if torch.is_tensor(value) and value.is_floating_point() and value.dim() > 1 and len(value) == len(labels):
            made = rates_of(value, labels, eps2)
            size = value[0].numel()
            found.append(LayerRates(name, kind, size, float(made.total), float(made.conditional)))

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
