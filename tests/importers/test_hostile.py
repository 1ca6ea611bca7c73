"""Models that do what models should not: the summary ends in a report or a reason, and nothing of them is altered."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lensnet.importers.summary import summary


class Forward(nn.Module):
    """Two dense layers, and between them what the test asks for."""

    def __init__(self, between: Callable[[Any, Tensor], Any], width: int = 16) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, 4)
        self.register_buffer("seen", torch.zeros(()))
        self.between = between

    def forward(self, x: Tensor) -> Any:
        y = self.between(self, self.first(x))
        return self.second(y) if torch.is_tensor(y) and y.dtype == self.first.weight.dtype else y


@dataclass
class Inner:
    value: Tensor


@dataclass
class Outer:
    inner: Inner
    note: str = "nested"


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return 2 * g


def raising(self: Any, y: Tensor) -> Any:
    raise RuntimeError("half way")


def counting(self: Any, y: Tensor) -> Tensor:
    self.seen += 1
    return y * (1 + 0 * self.seen)


def tossing(self: Any, y: Tensor) -> Tensor:
    return y if random.random() + np.random.rand() + torch.rand(()).item() > 0 else -y


def sparse(self: Any, y: Tensor) -> Tensor:
    return torch.sparse.mm(torch.eye(len(y)).to_sparse(), y)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2).add_(1)
        return self.dense(x).relu_()


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = Forward(lambda self, y: y)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x=x)


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    model[0].register_forward_hook(lambda module, args, out: out * 3)
    model[1].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return model


def shared() -> nn.Module:
    layer = nn.Linear(16, 16)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), layer)


def parallel() -> nn.Module:
    """In a process group of one."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(16, 16), nn.ReLU()))


def quantised() -> nn.Sequential:
    from torch.ao.quantization import quantize_dynamic

    return quantize_dynamic(nn.Sequential(nn.Linear(16, 16), nn.ReLU()), {nn.Linear}, dtype=torch.qint8)


ROWS = (8, 16)
MODELS: dict[str, Callable[[], nn.Module]] = {
    "raises half way": lambda: Forward(raising),
    "returns nothing": lambda: Forward(lambda self, y: None),
    "returns nested dataclasses": lambda: Forward(lambda self, y: Outer(Inner(y.double()))),
    "returns a number": lambda: Forward(lambda self, y: float(y.detach().sum())),
    "returns whole numbers": lambda: Forward(lambda self, y: y.argmax(-1)),
    "reads item": lambda: Forward(lambda self, y: y * y.detach().abs().max().item()),
    "reads numpy": lambda: Forward(lambda self, y: y + torch.from_numpy(y.detach().numpy().copy()).mean()),
    "changes its input": InPlace,
    "tosses coins": lambda: Forward(tossing),
    "own autograd function": lambda: Forward(lambda self, y: Double.apply(y)),
    "complex": lambda: Forward(lambda self, y: torch.fft.ifft(torch.fft.fft(y)).real),
    "returns complex": lambda: Forward(lambda self, y: torch.fft.fft(y)),
    "sparse": lambda: Forward(sparse),
    "counts its calls": lambda: Forward(counting),
    "not a number": lambda: Forward(lambda self, y: y / 0 * 0),
    "sorts": lambda: Forward(lambda self, y: y.sort(-1).values),
    "empty": lambda: Forward(lambda self, y: y[:0]),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(16), nn.ReLU()),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(16, 16)), nn.ReLU()),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(16, 16)), nn.ReLU()),
    "orthogonal": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(16, 16)), nn.ReLU()),
    "quantised": quantised,
    "compiled": lambda: torch.compile(nn.Sequential(nn.Linear(16, 16), nn.ReLU())),  # type: ignore[dict-item]
    "data parallel": lambda: nn.DataParallel(nn.Sequential(nn.Linear(16, 16), nn.ReLU())),
    "distributed": parallel,
    "hooks that change": hooked,
    "half": lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU()).half(),
    "bfloat16": lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU()).bfloat16(),
    "double": lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU()).double(),
    "no parameters": nn.ReLU,
    "nothing at all": nn.Identity,
    "shared": shared,
    "named arguments": Named,
    "frozen": lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU()).requires_grad_(False),
    "infinite weights": lambda: nn.Sequential(_filled(float("inf")), nn.ReLU()),
    "zero weights": lambda: nn.Sequential(_filled(0.0), nn.ReLU(), nn.Linear(16, 4)),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(16, 16), nn.ReLU())),
    "branches on a lambda": lambda: Forward(lambda self, y: F.relu(y) if y.sum() > 0 else F.gelu(y)),
    "batch norm in training": lambda: nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout()).train(),
}
MODELLED = {
    "changes its input", "weight norm", "compiled", "data parallel", "distributed", "hooks that change", "double",
    "no parameters", "shared", "named arguments", "frozen", "zero weights", "tosses coins", "bfloat16", "half",
    "counts its calls", "batch norm in training",
}  # fmt: skip


