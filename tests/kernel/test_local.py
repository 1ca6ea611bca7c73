"""Local rows at the kernel level: what the sampled rows and the gradient from above may be taken for."""

from __future__ import annotations

from lensnet.levels.ladder import Level
from lensnet.predict.kernel.backward import slopes_met_again
from lensnet.run import run
from tests.kernel.networks import network

STAGE = """
- {name: dense, component: linear, units: 96, init: he}
- {name: first, component: relu}
- name: add
  component: residual
  branch:
    - {name: inner, component: linear, units: 96, init: he}
    - {name: middle, component: relu}
    - {name: outer, component: linear, units: 96}
- {name: last, component: relu}
"""


def test_a_gradient_that_has_met_the_same_signal_is_told() -> None:
    """Behind a skip the next rectifier opens where this one did: the power that comes back is more than half."""
    net = network(STAGE, 64, 6)
    assert [slopes_met_again(net, path) for path in ("first", "add.middle", "last")] == [True, False, False]
    report = run(net, 30, levels=(Level.MOMENTS, Level.KERNEL), most_seeds=30)
    rows = {
        (row.component, row.quantity): row
        for row in report.rows
        if row.view == "local" and row.level == "kernel" and row.direction == "backward"
    }
    row = rows["first", "correlation"]
    assert row.verdict == "out-of-regime"
    assert row.measured is not None and row.measured > row.predicted + 3 * row.standard_error
    assert rows["add.middle", "correlation"].verdict == "agrees"
