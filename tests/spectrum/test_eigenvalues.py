"""Eigenvalues predicted beside measured: counts in intervals, the block in the terminal, the figure, the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lensnet
from lensnet.cli.app import application
from lensnet.cli.ending import UsageError
from lensnet.cli.spectrum import _places
from lensnet.compare.eigenvalues import Eigenvalues
from lensnet.report.eigenvalues import lines
from lensnet.spectra import eigenvalues

NET = """
network: small
input: {source: digits, batch: 48}
body:
  - {name: first, component: linear, units: 192, gain: sqrt(2)}
  - {name: act, component: relu}
  - {name: last, component: linear, units: 24}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    return path


def test_a_flat_density_is_counted_by_hand() -> None:
    x = np.geomspace(0.1, 10, 400)
    found = Eigenvalues("a", 4, 8, x, np.full(400, 3.0), np.ones(4), (np.array([0.0, 0.2, 0.5, 5.0]),))
    edges = np.array([0.1, 1.0, 10.0])
    assert found.predicted_counts(edges) == pytest.approx([3 * np.log(10)] * 2, rel=1e-6)
    counts = found.measured_counts(edges)
    assert counts is not None
    assert list(counts[0]) == [2, 1]


def test_eigenvalues_of_draws_fall_where_the_density_is(file: Path) -> None:
    network = lensnet.load(file).network
    for one in eigenvalues(network, ["act", "last"], seeds=16):
        edges = one.edges(6)
        predicted, measured = one.predicted_counts(edges), one.measured_counts(edges)
        assert predicted is not None and measured is not None
        assert predicted.sum() == pytest.approx(min(48, one.channels), abs=0.6)
        mean, error = measured
        assert np.all(np.abs(predicted - mean) < 4 * error + 0.5)


def test_the_block_fits_the_terminal(file: Path) -> None:
    (one,) = eigenvalues(lensnet.load(file).network, ["act"], seeds=2)
    for width in (80, 120):
        block = lines(one, width)
        assert all(line.cell_len <= width for line in block)
    nothing = Eigenvalues("a", 0, 8, np.zeros(0), np.zeros(0), np.zeros(0), ())
    assert "nothing" in lines(nothing, 80)[1].plain


def test_the_verb_writes_data_and_a_figure(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    data, figure = tmp_path / "data.json", tmp_path / "figure.png"
    arguments = ["spectrum", str(file), "--at", "act", "--seeds", "2", "--json", str(data), "--plot", str(figure)]
    with pytest.raises(SystemExit) as ended:
        application(["spectrum", "lint"])(arguments)
    assert ended.value.code in (0, None)
    assert "act" in capsys.readouterr().out
    (component,) = json.loads(data.read_text())["components"]
    assert component["component"] == "act" and len(component["measured"]) == 2
    assert figure.stat().st_size > 1000


def test_a_wrong_place_says_what_may_be_meant(file: Path) -> None:
    with pytest.raises(UsageError, match="did you mean first"):
        _places(lensnet.load(file).network, ["firts"])
