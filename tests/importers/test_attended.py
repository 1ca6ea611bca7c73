"""Attention that is told by its answers: bands in chunks, whatever they are gathered with."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.summary import summary

IDS = torch.randint(200, (5, 12), generator=torch.Generator().manual_seed(1))


class Banded(nn.Module):
    """Every query is multiplied with the 2*reach + 1 keys around it alone, which are cut out of padded rows; a bias for
    each distance if asked for. `power`: what is done to the weights, 1 for attention."""

    def __init__(self, reach: int = 3, power: int = 1, biased: bool = False, width: int = 64) -> None:
        super().__init__()
        self.reach, self.power = reach, power
        self.embed, self.qkv, self.out = nn.Embedding(200, width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(0.8 * torch.randn(4, 1, 2 * reach - 1)) if biased else None

    def near(self, x: Tensor) -> Tensor:
        edge = self.reach - 1
        return F.pad(x, (0, 0, edge, edge)).unfold(2, 2 * edge + 1, 1)  # (N, heads, T, head width, places)

    def forward(self, ids: Tensor) -> Tensor:
        q, k, v = (one.unflatten(-1, (4, -1)).transpose(1, 2) for one in self.qkv(self.embed(ids)).chunk(3, -1))
        logits = 2.0 * torch.einsum("nhtw,nhtwp->nhtp", q, self.near(k)) / q.shape[-1] ** 0.5
        logits = logits if self.bias is None else logits + self.bias
        place = torch.arange(ids.shape[1])[:, None] + torch.arange(2 * self.reach - 1) - self.reach + 1
        logits = logits.masked_fill((place < 0) | (place >= ids.shape[1]), float("-inf"))
        weights = logits.softmax(-1) ** self.power
        return self.out(torch.einsum("nhtp,nhtwp->nhtw", weights, self.near(v)).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("biased", [False, True])
def test_a_band_is_attention_of_that_reach(biased: bool) -> None:
    found = summary(Banded(biased=biased), input_data=IDS, seeds=6)
    assert found.imported is not None and not found.reason
    (attend,) = (item for item in found.imported.draft.items if item.component == "attend")
    assert not any(item.component.startswith("opaque") for item in found.imported.draft.items)
    assert attend.parameters["reach"] == 3 and attend.parameters["heads"] == 4
    assert attend.parameters["factor"] == pytest.approx(2.0, rel=1e-4)
    rows = [row for row in found.rows if row.view == "local" and row.component == attend.path]
    assert len(rows) >= 4
    assert not [row for row in rows if str(row.verdict) == "deviates"]


def test_what_answers_otherwise_is_no_attention() -> None:
    """Squared weights do not add up to one."""
    found = summary(Banded(power=2), input_data=IDS, measure=False)
    assert found.imported is not None
    assert not [item for item in found.imported.draft.items if item.component == "attend"]
    (hidden,) = (item for item in found.imported.draft.items if item.component.startswith("opaque"))
    assert "no attention" in hidden.reason
