"""What a module's own initialisation draws, without drawing it: for models without numbers (meta device).

The module's `reset_parameters` (torch), or the model's `_init_weights` (Hugging Face), is run on a copy on the meta
device while every in-place fill is written down: `uniform_(-a, a)`, `normal_(0, s)`, `fill_(c)`.
"""

from __future__ import annotations

import copy
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lensnet.importers.laws import TensorLaw
from lensnet.importers.untouched import quiet


class _Recorder(TorchDispatchMode):
    """Writes down the last fill of every tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.laws: dict[int, TensorLaw] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "_opname", "")
        if args and torch.is_tensor(args[0]) and name in ("normal_", "uniform_", "fill_", "zero_", "mul_", "erfinv_"):
            self._write(name, args[0], [*args[1:], *(kwargs or {}).values()])
        return out

    def _write(self, name: str, tensor: Tensor, rest: list[Any]) -> None:
        numbers = [float(value) for value in rest if isinstance(value, int | float)]
        before = self.laws.get(id(tensor))
        if name == "normal_":
            mean, std = [*numbers, 0.0, 1.0][:2] if len(numbers) >= 2 else (numbers[0] if numbers else 0.0, 1.0)
            self.laws[id(tensor)] = TensorLaw("random", mean, std)
        elif name == "uniform_":
            low, high = numbers[:2] if len(numbers) >= 2 else (0.0, 1.0)
            self.laws[id(tensor)] = TensorLaw("random", (low + high) / 2, (high - low) / sqrt(12), "uniform")
        elif name == "zero_":
            self.laws[id(tensor)] = TensorLaw("constant", 0.0)
        elif name == "fill_" and numbers:
            self.laws[id(tensor)] = TensorLaw("constant", numbers[0])
        elif name == "erfinv_":  # a truncated normal: torch takes the inverse error function of a uniform number
            self.laws[id(tensor)] = TensorLaw("random", 0.0, 1 / sqrt(2), "truncated_normal")
        elif name == "mul_" and before is not None and numbers:
            law = TensorLaw(before.kind, before.mean * numbers[0], before.std * abs(numbers[0]), before.distribution)
            self.laws[id(tensor)] = law


def declared(model: nn.Module, names: set[str]) -> dict[str, TensorLaw]:
    """Parameter -> law, as the model's own initialisation says; those that nothing fills are left out."""
    with quiet():
        try:
            twin = copy.deepcopy(model)
        except Exception:  # a module that cannot be copied says nothing
            return {}
        own = getattr(twin, "_init_weights", None)
        recorder = _Recorder()
        with recorder, torch.no_grad():
            for module in twin.modules():
                for initialise in (getattr(module, "reset_parameters", None), _bound(own, module)):
                    if initialise is None:
                        continue
                    try:
                        initialise()
                    except Exception:  # an initialiser that needs values
                        continue
    out: dict[str, TensorLaw] = {}
    for name, tensor in [*twin.named_parameters(remove_duplicate=False), *twin.named_buffers(remove_duplicate=False)]:
        law = recorder.laws.get(id(tensor))
        if law is not None and name in names:
            out[name] = _named(law, tensor)
    return out


def _bound(own: Any, module: nn.Module) -> Any:
    return None if own is None else lambda: own(module)


def _named(law: TensorLaw, tensor: Tensor) -> TensorLaw:
    """Torch's default for dense layers and convolutions by its name."""
    if law.kind == "random" and law.distribution == "uniform" and tensor.dim() > 1:
        default = sqrt(1 / (3 * prod(tensor.shape[1:])))
        if abs(law.std / default - 1) < 1e-6:
            return TensorLaw("random", 0.0, default, "uniform", "torch")
    return law
