"""Products of two signals, whatever axes they are summed over, and what stands around them: all modelled, and right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.summary import summary


class Heads(nn.Module):
    """Queries, keys and values of four heads, (N, heads, T, width)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(self.mixed(q, k, v).transpose(1, 2).flatten(2))

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError


class Linear(Heads):
    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("bhnd,bhde->bhne", q, torch.einsum("bhnd,bhne->bhde", F.relu(k), v)) / 8


class Normalised(Heads):
    """Shares of features that are positive, divided by their sum: queries softened inside their heads."""

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = q.softmax(-1), F.softplus(k)
        size = torch.einsum("bhnd,bhd->bhn", q, k.sum(2))
        return torch.einsum("bhnd,bhde->bhne", q, torch.einsum("bhnd,bhne->bhde", k, v)) / size.unsqueeze(-1)


class Talking(Heads):
    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = self.before((q @ k.mT / 4).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.after(logits.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v


class Blocks(Heads):
    """Inside blocks of four tokens, without a softmax."""

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(2, (-1, 4)) for x in (q, k, v))
        return (F.relu(q @ k.mT) / 4 @ v).flatten(2, 3)


class Retention(Heads):
    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ago = torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])
        return (q @ k.mT / 4 * torch.where(ago >= 0, 0.8 ** ago.clamp(min=0), 0.0)) @ v


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        edges = torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) < 0.3
        near = (edges | edges.T | torch.eye(12, dtype=torch.bool)).float()
        self.register_buffer("near", near / (near.sum(0) * near.sum(1)[:, None]).sqrt())
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        near = self.get_buffer("near")
        return near @ self.second(F.relu(near @ self.first(x)))


class Near(nn.Module):
    """Attention over a graph: logits of every head from one vector for all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.here, self.there = nn.Linear(64, 64, bias=False), nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.up(x).unflatten(-1, (4, -1)).transpose(1, 2)
        shares = F.leaky_relu(self.here(z) + self.there(z).mT, 0.2).softmax(-1)
        return F.elu((shares @ z).transpose(1, 2).flatten(2))


class Subsampled(nn.Module):
    """A spectrogram whose frequencies become features of a frame, and an average over groups of these."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Conv2d(1, 16, 3, 2, 1), nn.Linear(16 * 32, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x.unsqueeze(1)))
        y = self.out(y.transpose(1, 2).flatten(2))
        return y.unflatten(-1, (8, 4)).mean(-1)


class Pooled(nn.Module):
    """Second-order pooling: a picture's channels with themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.out = nn.Conv1d(64, 16, 1), nn.Linear(256, 8)

    def forward(self, x: Tensor) -> Tensor:
        z = self.up(x.transpose(1, 2))
        return self.out((z @ z.mT / z.shape[2]).flatten(1))


MODELS: dict[str, Any] = {"linear": Linear, "talking": Talking, "blocks": Blocks, "retention": Retention,
                          "graph": Graph, "pooled": Pooled, "normalised": Normalised, "near": Near,
                          "subsampled": Subsampled}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_products_of_signals_are_modelled_and_right(name: str) -> None:
    torch.manual_seed(0)
    data = torch.randn(6, 12, 64, generator=torch.Generator().manual_seed(1))
    found = summary(MODELS[name](), input_data=data, seeds=8, most_seeds=16)
    assert found.imported is not None and found.report is not None, found.reason
    kinds = [item.component for item in found.imported.draft.items]
    assert {"contract", "stack"} & set(kinds) and not any(kind.startswith("opaque") for kind in kinds)
    wrong = [row for row in found.rows if row.view == "local" and str(row.verdict) == "deviates"]
    assert not wrong, [(row.component, row.quantity, row.direction) for row in wrong]
