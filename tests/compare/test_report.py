"""The report object: budget, coverage, findings, exit status and strict JSON, on made-up networks."""

from __future__ import annotations

import json
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lensnet
from lensnet.compare import Report, ReportError, Settings
from lensnet.compare.budget import STRAIN, SUM
from lensnet.compare.ensemble import Ensemble
from lensnet.network.graph import Gate
from lensnet.predict.prediction import Check
from tests.compare.synthetic import Draw, Part, alexnet, report_of

STACK = [Part(f"block.{i}.{name}", kind, 2048, gain) for i in range(3) for name, kind, gain in
         (("fc", "linear", 2.0), ("act", "relu", 0.5))]  # fmt: skip


def one(report: Report, component: str, quantity: str, direction: str, view: str) -> Any:
    (row,) = (
        r
        for r in report.rows
        if (r.component, r.quantity, r.direction, r.view) == (component, quantity, direction, view)
    )
    return row


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def test_every_component_quantity_and_view_has_a_row_in_network_order() -> None:
    report = report_of(STACK)
    assert list(dict.fromkeys(row.component for row in report.rows)) == [part.path for part in STACK]
    assert len(report.rows) == len(STACK) * 3 * 2
    assert {row.view for row in report.rows} == {"local", "through"}
    assert report.kind == "comparison" and report.seeds == 8


def test_a_true_model_agrees_and_a_wrong_one_is_named() -> None:
    assert report_of(STACK).exit_status == 0
    wrong = [*STACK[:4], Part("block.2.fc", "linear", 2048, 2.0, wrong=1.3), *STACK[5:]]
    report = report_of(wrong)
    assert report.exit_status == 1
    assert one(report, "block.2.fc", "second_moment", "forward", "local").verdict == "deviates"
    assert one(report, "block.2.act", "second_moment", "forward", "local").verdict == "agrees"
    assert report.worst is not None
    assert (report.worst.component, report.worst.view) == ("block.2.fc", "local")


def test_predicted_is_what_was_predicted_and_measured_what_was_measured() -> None:
    """The columns must never be swapped: the model says 2.6, the network does 2."""
    row = one(report_of([Part("fc", gain=2.0, wrong=1.3, width=4096)]), "fc", "second_moment", "forward", "through")
    assert row.predicted == pytest.approx(2.6)
    assert row.measured == pytest.approx(2.0, rel=0.05)
    assert row.error == pytest.approx(2.0 / 2.6 - 1, abs=0.03)


def test_exit_status_of_undecided_and_of_outside_the_regime() -> None:
    assert report_of([Part("narrow", width=6)]).exit_status == 4
    failing = (Check("width >= 4096", -0.5, "fluctuation"),)
    report = report_of([Part("fc", width=2048, checks=failing, status="out-of-regime")])
    assert report.exit_status == 4
    row = one(report, "fc", "second_moment", "forward", "through")
    assert row.verdict == "out-of-regime" and row.assumptions[0].below == "fluctuation"
    # a doubt without a reason is given one
    doubt = report_of([Part("fc", width=2048, status="out-of-regime")])
    assert any(a.fails for a in one(doubt, "fc", "second_moment", "forward", "through").assumptions)


def test_component_without_a_model_is_measured_only() -> None:
    report = report_of([STACK[0], Part("odd", "mystery", 2048, status="not-modelled")])
    assert report.coverage.measured_only == ("odd",)
    assert one(report, "odd", "second_moment", "forward", "local").verdict == "not-modelled"
    assert one(report, "odd", "second_moment", "forward", "through").measured is not None
    nothing = report_of([Part("odd", "mystery", 2048, status="not-modelled")])
    assert nothing.exit_status == 4  # nothing was compared: a gate must not pass


def test_budget_telescopes() -> None:
    report = report_of(STACK)
    rows = {row.component: row for row in report.budget}
    first = one(report, "block.0.fc", "second_moment", "backward", "through")
    last = one(report, "block.2.act", "second_moment", "forward", "through")
    cell = rows[SUM].cells["log_gain_forward"]
    assert cell.predicted == pytest.approx(np.log(last.predicted))
    assert cell.measured == pytest.approx(np.mean(np.log(last.per_seed)))
    assert rows[SUM].cells["log_gain_backward"].measured == pytest.approx(np.mean(np.log(first.per_seed)))
    strain = rows[STRAIN].cells["log_gain_forward"].predicted
    assert strain == pytest.approx(6 * np.log(2))  # the gains cancel, the strain tells


