"""Mixtures of experts as people write them: all experts for all tokens, the best few by masks or in groups."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.capture import capture
from lensnet.importers.summary import summary

WIDTH, EXPERTS = 64, 4


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 8)
        self.gate = nn.Linear(WIDTH, EXPERTS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(x + self.mix(self.norm(x)))

    def mix(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def expert() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 96), nn.ReLU(), nn.Linear(96, WIDTH, bias=False))


class Everyone(Base):
    """Every expert, by a softmax of all ratings, as one sum over named indices."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, 96) * WIDTH**-0.5)
        self.down = nn.Parameter(torch.randn(EXPERTS, 96, WIDTH) * 96**-0.5)

    def mix(self, x: Tensor) -> Tensor:
        hidden = F.gelu(torch.einsum("btd,edf->btef", x, self.up))
        return torch.einsum(
            "bte,bted->btd", self.gate(x).softmax(-1), torch.einsum("btef,efd->bted", hidden, self.down)
        )


class Masked(Base):
    """The best two, each with the tokens that it was chosen for."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(expert() for _ in range(EXPERTS))

    def mix(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, WIDTH)
        share, chosen = self.gate(rows).softmax(-1).topk(2, -1)
        share, out = share / share.sum(-1, keepdim=True), torch.zeros_like(rows)
        for index, one in enumerate(self.experts):
            choice, token = torch.where(F.one_hot(chosen, EXPERTS).permute(2, 1, 0)[index])
            out.index_add_(0, token, one(rows[token]) * share[token, choice, None])
        return out.reshape(x.shape)


class Sigmoids(Base):
    """The best two by their sigmoids; gated units, all of them for all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(WIDTH, 192, bias=False) for _ in range(EXPERTS))
        self.down = nn.ModuleList(nn.Linear(96, WIDTH, bias=False) for _ in range(EXPERTS))

    def mix(self, x: Tensor) -> Tensor:
        best, chosen = self.gate(x).topk(2, -1)
        share = torch.zeros(*x.shape[:-1], EXPERTS).scatter(-1, chosen, 1.5 * best.sigmoid())
        out = torch.zeros_like(x)
        for index, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            gate, value = up(x).chunk(2, -1)
            out = out + share[..., index, None] * down(value * F.silu(gate))
        return out


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Everyone, {"activation": "gelu", "hidden": 96}),
        (Masked, {"activation": "relu", "active": 2}),
        (Sigmoids, {"activation": "silu", "gated": True}),
    ],
)
def test_a_mixture_is_a_gate_and_a_bank(kind: Callable[[], nn.Module], wanted: dict[str, object]) -> None:
    torch.manual_seed(0)
    model, x = kind(), torch.randn(8, 12, WIDTH, generator=torch.Generator().manual_seed(1))
    found = summary(model, input_data=x, seeds=8, most_seeds=16)
    assert found.imported is not None and found.report is not None, found.reason
    items = found.imported.draft.items
    assert not [item.reason for item in items if item.component.startswith("opaque")]
    (bank,) = (item for item in items if item.component == "experts")
    assert wanted.items() <= bank.parameters.items()
    gates = [item.parameters for item in items if item.component == "top_k_gate"]
    assert [one.get("score", "softmax") for one in gates] == (
        {Everyone: [], Masked: ["softmax"], Sigmoids: ["sigmoid"]}[kind]  # type: ignore[index]
    )
    rows = [row for row in found.rows if row.view == "local" and row.verdict != "not-modelled"]
    bad = [(row.component, row.quantity, row.direction, row.port) for row in rows if row.verdict == "deviates"]
    assert len(bad) <= 0.03 * len(rows), bad
    captured = capture(model.eval(), (x,))
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.Interpreter(found.imported.captured.graph).run(*captured.values())[0],
                                   model(x))  # fmt: skip


class Inside(Base):
    """Every expert for all tokens, of which only what their sigmoids let in: that of the best one, and zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, 192) * WIDTH**-0.5)
        self.down = nn.Parameter(torch.randn(EXPERTS, 96, WIDTH) * 96**-0.5)
        nn.init.normal_(self.gate.weight, std=0.02)

    def mix(self, x: Tensor) -> Tensor:
        ratings = self.gate(x.flatten(0, 1))
        best, chosen = ratings.topk(1, -1)
        shares = torch.full_like(ratings, float("-inf")).scatter(1, chosen, best).sigmoid()
        rows = x.flatten(0, 1).repeat(EXPERTS, 1) * shares.T.reshape(-1, 1)
        gate, value = torch.bmm(rows.view(EXPERTS, -1, WIDTH), self.up).chunk(2, -1)
        out = torch.bmm(value * F.silu(gate), self.down)
        return out.sum(0).reshape(x.shape)


def test_shares_that_multiply_what_goes_in() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 6, WIDTH, generator=torch.Generator().manual_seed(1))
    found = summary(Inside(), input_data=x, seeds=12)
    assert found.imported is not None and found.report is not None
    items = {item.component: item for item in found.imported.draft.items}
    assert not items.keys() & {"opaque", "opaque_merge"}
    assert items["experts"].parameters["inside"] and items["experts"].parameters["active"] == 1
    rows = [row for row in found.rows if row.view == "local" and row.component == items["experts"].path]
    assert len(rows) >= 4 and {row.verdict for row in rows} <= {"agrees", "undecided"}
