"""Weights as built: what is measured is the given model, and what distinguishes it from a random one is said."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.importers.checkpoint import load_checkpoint, read_checkpoint
from lensnet.importers.laws import law_of
from lensnet.importers.structure import structure_of
from lensnet.importers.summary import summary
from lensnet.measure.errors import MeasureError
from lensnet.network.weights import Distribution


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("layer", [nn.Linear(96, 64), nn.Conv2d(24, 48, 3), nn.Linear(700, 300)])
def test_torch_defaults_are_recognised(layer: nn.Module) -> None:
    law = law_of(layer.weight)
    assert (law.kind, law.distribution, law.known) == ("random", "uniform", "torch")


@pytest.mark.parametrize(
    ("fill", "distribution", "std"),
    [
        (lambda w: nn.init.normal_(w, 0, 0.02), "normal", 0.02),
        (lambda w: nn.init.trunc_normal_(w, 0, 0.5, -1.0, 1.0), "truncated_normal", None),
        (lambda w: nn.init.kaiming_normal_(w), "normal", (2 / 256) ** 0.5),
        (lambda w: nn.init.xavier_uniform_(w), "uniform", (2 / 384) ** 0.5),
        (lambda w: nn.init.orthogonal_(w), "orthogonal", (1 / 256) ** 0.5),
    ],
)
def test_known_schemes_are_recognised(fill: object, distribution: Distribution, std: float | None) -> None:
    torch.manual_seed(3)
    weight = torch.empty(128, 256)
    fill(weight)  # type: ignore[operator]
    law = law_of(weight)
    assert (law.kind, law.distribution) == ("random", distribution)
    assert law.std == pytest.approx(std if std is not None else float(weight.std()), rel=0.01)


LAWS = {
    "uniform": lambda w, source: w.uniform_(-1, 1, generator=source),
    "normal": lambda w, source: w.normal_(generator=source),
    "heavy": lambda w, source: w.exponential_(1, generator=source) * torch.randn(w.shape, generator=source).sign(),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [(64, 9), (64, 64), (10, 80)])
def test_random_matrices_give_no_finding(law: str, shape: tuple[int, int]) -> None:
    for seed in range(12):
        found = structure_of(LAWS[law](torch.empty(shape), seeded(seed)))
        assert found is not None and not found.learned, (seed, found)


def test_a_planted_direction_is_found_and_noise_is_not() -> None:
    noise = torch.randn(300, 200, generator=seeded(0)) / 200**0.5
    clean = structure_of(noise)
    assert clean is not None and not clean.learned and clean.outliers == 0 and clean.distance < 0.05
    left, right = torch.randn(300, generator=seeded(1)), torch.randn(200, generator=seeded(2))
    planted = noise + 6 * torch.outer(left / left.norm(), right / right.norm())
    found = structure_of(planted)
    assert found is not None and found.learned and found.outliers == 1
    # a spike theta over noise of entries sigma^2 = 1/n, aspect m/n (Benaych-Georges and Nadakuditi 2012)
    ratio = 300 / 200
    value = ((1 + 36) * (ratio + 36) / 36) ** 0.5
    # the edge is that of the noise: where the largest of random matrices lies but once in 10,000, 2 to 5 % above
    # Marchenko and Pastur's
    assert value / (1 + ratio**0.5) / found.edge == pytest.approx(1.035, abs=0.015)
    assert found.share == pytest.approx(value**2 / float(planted.square().sum()), rel=0.02)
    quiet = structure_of(noise + 0.5 * torch.outer(left / left.norm(), right / right.norm()))
    assert quiet is not None and quiet.outliers == 0  # below the threshold ratio^(1/4) nothing can be seen


def test_rows_of_unequal_size_are_a_spectrum_that_is_not_random() -> None:
    """Independent entries, half of the rows twice as large: no direction stands out by itself, the bulk is wider."""
    noise = torch.randn(200, 400, generator=seeded(4))
    noise[::2] *= 2
    found = structure_of(noise)
    assert found is not None and found.distance > 3 * found.chance


class Classifier(nn.Module):
    """Two convolutions and a batch norm: digits of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.hidden = nn.Linear(512, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.norm(self.conv2(self.conv1(x).relu())).relu(), 2)
        return self.head(self.hidden(x.flatten(1)).relu())


