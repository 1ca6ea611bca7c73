"""Down the ladder: which level is kept for a number, and what is said about the one that was not."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest

from lensnet.compare.climb import Explanation, climb, needs_descent
from lensnet.compare.report import Report
from lensnet.compare.row import Assumption, Row


def row(level: str, predicted: float, measured: float, verdict: Any, **changes: Any) -> Row:
    first = Row(
        "block.7", "residual", "second_moment", "forward", level, "through", predicted, measured, 0.01, measured, 0.1,
        measured / predicted - 1, 0.0, (), verdict,
    )  # fmt: skip
    return replace(first, **changes)


def report(*rows: Row) -> Report:
    return Report("made-up", rows=rows, levels=("moments", "kernel"))


def test_a_row_that_holds_stays_at_the_cheapest_level() -> None:
    given = report(row("moments", 1.0, 1.01, "agrees"), row("kernel", 1.01, 1.01, "agrees"))
    assert not needs_descent(given)
    kept = climb(given)
    assert [r.level for r in kept.rows] == ["moments"] and kept.levels == ("moments",) and not kept.findings


def test_the_level_below_is_taken_with_the_share_that_it_explains() -> None:
    above = row("moments", 1.0, 1.08, "deviates", assumptions=(Assumption("branches are uncorrelated", -0.4),))
    below = row("kernel", 1.075, 1.08, "agrees")
    kept = climb(report(above, below))
    assert kept.rows == (below,) and kept.levels == ("kernel",) and kept.exit_status == 0
    share = 1 - log(1.08 / 1.075) / log(1.08)
    assert Explanation(above, below).share == pytest.approx(share)
    (finding,) = kept.findings
    assert finding.severity == "note" and finding.component == "block.7"
    assert finding.text == (
        f"moments is 8.0% off at block.7 (second moment, forward, through); kernel explains {share:.0%} of it: "
        "it is not true that branches are uncorrelated"
    )


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_small_errors_that_add_up_along_the_way_do_not_send_down_but_a_large_one_does(direction: str) -> None:
    """A hundred layers of 1 % each are as coarse one level below; one formula of 20 % among them is not."""
    places = range(100) if direction == "forward" else range(99, -1, -1)
    rows = [
        row(
            "moments", 1.0, 1.01, "agrees", declared=0.01 * (place + 1), component=f"block.{place}", direction=direction
        )
        for place in places
    ]
    assert not needs_descent(report(*rows))
    jump = [replace(one, declared=one.declared + 0.2 * (one.declared > 0.5)) for one in rows]
    assert needs_descent(report(*jump))
    assert needs_descent(report(replace(rows[0], view="local", declared=0.2)))


def test_a_level_that_declares_more_error_than_allowed_is_passed_over() -> None:
    coarse = row("moments", 1.0, 1.01, "agrees", declared=0.2)
    fine = row("kernel", 1.01, 1.01, "agrees", declared=0.01)
    assert needs_descent(report(coarse))
    kept = climb(report(coarse, fine))
    assert kept.rows == (fine,)
    assert kept.findings[0].text == (
        "moments declares an error of 20.0% at block.7 (second moment, forward, through), more than the tolerance; "
        "kernel declares 1.0%"
    )
    assert climb(report(coarse, replace(fine, declared=0.3))).rows == (coarse,)


def test_a_level_that_explains_nothing_is_not_named() -> None:
    above, below = row("moments", 1.0, 2.0, "deviates"), row("kernel", 1.02, 2.0, "deviates")
    kept = climb(report(above, below))
    assert kept.rows == (above,) and not kept.findings


def test_where_nothing_agrees_the_closest_is_kept_and_still_deviates() -> None:
    kept = climb(report(row("moments", 1.0, 2.0, "deviates"), row("kernel", 1.6, 2.0, "deviates")))
    assert [r.level for r in kept.rows] == ["kernel"] and kept.exit_status == 1
    assert f"{1 - log(2 / 1.6) / log(2):.0%}" in kept.findings[0].text


def test_a_level_out_of_its_regime_is_no_explanation() -> None:
    above, below = row("moments", 1.0, 1.5, "deviates"), row("kernel", 1.5, 1.5, "out-of-regime")
    assert climb(report(above, below)).rows == (above,)


def test_quantities_of_the_lower_level_alone_are_not_part_of_the_answer() -> None:
    correlation = row("kernel", 0.5, 0.5, "agrees", quantity="correlation")
    kept = climb(report(row("moments", 1.0, 1.0, "agrees"), correlation))
    assert [r.quantity for r in kept.rows] == ["second_moment"]
