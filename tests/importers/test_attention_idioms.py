"""What people write around attention: windows of near tokens, floors and shifts of logits, tables, indexing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.summary import Summary, summary
from tests.importers.models import Numpy

IDS = torch.randint(200, (4, 12), generator=torch.Generator().manual_seed(1))


class Near(nn.Module):
    """Attention to the last `reach` tokens, or to those nearer than that on both sides."""

    def __init__(self, reach: int, causal: bool, width: int = 64) -> None:
        super().__init__()
        self.embed, self.reach, self.causal = nn.Embedding(200, width), reach, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("places", torch.randn(1, 32, width))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = x + self.places[:, : x.shape[1]].type_as(x)
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 4, -1).permute(2, 0, 3, 1, 4).unbind(0)
        ahead = torch.arange(x.shape[1]) - torch.arange(x.shape[1])[:, None]
        seen = (ahead.abs() < self.reach) & ((ahead <= 0) | (not self.causal))
        logits = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~seen, -1e30)
        logits = torch.max(logits, torch.tensor(torch.finfo(x.dtype).min))
        weights = (logits - logits.amax(-1, keepdim=True).detach()).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Sunk(nn.Module):
    """A learned logit per head beside those of the keys, and keys that are written in two parts."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed, self.sinks = nn.Embedding(200, width), nn.Parameter(torch.linspace(0.5, 2.0, 8))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        q, whole, v = self.qkv(x).view(*x.shape[:2], 3, 8, -1).permute(2, 0, 3, 1, 4).unbind(0)
        k = torch.empty_like(whole)
        k[..., :6].copy_(whole[..., :6])
        k[..., 6:].copy_(whole[..., 6:])
        logits = q @ k.mT * q.shape[-1] ** -0.5
        logits = logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), float("-inf"))
        logits = torch.cat([logits, self.sinks.view(1, -1, 1, 1).expand(len(x), -1, x.shape[1], -1)], -1)
        weights = (logits - logits.max(-1, keepdim=True).values).softmax(-1)[..., :-1]
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Differential(nn.Module):
    """Two maps of attention of the same values, one taken from the other by a factor that is made of weights."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(200, width), nn.Linear(width // 2, width)
        self.qk, self.v = nn.Linear(width, 2 * width), nn.Linear(width, width // 2)
        self.one, self.two = (nn.Parameter(torch.randn(16) * 0.3) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        q, k = self.qk(x).view(*x.shape[:2], 2, 4, -1).permute(2, 0, 3, 1, 4).unbind(0)
        v = self.v(x).view(*x.shape[:2], 2, -1).transpose(1, 2).repeat(1, 2, 1, 1)
        first, second = F.scaled_dot_product_attention(q, k, v, is_causal=True).chunk(2, 1)
        made = first - (self.one * self.two).sum().exp() * second
        return self.out(made.transpose(1, 2).flatten(2))


class Bent(nn.Module):
    """An activation in two pieces, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        return self.down(torch.where(y > 0, 0.8 * y * y + 0.5 * y, (torch.expm1(torch.clamp(y, max=0.0)) - y) * 0.3))


class Indexed(nn.Module):
    """Brackets of every kind behind a step that no exporter follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.head = Numpy(32), nn.Linear(16, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)[..., ::1][:, 1:-1, :16]
        return self.head(F.gelu(self.up(y[None])[0])[:, 0])


class Spoken(nn.Module):
    """Sound and ids: the decoder's tokens are a second light."""

    def __init__(self) -> None:
        super().__init__()
        self.sound, self.embed = nn.Conv1d(8, 64, 3, padding=1), nn.Embedding(200, 64)
        layer = nn.TransformerDecoderLayer(64, 4, 128, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1)

    def forward(self, sound: Tensor, ids: Tensor) -> Tensor:
        return self.decoder(self.embed(ids), self.sound(sound).transpose(1, 2))


def _checked(model: nn.Module, data: Any) -> Summary:
    torch.manual_seed(0)
    found = summary(model, input_data=data, seeds=8, most_seeds=16)
    assert found.imported is not None and found.report is not None, found.reason
    assert not [item.reason for item in found.imported.draft.items if item.component.startswith("opaque")]
    rows = [row for row in found.rows if row.view == "local" and row.verdict != "not-modelled"]
    bad = [(row.component, row.quantity, row.direction) for row in rows if row.verdict == "deviates"]
    assert len(bad) <= 0.02 * len(rows), bad
    return found


