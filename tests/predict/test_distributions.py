"""What is no Gaussian pushed through functions: a coordinate of a sphere, and a pushforward plus a Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.pointwise import PointwiseFunction, pointwise
from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.levels.signal import Law
from lensnet.network.build import build_network
from lensnet.predict.moments.distributions import OnSphere, WithGaussian
from lensnet.predict.moments.propagate import propagate
from lensnet.predict.prediction import Prediction
from lensnet.predicting import input_signal

X = sp.Symbol("x", real=True)
RELU = pointwise(sp.Max(X, 0), name="relu")
TANH = pointwise(sp.tanh(X), name="tanh")


def sphere(dimension: float, mean: float = 0.0, variance: float = 1.0) -> OnSphere:
    known = OnSphere.of(np.array([mean]), np.array([variance]), dimension / (dimension - 2), 1e9)
    assert known is not None
    assert known.dimension == pytest.approx(dimension)
    return known


@pytest.mark.parametrize(("function", "mean"), [(RELU, 0.0), (RELU, 0.7), (TANH, -0.4)])
def test_in_three_dimensions_a_coordinate_is_uniform(function: PointwiseFunction, mean: float) -> None:
    """Archimedes: the area of a slice of a sphere depends on its thickness alone."""
    u = mean + np.sqrt(3) * (2 * (np.arange(200_000) + 0.5) / 200_000 - 1)
    found = sphere(3, mean).averages(function)
    assert found.mean.value[0] == pytest.approx(np.mean(function(u)), rel=1e-6)
    assert found.second_moment.value[0] == pytest.approx(np.mean(function(u) ** 2), rel=1e-6)
    assert found.slope_second_moment.value[0] == pytest.approx(np.mean(function.derivative(u) ** 2), rel=1e-5)


def test_many_dimensions_are_a_gaussian_and_few_have_no_tails() -> None:
    gaussian = 1 / np.sqrt(2 * np.pi)
    assert sphere(1e6).averages(RELU).mean.value[0] == pytest.approx(gaussian, rel=1e-5)
    # E|t| of n dimensions: 1/(4n) above that of a Gaussian of the same variance, to first order
    assert sphere(100).averages(RELU).mean.value[0] == pytest.approx(gaussian * (1 + 1 / 400), rel=1e-4)
    assert OnSphere.of(np.zeros(1), np.ones(1), 1.0, 1e9) is None


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0, 3.0])
def test_a_channel_over_its_own_spread(decay: float) -> None:
    """Samples with a steep spectrum, Gaussian weights, every channel divided by its own root mean square."""
    rng = np.random.default_rng(5)
    power = np.arange(1, 41.0) ** -decay
    samples = rng.standard_normal((300, 40)) * np.sqrt(power / power.sum())
    values = rng.standard_normal((6000, 40)) @ samples.T
    spread = np.mean(values**2, axis=1)
    normalised = values / np.sqrt(spread)[:, None]
    second = np.mean(normalised**2, axis=0)
    known = OnSphere.of(np.zeros_like(second), second, np.mean(spread) * np.mean(1 / spread), 1e9)
    assert known is not None
    per_channel = np.maximum(normalised, 0).mean(axis=1)
    predicted, measured = known.averages(RELU).mean.value.mean(), per_channel.mean()
    error = per_channel.std() / np.sqrt(len(per_channel))
    assert abs(predicted / measured - 1) < 0.01 + 3 * error / measured
    if decay >= 2:  # and a Gaussian would not do
        assert np.sqrt(second).mean() / np.sqrt(2 * np.pi) < measured * 0.985 - 3 * error


@pytest.mark.parametrize(
    ("mean", "std", "added", "blur"), [(0.0, 1.0, 0.0, 1.0), (-0.5, 2.0, 0.3, 0.5), (1.0, 0.3, -1, 2)]
)
def test_a_rectified_signal_plus_a_gaussian(mean: float, std: float, added: float, blur: float) -> None:
    law = Law(np.array([mean]), np.array([std**2]), np.inf, "", (RELU,))
    known = WithGaussian(np.inf, law, 0.8, np.array([added]), np.array([blur**2]), "", 1.0)
    # independent check: a fine grid in both variables, midpoints on both sides of the kink
    z, r = (np.linspace(-9, 9, 3001)[:-1] + 0.003 for _ in range(2))
    weight = np.exp(-(z[:, None] ** 2 + r[None] ** 2) / 2)
    weight /= weight.sum()
    x = 0.8 * np.maximum(mean + std * z, 0)[:, None] + added + blur * r[None]
    found = known.averages(RELU)
    assert found.mean.value[0] == pytest.approx(np.sum(weight * np.maximum(x, 0)), rel=1e-4)
    assert found.second_moment.value[0] == pytest.approx(np.sum(weight * np.maximum(x, 0) ** 2), rel=1e-4)
    assert found.slope_second_moment.value[0] == pytest.approx(np.sum(weight * (x > 0)), rel=2e-3)
    assert found.mean.error[0] < 1e-5


def predict(body: str) -> Prediction:
    head = "network: net\ninput: {source: gaussian, channels: 256, batch: 4}\nbody:\n"
    spec, document = load_network_spec(Source("net.yaml", head + body))
    network = build_network(spec, document)
    return propagate(network, input_signal(network))


SKIP = "  - {name: w, component: linear, units: 256}\n  - {name: r, component: relu}\n"


def test_a_rectifier_behind_a_rectified_skip_and_a_fresh_branch_holds() -> None:
    branch = "  - {name: s, component: residual, branch: [{component: linear, units: 256}]}\n"
    out = predict(SKIP + branch + "  - {name: h, component: relu}\n")
    assert {effect.status for effect in out.effects if effect.component == "h"} == {"ok"}
    rng = np.random.default_rng(0)
    u = np.maximum(rng.standard_normal(2_000_000), 0) + np.sqrt(0.5) * rng.standard_normal(2_000_000)
    signal = out.signals["h"]
    assert signal.mean.mean() == pytest.approx(np.maximum(u, 0).mean(), rel=3e-3)
    assert signal.second_moment.mean() == pytest.approx((np.maximum(u, 0) ** 2).mean(), rel=5e-3)


def test_what_is_uncorrelated_is_not_taken_as_independent() -> None:
    """x and abs(x) are uncorrelated, but x + abs(x) is no sum of independent parts."""
    body = (
        "  - {name: w, component: linear, units: 256}\n  - {name: s, component: residual, branch: [{component: abs}]}\n"
    )
    out = predict(body + "  - {name: h, component: relu}\n")
    assert out.signals["s"].distribution is None
    assert "out-of-regime" in {effect.status for effect in out.effects if effect.component == "h"}


def test_an_affine_function_needs_no_law() -> None:
    body = (
        "  - {name: w, component: linear, units: 256}\n  - {name: s, component: residual, branch: [{component: abs}]}\n"
    )
    out = predict(body + "  - {name: h, component: identity}\n")
    assert {effect.status for effect in out.effects if effect.component == "h"} == {"ok"}