def test_branches_are_listed_but_not_summed() -> None:
    parts = [
        Part("stem", width=512),
        Part("branch", width=512, gain=3.0, inputs=("stem",)),
        Part("add", "sum", 512, inputs=("stem", "branch")),
    ]
    budget = {row.component: row for row in report_of(parts).budget}
    assert not budget["branch"].chain and budget["add"].chain
    assert budget[SUM].cells["log_gain_forward"].predicted == pytest.approx(0)


def test_json_is_strict_and_comes_back() -> None:
    def spoil(draw: Draw) -> None:
        if draw.seed == 3:
            draw.outputs["block.1.fc"].second_moment[:] = inf
            draw.outputs["block.1.act"].second_moment[:] = nan
            draw.nonfinite += ["block.1.fc", "block.1.act"]

    report = report_of(STACK, spoil=spoil)
    text = json.dumps(report.to_dict(), allow_nan=False)
    data = json.loads(text, parse_constant=refuse)
    assert {"schema", "network", "device", "seeds", "levels", "coverage", "rows", "budget", "findings"} <= set(data)
    assert data["schema"] == 1
    row = data["rows"][0]
    keys = {"component", "kind", "quantity", "direction", "level", "view", "predicted", "measured", "standard_error",
            "median", "tolerance", "error", "slack", "assumptions", "verdict"}  # fmt: skip
    assert keys <= set(row)
    assert any(r["measured"] == "inf" for r in data["rows"])
    again = Report.from_dict(data)
    assert again.to_dict() == report.to_dict()
    assert again.exit_status == report.exit_status


@pytest.mark.parametrize(
    "data", [{}, [], {"schema": 2, "rows": []}, {"schema": 1, "rows": [{}]}, {"schema": 1, "rows": 3}]
)
def test_damaged_reports_are_refused(data: Any) -> None:
    with pytest.raises(ReportError):
        Report.from_dict(data)


def test_nan_is_a_finding_with_the_first_component_named() -> None:
    def spoil(draw: Draw) -> None:
        if draw.seed in (1, 2):
            for path in ("block.1.fc", "block.1.act", "block.2.fc"):
                draw.outputs[path].second_moment[:] = nan
                draw.nonfinite.append(path)

    report = report_of(STACK, spoil=spoil)
    (finding,) = (f for f in report.findings if f.kind == "nonfinite")
    assert finding.component == "block.1.fc" and "2 of 8" in finding.text
    assert report.exit_status == 1
    assert report.coverage.failed == ("block.1.fc", "block.1.act", "block.2.fc")
    assert report.coverage.components == len(STACK)


@pytest.mark.parametrize(
    ("low", "high", "status", "word"),
    [(0.5, 4.0, 0, ""), (3.0, None, 1, ">= 3"), (None, 0.5, 1, "<= 0.5"), (2.0, 4.0, 4, "too few seeds")],
)
def test_gates(low: float | None, high: float | None, status: int, word: str) -> None:
    gate = Gate("fc", "second_moment", "forward", low, high)
    report = report_of([Part("fc", gain=2.0, width=2048)], gates=(gate,))
    assert report.exit_status == status
    assert (not word) or word in report.findings[0].text


def test_gate_on_something_that_was_not_measured_is_a_doubt() -> None:
    gate = Gate("fc", "token_correlation", "forward", 0.0, 1.0)
    assert report_of([Part("fc", width=2048)], gates=(gate,)).exit_status == 4


def test_interrupted_runs_do_not_pass() -> None:
    report = report_of(STACK, seeds=5, interrupted=True, notes=("interrupted: 5 of 8 weight draws were finished",))
    assert report.exit_status == 4
    assert sum("interrupted" in f.text for f in report.findings) == 1


def test_first_component_where_the_signal_leaves_its_range() -> None:
    report = report_of([Part(f"fc{i}", width=2048, gain=0.05) for i in range(4)])
    (finding,) = (f for f in report.findings if f.kind == "range")
    assert finding.component == "fc2" and "vanishes" in finding.text
    assert [f.component for f in report_of([Part("fc", gain=1e10)]).findings if f.kind == "float16"] == ["fc"]