@pytest.mark.parametrize(("reach", "causal"), [(4, True), (3, False)])
def test_a_sliding_window_is_read_off_the_mask(reach: int, causal: bool) -> None:
    found = _checked(Near(reach, causal), IDS)
    assert found.imported is not None
    (attend,) = (item for item in found.imported.draft.items if item.component == "attend")
    assert attend.parameters["reach"] == reach and attend.parameters.get("causal", False) == causal


def test_a_sink_is_a_parameter_of_attention() -> None:
    found = _checked(Sunk(), IDS)
    assert found.imported is not None
    (attend,) = (item for item in found.imported.draft.items if item.component == "attend")
    assert attend.parameters["causal"] and attend.parameters["sink"] == pytest.approx(math.exp(1.25), rel=1e-5)
    assert attend.parameters["sink_std"] == pytest.approx(0.4910, rel=1e-3)


def test_differential_attention_and_a_factor_made_of_weights() -> None:
    """E exp(2 sum a b) over the draws, not what it is in one: (1 - 4 Var a Var b)^(-n/2) for Gaussian a and b."""
    found = _checked(Differential(), IDS)
    assert found.imported is not None
    (scale,) = (item for item in found.imported.draft.items if item.component == "scale")
    first, second = (found.imported.laws[name].std for name in ("one", "two"))
    law = (1 - 4 * first**2 * second**2) ** -8.0
    assert scale.parameters["factor"] ** 2 == pytest.approx(law, rel=0.35)  # of 64 draws of what scatters by its size


def test_an_activation_in_pieces_is_a_function() -> None:
    _checked(Bent(), torch.randn(64, 64, generator=torch.Generator().manual_seed(2)))


def test_brackets_of_a_traced_model_are_slices() -> None:
    found = _checked(Indexed(), torch.randn(16, 7, 32, generator=torch.Generator().manual_seed(3)))
    assert found.imported is not None and found.imported.captured.route == "trace"


def test_ids_beside_a_float_input() -> None:
    sound = torch.randn(4, 8, 10, generator=torch.Generator().manual_seed(4))
    found = _checked(Spoken(), (sound, IDS[:, :6]))
    assert any("light" in note for note in found.notes) or found.imported is not None


class Spectral(nn.Module):
    """Two Fourier blocks (Lee-Thorp et al. 2022): what the second gets is even, so that its real part is everything."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.norms = nn.Linear(width, width), nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for norm in self.norms:
            x = norm(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
        return x


class Latent(nn.Module):
    """Keys of which all heads share a part, rotated as complex numbers by a table that is longer than one; values
    narrower than queries (as in DeepSeek-V2)."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.q, self.k = heads, nn.Linear(width, heads * 32), nn.Linear(width, heads * 16)
        self.shared, self.v, self.out = nn.Linear(width, 16), nn.Linear(width, heads * 16), nn.Linear(width, width)
        angle = torch.arange(12)[:, None] * 100.0 ** (-torch.arange(8) / 8)
        self.register_buffer("turns", 1.3 * torch.polar(torch.ones_like(angle), angle))

    def turned(self, x: Tensor) -> Tensor:
        return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * self.turns).flatten(3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        k = torch.cat([k, self.turned(self.shared(x)[:, None]).expand(-1, self.heads, -1, -1)], -1)
        q = torch.cat([q[..., :16], self.turned(q[..., 16:])], -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("model", [Spectral(), Latent()], ids=["fourier", "latent"])
def test_transforms_over_tokens_and_heads(model: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 12, 64, generator=torch.Generator().manual_seed(6))
    found = summary(model, input_data=x, seeds=8, most_seeds=16)
    assert found.imported is not None and found.report is not None, found.reason
    assert not [item.reason for item in found.imported.draft.items if item.component.startswith("opaque")]
    rows = [row for row in found.rows if row.view == "local" and row.verdict != "not-modelled"]
    bad = {(row.component, row.direction) for row in rows if row.verdict == "deviates"}
    # what stands beside each other gets gradients of its own size: the one thing that `concat` takes as equal
    assert all("cat" in component and direction == "backward" for component, direction in bad), bad
