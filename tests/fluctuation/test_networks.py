"""The engine on whole networks: every predicted law against weight draws of the real thing."""

from __future__ import annotations

import numpy as np
import pytest

import lensnet
from lensnet.measure.ensemble import measure
from lensnet.measure.sources import load_batch
from lensnet.predict.engine import Source
from lensnet.predict.fluctuation.engine import FluctuationEngine
from lensnet.predict.moments.propagate import propagate
from lensnet.predicting import input_signal
from tests.fluctuation.draws import forward

DENSE = "- {name: dense, component: linear, units: width, %s}\n      "


def spec(tmp_path, body, width, depth, extra=""):
    file = tmp_path / "net.yaml"
    file.write_text(
        f"network: net\nconstants: {{width: {width}, depth: {depth}}}\n"
        f"input: {{source: gaussian, channels: width, batch: 1}}\n"
        f"body:\n  - repeat: depth\n    name: layer\n    body:\n      {body}\n{extra}"
    )
    return lensnet.load(str(file)).network


def predicted(network, batch):
    """(component, port, quantity) -> effect, for a batch of one."""
    signal = input_signal(network, batch)
    source = Source(propagate(network, signal), batch.double().numpy())
    effects = FluctuationEngine().through(network, source, {}).effects
    return {(e.component, e.port, e.quantity): e for e in effects}


def drawn(network, batch, seeds):
    """(component, port) -> one second moment per weight draw."""
    out = {}

    def take(draw):
        for path, moments in draw.outputs.items():
            out.setdefault((path, None), []).append(moments.second_moment.mean())
        for key, gradient in draw.gradients.items():
            out.setdefault(key, []).append(gradient.mean())

    measure(network, batch, seeds, dtype="float64", on_seed=take, keep_seeds=False)
    return {key: np.array(values) for key, values in out.items()}


NETWORKS = {
    "relu": (DENSE % "init: he" + "- {name: act, component: relu}", 24, 5),
    "linear": (DENSE % "gain: 1" + "- {name: act, component: identity}", 24, 5),
    "tanh": (DENSE % "gain: 1.3, bias_std: 0.2" + "- {name: act, component: tanh}", 40, 5),
    "gelu": (DENSE % "gain: 1.5, bias_std: 0.3" + "- {name: act, component: gelu}", 48, 3),
    "leaky": (DENSE % "gain: 1.3" + "- {name: act, component: leaky_relu, slope: 0.2}", 24, 4),
    "uniform": (DENSE % "init: uniform, gain: sqrt(2)" + "- {name: act, component: relu}", 16, 4),
    "orthogonal": (DENSE % "init: orthogonal, gain: sqrt(2)" + "- {name: act, component: relu}", 24, 4),
    "truncated": (DENSE % "init: truncated_normal, gain: sqrt(2)" + "- {name: act, component: relu}", 12, 3),
    "dropout": (DENSE % "init: he" + "- {name: act, component: relu}\n      - {component: dropout, rate: 0.3}", 96, 2),
    "normed": (DENSE % "init: he" + "- {component: layernorm}\n      - {name: act, component: relu}", 32, 3),
    "residual": (
        "- {name: add, component: residual, branch_scale: 0.7, branch: [{component: linear, units: width, gain: 1.4},"
        " {component: relu}, {component: linear, units: width}]}",
        40,
        4,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_scatter_and_typical_value_of_every_component(name, tmp_path):
    body, width, depth = NETWORKS[name]
    network = spec(tmp_path, body, width, depth)
    batch = load_batch(network.input)
    seeds = 300
    effects, draws = predicted(network, batch), drawn(network, batch, seeds)
    checked = 0
    for (path, port), values in draws.items():
        if (path, port, "scatter") not in effects:
            continue
        logs = np.log(values)
        scatter, median = effects[path, port, "scatter"].value, effects[path, port, "median"]
        if scatter < 1e-3:
            assert logs.std() < 5e-3, (path, port)
            continue
        checked += 1
        # four standard errors of a sample's deviation, and the next order in 1/width
        assert logs.std() == pytest.approx(scatter, rel=4 / np.sqrt(2 * seeds) + 2 / width), (path, port)
        error = 4 * 1.25 * scatter / np.sqrt(seeds) + 2 * scatter / width
        assert np.log(np.median(values)) == pytest.approx(np.log(median.value), abs=error), (path, port)
        inside = np.mean((values > median.band[0]) & (values < median.band[1]))
        assert inside == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / seeds) + 0.01), (path, port)
    assert checked > 5


def test_heavy_tails_at_depth_100():
    """Width 64, depth 100: 85 to 95 % of 200 draws lie in the predicted band, and their median where it is predicted.

    The mean of the same draws is nowhere near its expectation most of the time.
    """
    network = lensnet.load("heavy_tails", ["input.batch=1"]).network
    batch = load_batch(network.input)
    effects = predicted(network, batch)
    inputs = batch.double().numpy().T
    inputs *= 8 / np.linalg.norm(inputs)
    layers = forward(200, [64] * 101, lambda h: np.maximum(h, 0), np.sqrt(2), inputs=inputs, seed=3)
    size = float((batch.double() ** 2).mean())
    for depth in (10, 50, 100):
        values = (layers[depth - 1] ** 2).mean((1, 2)) * size
        median, scatter = (effects[f"layer.{depth - 1}.relu", None, q] for q in ("median", "scatter"))
        inside = np.mean((values > median.band[0]) & (values < median.band[1]))
        assert 0.85 <= inside <= 0.95
        error = 1.25 * scatter.value / np.sqrt(values.size)
        assert np.log(np.median(values)) == pytest.approx(np.log(median.value), abs=3 * error)
        assert np.std(np.log(values)) == pytest.approx(scatter.value, rel=3 / np.sqrt(2 * values.size))


def test_typical_value_at_depth_100_within_fifteen_per_cent():
    """The law of the engine against exact sums of independent factors: 60,000 draws of 100 chi-square factors."""
    network = lensnet.load("heavy_tails", ["input.batch=1"]).network
    batch = load_batch(network.input)
    effects = predicted(network, batch)
    rng = np.random.default_rng(0)
    logs = np.full(60_000, np.log(float((batch.double() ** 2).mean())))
    for _ in range(100):
        logs += np.log(2 / 64 * rng.chisquare(rng.binomial(64, 0.5, logs.size)))
    found = effects["layer.99.relu", None, "median"]
    assert found.value == pytest.approx(np.exp(np.median(logs)), rel=0.02)
    assert np.log(found.band) == pytest.approx(np.quantile(logs, [0.05, 0.95]), abs=0.03)


def test_where_chance_decides_the_linear_response_says_so():
    """Bistable: the elasticity of the whole way changes sign of its growth within one standard deviation."""
    network = lensnet.load("bistable_gelu", ["input.batch=1"]).network
    effects = predicted(network, load_batch(network.input))
    early, late = effects["layer.3.dense", None, "scatter"], effects["layer.25.dense", None, "scatter"]
    assert early.status == "ok"
    assert late.status == "out-of-regime"
    assert any("respond linearly" in check.text and check.margin < 0 for check in late.checks)


def test_a_layer_that_may_be_dead_is_told(tmp_path):
    network = spec(tmp_path, DENSE % "init: he" + "- {name: act, component: relu}", 6, 1)
    effects = predicted(network, load_batch(network.input))
    checks = effects["layer.0.act", None, "median"].checks
    assert any("dead in 1.6% of the draws" in check.text for check in checks)