def _filled(value: float) -> nn.Module:
    layer = nn.Linear(16, 16)
    nn.init.constant_(layer.weight, value)
    return layer


def state_of(model: nn.Module) -> dict[str, Any]:
    out: dict[str, Any] = {"modes": [module.training for module in model.modules()]}
    out["hooks"] = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        out[name] = "lazy" if torch.nn.parameter.is_lazy(tensor) else copy.deepcopy(tensor.detach())
        out[f"{name} grad"] = None if tensor.grad is None else tensor.grad.clone()
        out[f"{name} wants"] = tensor.requires_grad
    out["random"] = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    return out


def same(a: Any, b: Any) -> bool:
    if torch.is_tensor(a):
        return torch.is_tensor(b) and a.dtype == b.dtype and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_model_ends_in_a_report_or_a_reason(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    inner: Any = getattr(model, "_orig_mod", model)
    first = next((p for p in inner.parameters() if not isinstance(p, torch.nn.parameter.UninitializedParameter)), None)
    if first is not None and first.is_leaf and first.requires_grad:
        first.grad = torch.ones_like(first)
    before, given = state_of(model), torch.randn(ROWS, dtype=first.dtype if first is not None else torch.float32)
    kept = given.clone()
    before["random"] = state_of(model)["random"]
    found = summary(model, input_data=given, seeds=2, most_seeds=2)
    after = state_of(model)
    assert found.report is not None or found.reason
    assert "\n" not in found.reason.strip() or len(found.reason) < 400
    assert str(found).strip() and found._repr_html_()
    assert before.keys() == after.keys()
    assert not [key for key in before if not same(before[key], after[key])]
    assert torch.equal(kept, given), "the input is the user's own"
    if name in MODELLED:
        assert found.report is not None, found.reason
        assert found.report.seeds == 2, found.reason


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises half way", "the model raises RuntimeError: half way, after first"),
        ("infinite weights", "not finite: 0.weight"),
        ("lazy", "lazy modules"),
        ("returns whole numbers", "no output of the model is a float tensor"),
    ],
)
def test_the_reason_names_the_cause(name: str, said: str) -> None:
    found = summary(MODELS[name](), ROWS, seeds=2, most_seeds=2)
    assert said in found.reason


def test_quantised_modules_are_measured_and_nothing_is_claimed() -> None:
    model = quantised()
    found = summary(model, ROWS, seeds=2, most_seeds=2)
    assert found.report is not None and any("quantised modules are not modelled" in note for note in found.notes)
    x = torch.randn(ROWS, generator=torch.Generator().manual_seed(0))
    rows = {row.component: row for row in found.rows if row.quantity == "second_moment" and row.view == "through"}
    assert {row.direction for row in rows.values()} == {"forward"}
    assert rows["model.0"].verdict == "not-modelled"
    assert rows["model.0"].measured == pytest.approx(float(model[0](x).square().mean()), rel=1e-5)


def test_a_thousand_modules() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(333)))
    found = summary(model, (8, 8), measure=False, backward=False)
    assert found.report is not None and found.imported is not None
    assert len(found.imported.draft.items) == 666


def test_whole_numbers_into_a_dense_layer_give_a_reason() -> None:
    found = summary(nn.Linear(4, 4), input_data=torch.ones(3, 4, dtype=torch.long))
    assert found.reason and found.report is None


def test_a_summary_lets_go_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    found = summary(model, input_size=(8, 16), seeds=2)
    weight = weakref.ref(model[0].weight)
    assert found.rows
    del found, model
    gc.collect()
    assert weight() is None
