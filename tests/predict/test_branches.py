"""What meets must be told apart from what is independent: cross moments forward and backward."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest

from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.network.build import build_network
from lensnet.network.graph import Network
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Prediction
from lensnet.predicting import input_signal

HEAD = "network: net\ninput: {source: gaussian, channels: 256, batch: 4}\nbody:\n"
DENSE = "  - {name: w, component: linear, units: 256}\n"


def predict(body: str) -> tuple[Network, Prediction]:
    spec, document = load_network_spec(Source("net.yaml", HEAD + body))
    network = build_network(spec, document)
    return network, propagate(network, input_signal(network))


def output(body: str) -> float:
    network, prediction = predict(body)
    return float(prediction.signals[network.nodes[-1].path].second_moment.mean())


def status(body: str) -> set[str]:
    network, prediction = predict(body)
    return {e.status for e in prediction.effects if e.component == network.nodes[-1].path and e.direction == "forward"}


def test_x_plus_x_through_one_dense_layer_is_four_times_the_power() -> None:
    assert output(DENSE + "  - {name: s, component: sum, from: [w, w]}\n") == pytest.approx(4.0)


def test_two_dense_layers_of_one_input_add_powers() -> None:
    other = "  - {name: u, component: linear, units: 256, from: input}\n"
    assert output(DENSE + other + "  - {name: s, component: sum, from: [w, u]}\n") == pytest.approx(2.0)


def test_x_plus_relu_of_x_without_weights_between() -> None:
    # E (x + relu x)^2 = 1 + 1/2 + 2*E x relu(x) = 1 + 1/2 + 1
    assert output(DENSE + "  - {name: r, component: residual, branch: [{component: relu}]}\n") == pytest.approx(2.5)


def test_x_plus_relu_of_a_fresh_dense_layer() -> None:
    branch = "[{component: linear, units: 256}, {component: relu}]"
    assert output(DENSE + f"  - {{name: r, component: residual, branch: {branch}}}\n") == pytest.approx(1.5)


def test_a_signal_and_its_scaled_and_normalised_copies_interfere() -> None:
    branch = "[{component: scale, factor: -0.5}]"
    assert output(DENSE + f"  - {{name: r, component: residual, branch: {branch}}}\n") == pytest.approx(0.25)
    network, prediction = predict(DENSE + "  - {name: r, component: residual, branch: [{component: layernorm}]}\n")
    assert float(prediction.signals["r"].second_moment.mean()) == pytest.approx(4.0, rel=0.02)


def test_two_activations_of_one_signal() -> None:
    # E (relu x + |x|)^2 = 1/2 + 1 + 2*E relu(x)|x| = 1/2 + 1 + 1
    body = DENSE + "  - {name: a, component: relu, from: w}\n  - {name: b, component: abs, from: w}\n"
    assert output(body + "  - {name: s, component: sum, from: [a, b]}\n") == pytest.approx(2.5)


def test_a_long_skip_remembers_through_every_block() -> None:
    """x0 joined again after blocks x + W relu(x): every branch is fresh, so Cov(x_l, x0) = Var x0."""
    block = "[{component: relu}, {component: linear, units: 256, gain: 1.4142135623730951}]"
    body = (
        DENSE
        + "  - repeat: 60\n    name: b\n    body:\n      - {name: add, component: residual, branch: "
        + block
        + "}\n"
    )
    network, prediction = predict(body + "  - {name: s, component: sum, from: [w, b]}\n")
    grown = float(prediction.signals["b.59.add"].second_moment.mean())
    assert grown == pytest.approx(2.0**60)
    assert float(prediction.signals["s"].second_moment.mean()) == pytest.approx(grown + 1 + 2)


def test_what_no_rule_reaches_is_flagged_and_never_taken_as_independent() -> None:
    body = DENSE + "  - {name: sm, component: softmax, from: w}\n  - {name: s, component: sum, from: [w, sm]}\n"
    assert status(body) == {"out-of-regime"}


def test_dropout_after_relu_needs_the_mean() -> None:
    body = DENSE + "  - {component: relu}\n  - {name: d, component: dropout, rate: 0.5}\n"
    network, prediction = predict(body)
    signal = prediction.signals["d"]
    assert float(signal.variance.mean()) == pytest.approx(1 - 1 / (2 * pi), rel=1e-9)  # 0.841, not 0.682


def test_relu_of_relu_is_relu() -> None:
    assert output(DENSE + "  - {component: relu}\n  - {component: relu}\n") == pytest.approx(0.5)


def test_gradients_of_one_value_used_twice_add_as_amplitudes() -> None:
    network, prediction = predict(DENSE + "  - {name: s, component: sum, from: [w, w]}\n")
    assert prediction.gradients["w.fork", "x"].mean() == pytest.approx(4.0)


def test_gradients_through_fresh_weights_add_as_powers() -> None:
    branch = "[{component: linear, units: 256, gain: 0.5}]"
    network, prediction = predict(DENSE + f"  - {{name: r, component: residual, branch: {branch}}}\n")
    assert prediction.gradients["w.fork", "x"].mean() == pytest.approx(1.25)


def test_gradient_of_x_plus_relu_x() -> None:
    # (1 + relu'(x))^2 is 4 or 1 with probability 1/2 each
    network, prediction = predict(DENSE + "  - {name: r, component: residual, branch: [{component: relu}]}\n")
    assert prediction.gradients["w.fork", "x"].mean() == pytest.approx(2.5)


def test_gradient_of_two_activations_of_one_signal() -> None:
    # relu' + |.|' is 2 for x > 0 and -1 for x < 0
    body = DENSE + "  - {name: a, component: relu, from: w}\n  - {name: b, component: abs, from: w}\n"
    network, prediction = predict(body + "  - {name: s, component: sum, from: [a, b]}\n")
    assert prediction.gradients["w.fork", "x"].mean() == pytest.approx(2.5)


def test_prediction_grows_linearly_with_depth_in_operations() -> None:
    """The work of a stack is counted in expectations taken, which must not depend on what stands above."""
    items = "      - {component: linear, units: 64}\n      - {component: tanh}\n"
    counts = []
    for depth in (10, 20, 40):
        network, prediction = predict(f"  - repeat: {depth}\n    name: l\n    body:\n{items}")
        laws = {id(s.law): s.law for s in prediction.signals.values() if s.law is not None}
        counts.append(sum(len(law.expectations) for law in laws.values()))
    first, second = np.diff(counts)
    assert first >= 10 and second == 2 * first