def test_a_gradient_that_a_pool_spreads_over_its_positions_has_not_vanished(tmp_path: Path) -> None:
    """Over P positions a mean leaves 1/P^2 of the power in each of them and 1/P in all: the pool's singular value."""

    def findings(side: int, gain: float) -> list[str | None]:
        spec = f"""
network: pooled
input: {{source: gaussian, channels: 8, positions: [{side}, {side}], batch: 16}}
body:
  - {{name: mixed, component: conv2d, filters: 8, kernel: 1, gain: {gain}}}
  - {{name: pool, component: global_avg_pool}}
"""
        file = tmp_path / "pooled.yaml"
        file.write_text(spec)
        report = lensnet.load(file).run(seeds=4)
        spread = one(report, "pool", "second_moment", "backward", "local").measured * side**4
        assert spread == pytest.approx(1, abs=5 * (2 / (8 * 16 * 4)) ** 0.5)
        return [f.component for f in report.findings if f.kind == "range" and "gradient" in f.text]

    assert findings(16, 1.0) == []
    assert findings(16, 0.1) == ["mixed"]
    assert findings(64, 1.0) == ["pool"]


def test_jump_of_the_invariant_across_a_homogeneous_component() -> None:
    parts = [Part("fc", width=512), Part("act", "relu", 512, homogeneous=True), Part("out", width=512)]
    assert not [f for f in report_of(parts).findings if f.kind == "invariant"]

    def spoil(draw: Draw) -> None:
        draw.invariant["act"] = 4.0

    (finding,) = (f for f in report_of(parts, spoil=spoil).findings if f.kind == "invariant")
    assert finding.component == "act"


def test_views_and_only_bad() -> None:
    report = report_of(alexnet())
    assert {row.view for row in report.seen("local").rows} == {"local"}
    assert set(report.seen("local").coverage.verdicts) == {"local"}
    bad = report.only_bad()
    assert bad.rows and all(row.verdict in ("deviates", "undecided", "out-of-regime") for row in bad.rows)
    assert bad.exit_status == report.exit_status


def test_seeds_wanted_is_for_undecided_rows_and_within_what_can_be_paid() -> None:
    report = report_of([Part("narrow", width=16), Part("wide", width=4096)])
    wanted = report.seeds_wanted
    assert wanted is not None and wanted > 8
    assert report.seeds_within(8) is None
    assert report.seeds_within(10**6) == wanted
    assert report_of(STACK).seeds_wanted is None


def test_same_seed_twice_is_refused() -> None:
    ensemble = Ensemble()
    ensemble.add(Draw(1))
    with pytest.raises(ValueError, match="seed 1"):
        ensemble.add(Draw(1))


def test_tolerance_is_the_users() -> None:
    parts = [Part("fc", width=8192, wrong=1.03)]
    assert report_of(parts).seen("local").exit_status == 0
    assert report_of(parts, settings=Settings(tolerance=0.005)).seen("local").exit_status == 1


def test_to_pandas_has_a_line_per_row() -> None:
    pandas = pytest.importorskip("pandas")
    report = report_of(STACK)
    frame = report.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == len(report.rows)
    assert {"component", "predicted", "measured", "verdict"} <= set(frame.columns)


def test_numbers_of_a_healthy_report_are_finite() -> None:
    for row in report_of(STACK).rows:
        for name in ("predicted", "measured", "standard_error", "median", "tolerance", "slack"):
            assert isfinite(getattr(row, name))


def test_mean_leak_is_the_growth_of_the_share_of_the_mean() -> None:
    parts = [Part("fc", width=8192), Part("act", "relu", 8192, 0.5, mean=0.5), Part("norm", width=8192)]
    rows = {row.component: row.cells["mean_leak"] for row in report_of(parts).budget}
    assert rows["act"].predicted == pytest.approx(0.25) and rows["norm"].predicted == pytest.approx(-0.25)
    assert rows["act"].measured == pytest.approx(0.25, abs=0.01)
    assert rows[SUM].predicted == pytest.approx(0) and rows[STRAIN].predicted == pytest.approx(0.5)
