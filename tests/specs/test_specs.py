"""The bundled networks: complete, explained, and right about what they say of themselves."""

import math

import numpy as np
import pytest

import lensnet
from lensnet.catalog.locate import bundled_specs

PROMISED = {
    "alexnet", "alexnet_he", "lenet5", "vgg11", "resnet18", "residual_mlp", "transformer_prenorm",
    "transformer_postnorm", "gpt2_small", "vit_small", "mlp_mixer", "tanh_ordered", "tanh_critical", "tanh_chaotic",
    "bistable_gelu", "autoencoder", "x_plus_x", "heavy_tails",
}  # fmt: skip


def test_the_promised_networks_are_there():
    assert PROMISED <= set(bundled_specs())


@pytest.mark.parametrize("name", sorted(bundled_specs()))
def test_every_network_is_built_and_explained(name):
    network = lensnet.load(name).network
    assert network.name.replace("-", "_") == name
    assert len(network.about) > 200, "an about says what to look at"
    assert bundled_specs()[name].read_text().startswith("# yaml-language-server: $schema=./lensnet-spec.schema.json\n")


def parameters(name):
    """Weights and biases of a network, counted from its weight laws and shapes."""
    total = 0
    for node in lensnet.load(name).network:
        for law in node.weights.values():
            channels = node.shape.channels
            if node.kind == "embedding":
                total += node.parameters["vocabulary"] * channels
            elif node.kind in ("linear", "conv2d", "patch_embedding"):
                total += law.fan_in * channels + channels * law.has_bias
    return total


def test_alexnet_has_the_published_number_of_parameters():
    assert parameters("alexnet") == pytest.approx(60.9e6, rel=0.01)


def test_alexnet_shapes_are_the_published_ones():
    network = lensnet.load("alexnet").network
    sizes = {path: str(network[path].shape) for path in ("features.conv1", "features.conv2", "features.pool5")}
    assert sizes == {"features.conv1": "96 @ 55x55", "features.conv2": "256 @ 27x27", "features.pool5": "256 @ 6x6"}


def predicted(name, *overrides):
    """Forward and backward second moments by path, from formulas alone."""
    report = lensnet.load(name, overrides).predict()
    forward = {
        r.component: r.predicted for r in report.rows if r.quantity == "second_moment" and r.direction == "forward"
    }
    backward = {r.component: r.predicted for r in report.rows if r.direction == "backward"}
    return forward, backward


def test_he_initialised_conv1_doubles_and_the_published_one_does_not():
    forward, _ = predicted("alexnet")
    assert forward["features.conv1"] == pytest.approx(363e-4, rel=0.08), "photographs are not white noise"


PHASES = [("ordered", 0.8489, 0.2742), ("critical", 1.0, 0.5700), ("chaotic", 1.3424, 2.1955)]


@pytest.mark.parametrize(("name", "chi", "fixed"), PHASES)
def test_the_three_phases(name, chi, fixed):
    forward, backward = predicted(f"tanh_{name}")
    assert forward["layer.19.dense"] == pytest.approx(fixed, rel=1e-3)
    slopes = [backward[f"layer.{i}.tanh"] / backward[f"layer.{i + 1}.tanh"] for i in range(10, 18)]
    assert slopes == pytest.approx([chi] * 8, rel=2e-3)


def test_the_residual_net_grows_to_e():
    for depth in (4, 12, 48):
        forward, backward = predicted("residual_mlp", f"constants.depth={depth}")
        growth = forward[f"block.{depth - 1}.add"] / forward["stem"]
        assert growth == pytest.approx((1 + 1 / depth) ** depth, rel=1e-9)
        assert growth < math.e


def test_the_trap():
    forward, _ = predicted("x_plus_x")
    assert forward["doubled"] / forward["dense"] == pytest.approx(4, rel=1e-9)
    assert forward["folded"] / forward["mixed"] == pytest.approx(2.5, rel=1e-6)
    assert forward["fresh"] / forward["remixed"] == pytest.approx(1.5, rel=1e-6)


def test_heavy_tails_end_where_the_mean_is_never_seen():
    report = lensnet.load("heavy_tails").predict(level="fluctuation")
    last = {row.quantity: row for row in report.rows if row.component == "layer.99.relu" and row.direction == "forward"}
    assert last["median"].predicted == pytest.approx(0.024, rel=0.05)
    assert last["median"].band == pytest.approx((0.00024, 2.24), rel=0.05)
    assert last["scatter"].predicted == pytest.approx(2.78, rel=0.02)
    assert not any(a.fails for a in last["median"].assumptions)
    wide = lensnet.load("heavy_tails", ["constants.width=1024", "input.batch=1"]).predict(level="fluctuation")
    assert max(row.predicted for row in wide.rows if row.quantity == "scatter" and row.direction == "forward") < 0.75


def test_bistable_gelu_ends_where_mean_field_says():
    forward, _ = predicted("bistable_gelu")
    assert forward["layer.29.dense"] == pytest.approx(0.0245, rel=0.2)


@pytest.mark.parametrize("name", ["x_plus_x", "tanh_critical", "residual_mlp"])
def test_local_rows_agree_with_the_measurement(name):
    report = lensnet.load(name, ["constants.width=256"]).run(seeds=6, most_seeds=6)
    local = [row for row in report.rows if row.view == "local" and row.predicted is not None]
    assert local
    assert not [row for row in local if row.verdict in ("deviates", "out-of-regime")]
    assert np.mean([row.verdict == "agrees" for row in local]) > 0.9
