"""Weights as built: what is measured is the given model, and what distinguishes it from a random one is said."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

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
    std = float(planted.square().mean().sqrt())
    assert found.edge == pytest.approx(value / (std * (300**0.5 + 200**0.5)), rel=0.02)


def trained() -> nn.Module:
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
    assert any("singular values" in line for line in str(found).splitlines())


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
    ratio = {component: b / a for component, direction, a, b in changes if direction == "forward"}
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
