"""Places whose channels are laid side by side, packed patches, filters as wide as a token, tables around vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.capture import capture
from lensnet.importers.model import import_model
from lensnet.importers.probe import in_order
from lensnet.importers.summary import Summary, summary


def _normal(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3))


class Cut(nn.Module):
    """An image is cut into patches by reshapes, each a token with a norm in front of its dense layer."""

    def __init__(self, patch: int = 4) -> None:
        super().__init__()
        self.patch, self.norm = patch, nn.LayerNorm(3 * patch**2)
        self.first, self.query, self.head = nn.Linear(3 * patch**2, 64), nn.Linear(64, 192), nn.Linear(64, 8)

    def forward(self, image: Tensor) -> Tensor:
        n, c, rows, columns = image.shape
        p = self.patch
        x = image.reshape(n, c, rows // p, p, columns // p, p).permute(0, 2, 4, 3, 5, 1)
        x = self.first(self.norm(x.reshape(n, -1, p * p * c)))
        q, k, v = self.query(x).chunk(3, -1)
        return self.head((x + F.scaled_dot_product_attention(q, k, v)).mean(1))


class Folded(nn.Module):
    """A spectrogram behind convolutions: the channels of all pitches are those of a token; later two tokens are one."""

    def __init__(self) -> None:
        super().__init__()
        self.listen, self.first = nn.Conv2d(1, 16, 3, 2), nn.Linear(16 * 9, 64)
        self.norm, self.pair = nn.LayerNorm(128), nn.Linear(128, 32)

    def forward(self, sound: Tensor) -> Tensor:
        x = self.listen(sound.unsqueeze(1)).relu().transpose(1, 2).flatten(2)
        x = self.first(x)
        return self.pair(self.norm(x.view(len(x), -1, 128)))


class Packed(nn.Module):
    """Patches of one picture, without an axis of examples: a convolution over each, attention among all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv3d(3, 64, (2, 4, 4), (2, 4, 4)), nn.LayerNorm(64)
        self.qkv, self.merge = nn.Linear(64, 192), nn.Linear(256, 32)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.patch(patches.view(-1, 3, 2, 4, 4)).view(-1, 64)
        q, k, v = self.qkv(self.norm(x)).reshape(len(x), 3, 4, -1).permute(1, 2, 0, 3).unbind(0)
        x = x + F.scaled_dot_product_attention(q[None], k[None], v[None]).squeeze(0).transpose(0, 1).reshape(len(x), -1)
        return self.merge(x.view(-1, 256))


class Wide(nn.Module):
    """Filters over tokens as wide as their vectors (Kim 2014), and the largest over time."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.filters = nn.Linear(24, 32), nn.ModuleList(nn.Conv2d(1, 16, (k, 32)) for k in (2, 3))
        self.head = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.up(tokens).unsqueeze(1)
        found = [one(x).squeeze(3).relu() for one in self.filters]
        return self.head(torch.cat([F.max_pool1d(one, one.shape[-1]).squeeze(2) for one in found], 1))


class Duel(nn.Module):
    """One number for all channels, a table that a signal is taken from, a constant picture in a style of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.value, self.all = nn.Linear(24, 64), nn.Linear(64, 1), nn.Linear(64, 16)
        self.picture, self.paint = nn.Parameter(torch.randn(1, 16, 4, 4)), nn.Conv2d(16, 8, 3, padding=1)
        self.register_buffer("table", torch.linspace(-1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x).relu()
        style = self.value(h) + (self.table - self.all(h))
        return self.paint(self.picture.expand(len(x), -1, -1, -1) * style[:, :, None, None])


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cut": (Cut, (16, 3, 16, 12)),
    "folded": (Folded, (12, 25, 19)),
    "packed": (Packed, (24, 96)),
    "wide": (Wide, (32, 10, 24)),
    "duel": (Duel, (32, 24)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_component_is_modelled_and_agrees(name: str) -> None:
    factory, size = CASES[name]
    torch.manual_seed(0)
    found = summary(factory(), input_data=_normal(*size), seeds=8, most_seeds=24)
    assert found.imported is not None and found.report is not None, found.reason
    assert not [item.reason for item in found.imported.draft.items if item.component.startswith("opaque")]
    rows = [row for row in found.rows if row.view == "local" and row.verdict != "not-modelled"]
    bad = [(row.component, row.quantity, row.direction, row.port) for row in rows if row.verdict == "deviates"]
    assert len(rows) > 15 and len(bad) <= 0.02 * len(rows), bad


@pytest.mark.parametrize("name", ["cut", "folded", "packed"])
def test_windows_are_those_that_the_model_reads(name: str) -> None:
    """The numbers in front of the dense layer, laid out as the network has them, are those of torch's own unfolding."""
    factory, size = CASES[name]
    model, data = factory().eval(), _normal(*size)
    imported = import_model(model, (data,))
    item = next(item for item in imported.draft.items if item.component == "unfold")
    held: dict[Any, Any] = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            held[n] = super().run_node(n)
            return held[n]

    Watch(imported.captured.graph).run(*imported.captured.values())
    ((source, beam),) = item.taps
    assert beam is not None
    image, kernel = in_order(held[source], beam), item.parameters["kernel"]
    wanted = F.unfold(image, kernel, stride=kernel).unflatten(-1, item.beam.positions)
    assert torch.equal(in_order(held[item.output], item.beam), wanted)


def test_packed_patches_are_one_example() -> None:
    found: Summary = summary(Packed(), (24, 96), measure=False)
    assert found.network is not None and found.network.input.shape.positions == (24,)
    assert found.network.input.batch == 1 and any("single example" in note for note in found.notes)


def test_a_code_that_the_signal_chooses_is_not_modelled() -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.book, self.head = nn.Linear(8, 16), nn.Embedding(32, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.up(x)
            code = (h @ self.book.weight.T).argmax(-1)
            return self.head(h + self.book(code))

    found = summary(Coded(), (16, 8), measure=False)
    assert found.imported is not None and any("opaque" in item.component for item in found.imported.draft.items)


def test_a_matrix_there_and_back_is_not_modelled() -> None:
    """W^T W x has q (n + m + 1)/m for W of m x n with entries of variance 1/m; two matrices would make q n/m of it."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.code = nn.Linear(32, 64, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.code(x), self.code.weight.t())

    found = summary(Both(), (16, 32), measure=False)
    assert found.imported is not None
    assert [item.component for item in found.imported.draft.items] == ["linear", "opaque"]


def test_the_graph_still_computes_the_model() -> None:
    for factory, size in CASES.values():
        model, data = factory().eval(), _normal(*size)
        captured = capture(model, (data,))
        import_model(model, (data,))
        made = torch.fx.Interpreter(captured.graph).run(*captured.values())
        assert torch.allclose(torch.utils._pytree.tree_leaves(made)[0], model(data), atol=1e-5)
