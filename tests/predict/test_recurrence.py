"""A gradient that comes back over a skip knows the sign of the signal that the skip carried."""

from __future__ import annotations

from math import atan, pi

import numpy as np
import pytest

from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.network.build import build_network
from lensnet.predict.moments.propagate import propagate
from lensnet.predicting import input_signal

SPEC = """
network: net
input: {source: gaussian, channels: 256, batch: 4}
body:
  - {name: w, component: linear, units: 256}
  - {name: a, component: relu}
  - name: add
    component: residual
    branch: [{component: linear, units: 256, gain: 1.4142135623730951}]
  - {name: b, component: relu}
  - {name: out, component: linear, units: 256}
"""


def test_two_rectifiers_over_a_skip_pass_together() -> None:
    """x > 0 and x + r > 0 for independent standard normal x and r happens with probability 3/8."""
    spec, document = load_network_spec(Source("net.yaml", SPEC))
    network = build_network(spec, document)
    prediction = propagate(network, input_signal(network))
    p = prediction.gradients
    over_skip = float(p["add", "skip"].mean())
    through_weights = float(p["add.linear", "x"].mean())
    together = 1 / 4 + atan(1.0) / (2 * pi)  # P(x > 0, x + r > 0), a quadrant of correlation 1/sqrt(2)
    assert together == pytest.approx(3 / 8)
    active = 1 / 4 + together  # P(relu(x) + r > 0)
    expected = 0.5 * through_weights + over_skip * together / active
    assert float(p["a", "x"].mean()) == pytest.approx(expected, rel=1e-6)


def test_without_a_second_activation_the_gradient_is_indifferent() -> None:
    spec, document = load_network_spec(Source("net.yaml", SPEC.replace("  - {name: b, component: relu}\n", "")))
    network = build_network(spec, document)
    p = propagate(network, input_signal(network)).gradients
    assert np.allclose(p["a", "x"], 0.5 * p["a.fork", "x"])
