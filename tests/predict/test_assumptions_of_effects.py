"""What one effect assumes is asked of that effect alone, forward and backward."""

from __future__ import annotations

import pytest

from lensnet.catalog.neighbours import components_of_file
from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.network.build import build_network
from lensnet.predict.moments.propagate import propagate
from lensnet.predicting import input_signal

OWN = """
network: own
input: {source: gaussian, channels: 32, mean: MEAN, batch: 4}
define:
  blend:
    ports: {in: [x], out: [y]}
    forward: 2*x
    effects:
      moments:
        mean: {formula: 2*m, assumes: [{check: abs(mean_batch(m)) < 0.5, text: the mean is small}]}
        second_moment: {formula: 4*q}
        backward_second_moment: {formula: 4*p, assumes: [{check: mean_batch(q) < 1.5, text: the signal is small}]}
body:
  - {name: blend, component: blend}
"""


@pytest.mark.parametrize(("mean", "outside"), [(0.0, set()), (0.6, {"mean"}), (1.0, {"mean", "backward"})])
def test_an_assumption_of_an_effect_concerns_that_effect(mean: float, outside: set[str]) -> None:
    spec, document = load_network_spec(Source("own.yaml", OWN.replace("MEAN", str(mean))))
    network = build_network(spec, document, components_of_file(spec, document).found)
    effects = [e for e in propagate(network, input_signal(network)).effects if e.component == "blend"]
    failed = {"backward" if e.direction == "backward" else e.quantity for e in effects if e.status == "out-of-regime"}
    assert failed == outside


def test_a_redunet_step_that_turns_a_common_mean_says_so() -> None:
    text = """
network: turned
input: {source: gaussian, channels: 32, mean: 1, batch: 48}
body:
  - {name: step, component: redunet_layer, classes: 3, eta: ETA}
"""
    for eta, status in ((0.5, "out-of-regime"), (0.002, "ok")):
        spec, document = load_network_spec(Source("net.yaml", text.replace("ETA", str(eta))))
        network = build_network(spec, document)
        effects = propagate(network, input_signal(network)).effects
        found = {e.quantity: e.status for e in effects if e.component == "step" and e.direction == "forward"}
        assert found["mean"] == status and found["second_moment"] == "ok"
