"""Cells stepped by hand, bags of ids, times and masks in whole numbers, attention weights that are returned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.capture import capture
from lensnet.importers.summary import Summary, summary

IDS = torch.randint(1, 200, (16, 12), generator=torch.Generator().manual_seed(1))
WAVES = torch.randn(16, 4, 24, generator=torch.Generator().manual_seed(2))


class Stepped(nn.Module):
    """A cell that is stepped along a sequence, from a state of zero or from a given one."""

    def __init__(self, kind: str, given: bool = False) -> None:
        super().__init__()
        cells = {"gru": nn.GRUCell, "lstm": nn.LSTMCell, "tanh": nn.RNNCell, "relu": nn.RNNCell}
        more = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
        self.cell, self.start, self.head = cells[kind](24, 48, **more), nn.Linear(24, 48), nn.Linear(48, 5)
        self.long, self.given = kind == "lstm", given

    def forward(self, x: Tensor) -> Tensor:
        state = self.start(x[:, 0]) if self.given else x.new_zeros(x.shape[0], 48)
        memory = torch.zeros_like(state)
        for step in x.unbind(1):
            if self.long:
                state, memory = self.cell(step, (state, memory))
            else:
                state = self.cell(step, state)
        return self.head(state)


class Bags(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.bag, self.item, self.head = nn.EmbeddingBag(200, 32, mode=mode), nn.Embedding(200, 32), nn.Linear(64, 32)

    def forward(self, history: Tensor, item: Tensor) -> Tensor:
        return torch.sigmoid(self.head(torch.cat([self.bag(history), self.item(item)], -1)))


class Denoiser(nn.Module):
    """A step of a diffusion model: attention over pixels with channels first, the time as whole numbers."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.time = nn.Conv1d(4, width, 3, padding=1), nn.Linear(32, width)
        self.query, self.key, self.value = (nn.Conv1d(width, width, 1) for _ in range(3))
        self.last = nn.Conv1d(width, 4, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        phase = time[:, None].float() * torch.exp(-torch.arange(16) / 4)[None]
        h = self.first(x) + self.time(torch.cat([phase.cos(), phase.sin()], -1))[:, :, None]
        weights = torch.bmm(self.query(h).permute(0, 2, 1), self.key(h)).mul(h.shape[1] ** -0.5).softmax(2)
        return self.last(h + torch.bmm(self.value(h), weights.permute(0, 2, 1)))


class Padded(nn.Module):
    """Torch's encoder with a mask that is made of the ids; the weights of one more attention are returned."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 64)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 1)
        self.attend, self.head = nn.MultiheadAttention(64, 4, batch_first=True), nn.Linear(64, 8)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.encoder(self.embed(ids), src_key_padding_mask=ids == 0)
        y, weights = self.attend(x, x, x)
        return weights, self.head(F.layer_norm(x + y, (64,)))


def _opaque(found: Summary) -> list[str]:
    assert found.imported is not None, found.reason
    return [item.reason for item in found.imported.draft.items if item.component.startswith("opaque")]


def _same(model: nn.Module, data: tuple[Any, ...]) -> None:
    """The rewritten graph computes what the model computes."""
    captured = capture(model.eval(), data)
    made = torch.utils._pytree.tree_leaves(torch.fx.Interpreter(captured.graph).run(*captured.values()))
    with torch.no_grad():
        for one, other in zip(made, torch.utils._pytree.tree_leaves(model(*data)), strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def _checked(model: nn.Module, data: tuple[Any, ...], most: float = 0.02) -> Summary:
    torch.manual_seed(0)
    found = summary(model, input_data=data, seeds=8, most_seeds=16)
    assert not _opaque(found)
    rows = [row for row in found.rows if row.view == "local" and row.verdict != "not-modelled"]
    bad = [(row.component, row.quantity, row.direction) for row in rows if row.verdict == "deviates"]
    assert len(rows) > 10 and len(bad) <= most * len(rows), bad
    return found


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", ["gru", "lstm", "tanh", "relu"])
def test_a_step_of_a_cell_is_what_it_is_made_of(kind: str, given: bool) -> None:
    _same(Stepped(kind, given), (WAVES,))
    assert not _opaque(summary(Stepped(kind, given), input_data=WAVES, measure=False))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_stepped_cell_agrees(kind: str) -> None:
    _checked(Stepped(kind), (WAVES[:, :3],))


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
def test_bags_of_ids_and_single_ids(mode: str) -> None:
    data = (IDS, IDS[:, 0])
    _same(Bags(mode), data)
    _checked(Bags(mode), data)


def test_a_single_id_for_each_example_is_an_input() -> None:
    model = nn.Sequential(nn.Embedding(200, 64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    found = _checked(model, (IDS.flatten()[:64],))
    assert found.network is not None and found.network.input.shape.positions == (1,)


def test_a_time_in_whole_numbers_is_a_light() -> None:
    data = (WAVES, torch.arange(16) * 37)
    _same(Denoiser(), data)
    found = _checked(Denoiser(), data)
    assert found.imported is not None
    lights = [item for item in found.imported.draft.items if item.component == "source"]
    power = sum(item.parameters["std"] ** 2 + item.parameters.get("bias", 0.0) ** 2 for item in lights) / len(lights)
    assert power == pytest.approx(0.5, rel=0.05)  # a cosine and a sine of every phase


def test_a_mask_of_ids_that_hides_nothing_and_weights_that_are_returned() -> None:
    _same(Padded(), (IDS,))
    _checked(Padded(), (IDS,))


def test_a_mask_that_hides_other_tokens_in_every_example_is_not_modelled() -> None:
    ids = IDS.clone()
    ids[:6, 8:] = 0
    found = summary(Padded(), input_data=ids, measure=False)
    assert any("mask" in reason for reason in _opaque(found))
