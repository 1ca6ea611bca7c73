"""Network files of steps: what is refused, with its place; short forms; and the report that a run ends in."""

from __future__ import annotations

from pathlib import Path

import pytest

import lensnet
from lensnet.catalog.catalog import catalog
from lensnet.compare.report import Report
from lensnet.language.source import SpecError

BOWL = "network: n\ninput: {source: quadratic, dimension: 4}\n"

WRONG = [
    ("network: n\ninput: {source: quadratc}\nbody:\n  - {component: relu}\n", "unknown source 'quadratc'", "quadratic"),
    (
        "network: n\ninput: {source: quadratic, dimenson: 4}\nbody:\n  - {component: relu}\n",
        "quadratic has no parameter 'dimenson'",
        "did you mean 'dimension'?",
    ),
    (
        "network: n\ninput: {source: quadratic, dimension: 0}\nbody:\n  - {component: relu}\n",
        "`dimension` must be at least 1, not 0",
        "",
    ),
    (BOWL + "body:\n  - {component: relu}\n", "relu needs numbers, but 'input' gives the state", "gradient_descent"),
    (BOWL + "body:\n  - {component: quadratic}\n", "quadratic is an objective", "source: quadratic"),
    (BOWL + "body:\n  - {component: gradient_descent}\n", "gradient_descent needs `rate` (step size)", ""),
    (BOWL + "body:\n  - {repeat: 2.5, component: gradient_descent, rate: 1}\n", "`repeat` is 2.5", ""),
    (BOWL + "body:\n  - {repeat: 3, component: gradient_descent, raet: 1}\n", "no parameter 'raet'", "'rate'"),
    (
        "network: n\ninput: {source: digits}\nbody:\n  - {component: gradient_descent, rate: 1}\n",
        "gradient_descent is a step of an algorithm, but 'input' gives 64",
        "source: quadratic",
    ),
]


@pytest.mark.parametrize(("text", "message", "help"), WRONG, ids=lambda value: value[:40] if value else "")
def test_what_is_refused(text: str, message: str, help: str, tmp_path: Path) -> None:
    file = tmp_path / "n.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        lensnet.load(file)
    told = str(caught.value)
    assert message in told and help in told
    assert f"{file}:" in told


def test_a_component_repeated_in_a_row(tmp_path: Path) -> None:
    file = tmp_path / "n.yaml"
    file.write_text(BOWL + "body:\n  - {repeat: 3, component: gradient_descent, rate: 1/(1 + index)}\n")
    network = lensnet.load(file).network
    assert [node.path for node in network] == [f"gradient_descent.{index}" for index in range(3)]
    assert [node.parameters["rate"] for node in network] == [1, 0.5, pytest.approx(1 / 3)]
    layers = tmp_path / "layers.yaml"
    layers.write_text("network: n\ninput: {source: digits}\nbody:\n  - {repeat: 2, name: act, component: relu}\n")
    assert [node.path for node in lensnet.load(layers).network] == ["act.0", "act.1"]


@pytest.fixture(scope="module")
def report() -> Report:
    return lensnet.load("rahimi_levenberg_marquardt").run(seeds=2)


def test_rahimis_example_is_a_report(report: Report) -> None:
    assert report.exit_status == 0 and report.levels == ("spectrum",) and report.dtype == "float64"
    last = {row.quantity: row for row in report.rows if row.component == "step.9" and row.view == "through"}
    assert last["error_flattest"].measured < 1e-4
    assert last["condition_number"].measured == pytest.approx(2e5, rel=0.01)
    stalled = lensnet.load("rahimi_gradient_descent").predict()
    weakest = [row.predicted for row in stalled.rows if row.quantity == "error_flattest"]
    assert weakest[9] > 4000 and weakest[-1] > 100


def test_the_report_shows_and_saves_itself(report: Report, tmp_path: Path) -> None:
    assert Report.from_dict(report.to_dict()) == report
    for width in (80, 120):
        from lensnet.report.terminal import as_text

        text = as_text(report, width)
        assert max(map(len, text.splitlines())) <= width
        assert "loss f" in text and "Δln f" in text and "step.9" in text
    report.plot(tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert "condition number cond" in drawn and "measured: agrees" in drawn


def test_levels_and_number_formats() -> None:
    net = lensnet.load("gd_quadratic", ["body.step.repeat=20", "input.dimension=5"])
    with pytest.raises(ValueError, match="predicted at the level spectrum"):
        net.run(seeds=1, level="kernel")
    single = net.run(seeds=2, dtype="float32")
    assert single.exit_status == 0 and single.dtype == "float32"
    measured = net.measure(seeds=2)
    assert measured.kind == "measurement" and len(measured.rows) == 2 * 20 * 6


def test_a_derivation_shows_the_factor_of_a_mode() -> None:
    """Derived from the loss of a mode, not written in the step's file."""
    for name, factor in (
        ("gradient_descent", "e' = e*(-eta*lam + 1)"),
        ("levenberg_marquardt", "e' = e*mu/(lam + mu)"),
        ("proximal", "e' = e/(eta*lam + 1)"),
    ):
        assert factor in str(lensnet.derive(name))


def test_objectives_lie_in_their_folder() -> None:
    assert [name for name in catalog() if catalog()[name].spec.objective is not None] == catalog().objectives()
