"""Tensors that a model writes into part by part: the graph must follow what was written, not what was there before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lensnet.importers.capture import capture
from lensnet.importers.normalise import normalise
from lensnet.importers.summary import summary
from lensnet.importers.trace import trace


class Leaky(nn.Module):
    """A leaky average over time, written into a tensor of zeros step by step; `whole`: every step, or all but one."""

    def __init__(self, whole: bool = True) -> None:
        super().__init__()
        self.up, self.out, self.first = nn.Linear(24, 32), nn.Linear(32, 8), 0 if whole else 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        held, out = torch.zeros_like(y[:, 0]), torch.zeros_like(y)
        for t in range(self.first, x.shape[1]):
            held = 0.5 * held + y[:, t]
            out[:, t] = held
        return self.out(out)


class Doubled(nn.Module):
    """The first channels written over, and what was there used before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(24, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        before = y.clone()
        y[:, 2:4, :16] = 2 * before[:, 2:4, :16]
        return y + before


@pytest.mark.parametrize("model", [Leaky(), Leaky(False), Doubled()], ids=["every step", "all but one", "a corner"])
def test_the_graph_computes_what_the_model_computes(model: nn.Module) -> None:
    x = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0))
    captured = capture(model.eval(), (x,))
    assert captured.route == "export"
    (found,) = torch.fx.Interpreter(captured.graph).run(*captured.values())
    with torch.no_grad():
        torch.testing.assert_close(found, model(x))


def test_what_was_written_at_every_step_is_predicted() -> None:
    """The output is no constant: q grows with the steps that are held, and the head's rows agree."""
    torch.manual_seed(0)
    found = summary(Leaky(), (8, 5, 24), seeds=16)
    assert found.imported is not None and found.report is not None
    assert not [item.reason for item in found.imported.draft.items if item.component.startswith("opaque")]
    rows = [row for row in found.rows if row.component == "out" and row.quantity == "second_moment"]
    assert {row.direction for row in rows} == {"forward", "backward"}
    assert all(row.verdict == "agrees" and row.measured > 1e-3 for row in rows if row.view == "local")


class Halves(nn.Module):
    """Queries and keys put together in an empty tensor, part by part; what is left of a tensor around a part."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.out = nn.Linear(24, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        whole = y.new_empty(y.shape)
        whole[..., :24], whole[..., 24:] = y[..., 40:], y[..., :40]
        whole = whole + torch.zeros_like(whole)
        whole[:, :2] = y[:, 3:]
        return self.out(whole)


def test_parts_that_were_written_are_laid_side_by_side() -> None:
    torch.manual_seed(0)
    model, x = Halves().eval(), torch.randn(8, 5, 24, generator=torch.Generator().manual_seed(0))
    captured = capture(model, (x,))
    (found,) = torch.fx.Interpreter(captured.graph).run(*captured.values())
    with torch.no_grad():
        torch.testing.assert_close(found, model(x))
    report = summary(model, input_data=x, seeds=8)
    assert report.imported is not None, report.reason
    assert not [item.reason for item in report.imported.draft.items if item.component.startswith("opaque")]
    assert not [row for row in report.rows if row.view == "local" and row.verdict == "deviates"]


class InTwo(nn.Module):
    """A tensor whose two parts are copied to where nothing was."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(24, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        out = y.new_empty(*y.shape)
        out[..., :20].copy_(y[..., 12:])
        out[..., 20:].copy_(y[..., :12])
        return out


def test_a_traced_copy_to_a_part_is_kept() -> None:
    x, model = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0)), InTwo().eval()
    graph, owned, constants, inputs = trace(model, (x,), {})
    normalise(graph)
    held = {**constants, **inputs, **{name: dict(model.named_parameters())[own] for name, own in owned.items()}}
    given = [held[node.name] for node in graph.nodes if node.op == "placeholder"]
    (found,) = torch.fx.Interpreter(torch.fx.GraphModule(nn.Module(), graph)).run(*given)
    torch.testing.assert_close(found, model(x))


class Turned(nn.Module):
    """Weights, and a signal, by the property that exchanges axes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(24, 32))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight.T @ x.mT).mT


def test_a_traced_transposition_is_no_constant() -> None:
    model, x = Turned(), torch.randn(3, 5, 24)
    graph, owned, constants, _ = trace(model, (x,), {})
    assert not constants and list(owned.values()) == ["weight"]
    weight = torch.randn(24, 32)
    (found,) = torch.fx.Interpreter(torch.fx.GraphModule(nn.Module(), graph)).run(weight, x)
    torch.testing.assert_close(found, x @ weight)
