"""Token ids that are hashed, padded and laid behind a prompt before a table is read; sequences that are repeated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.summary import summary
from tests.importers.models import Numpy

IDS = torch.randint(2, 200, (6, 12), generator=torch.Generator().manual_seed(1))


class Hashed(nn.Module):
    """Two tables at hashes of the ids, behind the rows of a prompt and before padding; a mask that hides nothing."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(60, width // 2) for _ in range(2))
        self.whole, self.up, self.down = nn.Embedding(200, width), nn.Linear(width, 128), nn.Linear(128, width)

    def forward(self, ids: Tensor) -> Tensor:
        first, second = self.tables
        hashed = torch.cat([first((ids + 1) * 31 % 60), second((ids + 1) * 43 % 60)], -1)
        prompt = torch.arange(3).repeat(len(ids), 1)
        long = self.whole(F.pad(torch.cat([prompt, ids], 1), (0, 1), value=1))
        x = F.gelu(self.up(long[:, 3:-1] + hashed)) * (ids != 0).unsqueeze(-1).to(long.dtype)
        return self.down(torch.cat([x.repeat_interleave(2, 1), x[:, -1:].repeat_interleave(3, 1)], 1))


class Summed(nn.Module):
    """A sum over an index with the others left open, in a model that no exporter follows."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.qkv, self.out = Numpy(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (one.unflatten(-1, (4, -1)) for one in self.qkv(self.first(x)).chunk(3, -1))
        weights = torch.einsum("...qhd,...khd->...hqk", q, k / 4).softmax(-1)
        return self.out(torch.einsum("...hqk,...khd->...qhd", weights, v).flatten(-2))


@pytest.mark.parametrize(("model", "data"), [(Hashed, IDS), (Summed, torch.randn(6, 12, 64))], ids=["ids", "sums"])
def test_every_operation_is_modelled_and_no_row_deviates(model: Any, data: Tensor) -> None:
    found = summary(model(), input_data=data, seeds=6)
    assert found.imported is not None and not found.reason
    assert not [item.reason for item in found.imported.draft.items if item.component.startswith("opaque")]
    rows = [row for row in found.rows if row.view == "local"]
    assert len(rows) > 12
    assert not [row for row in rows if str(row.verdict) == "deviates"]


def test_rows_of_a_prompt_are_lights_before_the_tokens() -> None:
    found = summary(Hashed(), input_data=IDS, measure=False)
    assert found.imported is not None
    kinds = {item.path: item for item in found.imported.draft.items}
    tables = [item for item in kinds.values() if item.component == "embedding"]
    assert sorted(item.parameters["units"] for item in tables) == [32, 32, 64]
    (front, *_) = (item for item in kinds.values() if item.component == "prepend")
    assert front.parameters["std"] == pytest.approx(1.0, rel=0.05)
