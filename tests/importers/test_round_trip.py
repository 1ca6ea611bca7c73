"""A summary of given tensors writes a network file that stands for the same input: it predicts the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import lensnet
from lensnet.compare.row import Row
from lensnet.importers.summary import Summary, summary
from lensnet.language.source import Source
from lensnet.network.build import load_network
from tests.importers.models import SharedQueries


def digits() -> Tensor:
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images[:64]).float() / 16


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 10))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3, stride=2, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


def ids() -> dict[str, Tensor]:
    return {"ids": (7 * torch.arange(6)[:, None] + torch.arange(10) ** 2).int() % 40}  # few ids, unevenly often


CASES: dict[str, tuple[Any, Any]] = {
    "dense": (dense, lambda: (digits().flatten(1),)),
    "convolutional": (convolutional, lambda: (digits()[:, None],)),
    "tokens": (SharedQueries, lambda: (ids(),)),
}


def of(rows: tuple[Row, ...], view: str = "through") -> dict[tuple[str, str, str, str | None], Row]:
    return {(row.component, row.quantity, row.direction, row.port): row for row in rows if row.view == view}


@pytest.fixture(scope="module", params=CASES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Summary, Path]:
    """Predicted alone, measured too, and the file of it."""
    make, data = CASES[request.param]
    torch.manual_seed(0)
    model, given = make(), data()
    path = tmp_path_factory.mktemp("saved") / f"{request.param}.yaml"
    alone = summary(model, input_data=given, measure=False)
    measured = summary(model, input_data=given, seeds=8, most_seeds=8)
    measured.save(path)
    return alone, measured, path


def test_the_file_predicts_what_the_summary_predicts(saved: tuple[Summary, Summary, Path]) -> None:
    alone, _, path = saved
    net = lensnet.load(path)
    assert net.network.input.source == "file"
    wanted, got = of(alone.rows), of(net.predict().rows)
    assert wanted and wanted.keys() == got.keys()
    for key, row in wanted.items():
        assert got[key].predicted == pytest.approx(row.predicted, rel=1e-6, abs=1e-12), key


def test_a_run_of_the_file_measures_what_the_summary_measured(saved: tuple[Summary, Summary, Path]) -> None:
    """Other draws of the same weights on the same input: equal within the errors of both, and nothing deviates."""
    _, measured, path = saved
    report = lensnet.load(path).run(8, level="moments", most_seeds=8)
    wanted, got = of(measured.rows), of(report.rows)
    assert wanted.keys() == got.keys()
    for key, row in wanted.items():
        if row.quantity == "second_moment" and row.measured:
            error = (row.standard_error**2 + got[key].standard_error ** 2) ** 0.5
            assert abs(row.measured - got[key].measured) < 5 * error + 1e-6 * abs(row.measured), key
    assert not [row for row in report.rows if row.view == "local" and row.verdict == "deviates"]


def test_the_first_layer_sees_the_power_of_the_digits(tmp_path: Path) -> None:
    """torch's default, weights and biases of variance 1/(3 fan_in): the mean square of the pixels, not of noise."""
    torch.manual_seed(0)
    given = digits().flatten(1)
    found = summary(dense(), input_data=given, measure=False)
    found.save(tmp_path / "net.yaml")
    exact = (float(given.square().sum(1).mean()) + 1) / (3 * 64)
    declared = load_network(Source("net.yaml", found.spec)).network
    for report, right in (
        (lensnet.load(tmp_path / "net.yaml").predict(), True),
        (lensnet.api.Net(declared).predict(), False),
    ):
        predicted = of(report.rows)["model.0", "second_moment", "forward", None].predicted
        assert (abs(predicted / exact - 1) < 0.02) == right


def test_a_declared_input_stays_declared(tmp_path: Path) -> None:
    found = summary(dense(), (8, 64), measure=False)
    found.save(tmp_path / "net.yaml")
    assert (tmp_path / "net.yaml").read_text(encoding="utf-8") == found.spec
    assert [path.name for path in tmp_path.iterdir()] == ["net.yaml"]


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.left(x) + self.right(other)


def test_what_the_file_cannot_hold_is_said_there_and_in_a_note(tmp_path: Path) -> None:
    x, path = torch.rand(12, 16), tmp_path / "two.yaml"
    found = summary(Two(), input_data=(x, 2 * x), seeds=2, most_seeds=2)
    found.save(path)
    assert torch.equal(load_file(tmp_path / "two.input.safetensors")["input"], x)
    said = "other: not in the file, which has one input (x)"
    assert said in found.notes and f"# {said}" in path.read_text(encoding="utf-8")
    assert lensnet.load(path).network.input.source == "file"
    bad = summary(Two(), input_data=(x.clone().fill_(float("nan")), x), seeds=2, most_seeds=2)
    bad.save(tmp_path / "bad.yaml")
    assert "# x stays as declared: it holds NaN or infinity" in (tmp_path / "bad.yaml").read_text(encoding="utf-8")
    assert lensnet.load(tmp_path / "bad.yaml").network.input.source == "gaussian"


def test_a_file_is_written_over_the_one_that_the_tensor_was_read_from(tmp_path: Path) -> None:
    given = digits().flatten(1)
    path = tmp_path / "net.yaml"
    summary(dense(), input_data=given, measure=False).save(path)
    again = load_file(tmp_path / "net.input.safetensors")["input"]
    summary(dense(), input_data=again, measure=False).save(path)
    assert torch.equal(load_file(tmp_path / "net.input.safetensors")["input"], given)
