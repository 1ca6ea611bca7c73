"""A norm behind weights that all channels share: tokens of unequal size, so that the mean of 1/v is not 1/(mean v)."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.network.build import build_network
from lensnet.network.graph import Network
from lensnet.predict.moments.propagate import propagate
from lensnet.predicting import input_signal
from lensnet.run import run

# 12 tokens that are mixed by one matrix for all 96 channels: the more alike they are, the more unequal they come out.
TEXT = """
network: mixed
input: {source: gaussian, channels: 96, positions: [12], position_correlation: 0.8, batch: 4}
body:
  - {name: turn, component: transpose}
  - {name: mix, component: linear, units: 12}
  - {name: back, component: transpose}
  - {name: norm, component: NORM}
  - {name: head, component: linear, units: 96}
"""


def network(norm: str) -> Network:
    spec, document = load_network_spec(Source("net.yaml", TEXT.replace("NORM", norm)))
    return build_network(spec, document)


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_the_gradient_sees_the_average_of_the_reciprocal(norm: str) -> None:
    report = run(network(norm), 24, most_seeds=24, device="cpu")
    rows = {
        r.view: r
        for r in report.rows
        if r.component == "norm" and r.direction == "backward" and r.quantity != "invariant"
    }
    for row in rows.values():
        assert row.predicted is not None and row.measured is not None and row.standard_error is not None
        assert abs(row.predicted - row.measured) < 0.06 * row.measured + 3 * row.standard_error, row.view
    # what the size of the average token says is far too little: variances v with E v E 1/v well above 1
    signal = report_input(norm)
    assert rows["through"].measured > 1.5 / signal


def report_input(norm: str) -> float:
    net = network(norm)
    return float(np.mean(propagate(net, input_signal(net)).signals["back"].second_moment))


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_without_a_measurement_the_row_says_what_is_missing(norm: str) -> None:
    net = network(norm)
    effect = next(
        e for e in propagate(net, input_signal(net)).effects if e.component == "norm" and e.direction == "backward"
    )
    assert effect.status == "out-of-regime"
    assert any("gradient token" in check.text for check in effect.checks)