def dense() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def taught(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(12):
        for some in torch.randperm(len(x), generator=seeded(1)).split(128):
            optimiser.zero_grad()
            F.cross_entropy(model(x[some]), labels[some]).backward()
            optimiser.step()


@pytest.mark.parametrize("make", [dense, Classifier])
def test_what_digits_teach_is_found_and_a_fresh_model_gives_no_finding(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32)[:, None]
    x = (x - x.mean()) / x.std()
    torch.manual_seed(0)
    model = make()
    fresh = summary(model, input_data=x[:64], weights="built")
    assert fresh.structure and not any(one.learned for one in fresh.structure)
    assert not [row for row in fresh.rows if row.verdict == "deviates"]
    taught(model, x, torch.tensor(data.target))
    save_file(model.state_dict(), tmp_path / "taught.safetensors")
    torch.save(model.state_dict(), tmp_path / "taught.pt")
    loaded = [make(), make()]
    for again, name in zip(loaded, ("taught.safetensors", "taught.pt"), strict=True):
        load_checkpoint(again, tmp_path / name)
    assert all(torch.equal(a, b) for a, b in zip(*(one.state_dict().values() for one in loaded), strict=True))
    last = summary(loaded[0], input_data=x[:64], weights="built")
    learned = {one.parameter: one for one in last.structure if one.learned}
    hidden = learned["hidden.weight" if make is Classifier else "3.weight"]
    # one direction for every class but one, and the mean: their count is known, their power is most of what is new
    assert 3 <= hidden.outliers <= 20 and hidden.share > 0.15 and hidden.stable_rank < 0.7 * hidden.random_stable_rank
    assert hidden.forward is not None and hidden.forward.learned and hidden.forward.ratio > 2
    told = [one for one in (last.report.findings if last.report else ()) if one.kind == "structure"]
    assert {one.component for one in told} >= {one.component for one in learned.values()}
    assert all(one.numbers["outliers"] >= 0 for one in told if one.component)
    norms = [row for row in last.rows if row.kind == "batchnorm" and row.view == "local" and row.direction == "forward"]
    assert all(row.verdict == "agrees" for row in norms)  # what it has gathered is what this batch has
    assert "above the edge" in last.show(width=80) and "weight matrices" in last.show(width=80)


def trained() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    x = torch.randn(256, 32)
    y = torch.stack([x[:, 0], x[:, 1] * 2, -x[:, 0], x[:, 2]], 1)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        (model(x) - y).square().mean().backward()
        optimiser.step()
    return model.requires_grad_(True)


def test_given_weights_are_measured_as_they_are_and_their_structure_told() -> None:
    model = trained()
    batch = torch.randn(64, 32, generator=seeded(5))
    found = summary(model, input_data=batch, seeds=4, most_seeds=4, weights="built")
    assert found.imported is not None and found.imported.built and found.structure
    with torch.no_grad():
        hidden = model[0](batch)
    from lensnet.importers.measuring import ModelBench

    one = ModelBench(found.imported).one(found.imported.network, batch, 0)
    assert one.outputs["model.0"].second_moment == pytest.approx(hidden.double().square().mean(1).numpy(), rel=1e-6)
    assert "above the edge" in str(found)


def test_two_checkpoints_side_by_side(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    before = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
    after = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
    with torch.no_grad():
        for a, b in zip(after.parameters(), before.parameters(), strict=True):
            a.copy_(3 * b)
    save_file(after.state_dict(), tmp_path / "after.safetensors")
    torch.save(after.state_dict(), tmp_path / "after.pt")
    for name in ("after.safetensors", "after.pt"):
        fresh = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
        load_checkpoint(fresh, tmp_path / name)
        assert torch.equal(fresh[0].weight, after[0].weight)
    batch = torch.randn(64, 32, generator=seeded(6))
    pair = [summary(m, input_data=batch, seeds=2, most_seeds=2, weights="built") for m in (before, after)]
    changes = pair[0].beside(pair[1]).changes
    ratio = {one.component: one.second / one.first for one in changes if one.direction == "forward"}
    assert ratio["model.0"] == pytest.approx(9, rel=1e-4)
    assert "model.0" in str(pair[0].beside(pair[1]))


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("trap.txt", "w"))  # type: ignore[return-value]


def test_no_checkpoint_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"weight": _Trap()}))
    with pytest.raises(MeasureError, match="nothing in it was run"):
        read_checkpoint("bad.pt")
    assert not (tmp_path / "trap.txt").exists()
    np.save(tmp_path / "x.npy", np.zeros(3))
    for name in ("missing.pt", "x.npy"):
        with pytest.raises(MeasureError):
            read_checkpoint(name)
