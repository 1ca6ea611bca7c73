"""1/width corrections: the published recursions, their rates over five widths, and batches of several rows."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import lensnet
from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import pointwise, product
from lensnet.expressions.symbolic import X
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Signal
from lensnet.measure.ensemble import measure
from lensnet.measure.sources import load_batch
from lensnet.predict.engine import Descent, Source
from lensnet.predict.fluctuation.alignment import EQUAL, unrelated
from lensnet.predict.fluctuation.backward import Backward
from lensnet.predict.fluctuation.closeness import _sample
from lensnet.predict.fluctuation.forward import Forward
from lensnet.predict.fluctuation.pairs import ONE_ROW, pairs_of
from lensnet.predict.fluctuation.response import Sources
from lensnet.predict.moments.propagate import propagate
from lensnet.predicting import input_signal
from tests.fluctuation.draws import mean_and_error, normal

TANH = pointwise(sp.tanh(X), name="tanh")
GELU = pointwise(X * (1 + sp.erf(X / sp.sqrt(2))) / 2, name="gelu")


def network(tmp_path, width, body):
    file = tmp_path / f"net{width}.yaml"
    file.write_text(f"network: net\ninput: {{source: gaussian, channels: {width}, batch: 1}}\nbody:\n{body}")
    return lensnet.load(str(file)).network


def dense(width, name, gain=1.0):
    return f"  - {{name: {name}, component: linear, units: {width}, gain: {gain}}}\n"


def laws(net):
    """The law of ln Q over the infinite width, of every output, for one input of second moment 1."""
    one = np.ones(1)
    moments = propagate(net, Signal(0 * one, one), gradients=False)
    sources = Sources(2 + 3 * len(net))
    forward = Forward(net, moments.signals, lambda path: ONE_ROW, sources)
    return {path: sources.law(response, 1) for path, response in forward.responses.items()}


def second(function, v):
    return float(expect(function, 0.0, np.sqrt(v)).second_moment.value)


def test_mean_and_variance_of_a_tanh_network_follow_the_published_recursion(tmp_path):
    """Roberts, Yaida and Hanin 2022: V' = chi^2 V + E t^4 - (E t^2)^2, K1' = chi K1 + K'' V/2, per 1/width.

    At width 100,000 the higher orders are gone. V is the variance of the second moment of a layer's activations.
    """
    n, depth = 100_000, 6
    body = "".join(dense(n, f"d{i}") + f"  - {{name: t{i}, component: tanh}}\n" for i in range(depth))
    found = laws(network(tmp_path, n, body))
    k, variance, correction = 1.0, 0.0, 0.0
    fourth = product(TANH, TANH)
    for i in range(depth):
        h = 1e-3 * k
        low, here, high = second(TANH, k - h), second(TANH, k), second(TANH, k + h)
        chi, bend = (high - low) / (2 * h), (high - 2 * here + low) / h**2
        correction = chi * correction + bend * variance / 2
        variance = chi**2 * variance + second(fourth, k) - here**2
        k = here
        law = found[f"t{i}"]
        assert law.variance * n == pytest.approx(variance / k**2, rel=1e-3)
        assert (law.mean + law.variance / 2) * n == pytest.approx(correction / k, rel=2e-3, abs=2e-3)


WIDTHS = (16, 32, 64, 128, 256)


@pytest.mark.parametrize(("name", "function"), [("tanh", TANH), ("gelu", GELU)])
def test_what_the_corrections_leave_falls_as_one_over_width_squared(name, function, tmp_path):
    """A line, then an activation: v = chi^2_n/n exactly, so that mean and variance are one-dimensional integrals."""
    from scipy.stats import gamma

    fourth = product(function, function)
    errors = []
    for n in WIDTHS:
        found = laws(network(tmp_path, n, dense(n, "a") + dense(n, "b", 1.3) + f"  - {{name: f, component: {name}}}\n"))
        nodes, weights = np.polynomial.legendre.leggauss(400)
        p = (nodes + 1) / 2
        v = 1.69 * gamma.ppf(p, n / 2, scale=2 / n)
        m2 = expect(function, 0.0, np.sqrt(v)).second_moment.value
        m4 = expect(fourth, 0.0, np.sqrt(v)).second_moment.value
        weights = weights / 2
        mean = float(weights @ m2)
        relative_variance = float(weights @ (m2**2 + (m4 - m2**2) / n)) / mean**2 - 1
        law = found["f"]
        guess = law.mean_factor * second(function, 1.69)
        both = law.power(2.0)
        errors.append((abs(guess / mean - 1), abs(both.mean_factor / law.mean_factor**2 - 1 - relative_variance)))
    slopes, intercepts = np.polyfit(np.log(WIDTHS), np.log(errors), 1)
    assert np.all(slopes < -1.8), (slopes, errors)
    assert errors[-1][0] < 1e-3 / 16


def test_unrelated_gradients_turn_towards_each_other():
    """At the rate of a sample correlation (Fisher), and parallel ones stay parallel."""
    n, rng = 32, np.random.default_rng(0)
    draws = 8_000
    u = normal(rng, (draws, n, 2))
    state = unrelated(n)
    for _ in range(3):
        w = normal(rng, (draws, n, n))
        u = np.einsum("dij,djk->dik", w, u) / np.sqrt(n)
        state = state.mixed(n)
        s = (u[:, :, 0] * u[:, :, 1]).sum(1) ** 2 / ((u**2).sum(1)).prod(1)
        error = 4 * s.std() / np.sqrt(draws)
        assert s.mean() == pytest.approx(state.mean, abs=error + 1 / n**2)
        assert (s**2).mean() == pytest.approx(state.square, abs=4 * (s**2).std() / np.sqrt(draws) + 3 / n**2)
    assert EQUAL.mixed(n) == EQUAL


def test_pairs_count_every_row_of_the_batch():
    """Two examples of three positions, sampled at two: same example 2 of 5 others, another example 3 of 5."""
    gram = np.array([[1, 0.8, 0.2, 0.2], [0.8, 1, 0.2, 0.2], [0.2, 0.2, 1, 0.8], [0.2, 0.2, 0.8, 1]])
    pairs = pairs_of(gram, 2, 3, 2)
    assert pairs.rows == 6
    assert pairs.square() == pytest.approx((2 * 0.64 + 3 * 0.04) / 5)
    assert pairs.average(lambda c: c) == pytest.approx((2 * 0.8 + 3 * 0.2) / 5, abs=1e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_a_batch_scatters_as_its_rows_are_alike(correlation, tmp_path):
    """Pair factors (Cho and Saul 2009, degree 2) with the correlation map of the kernel level, forward and backward."""
    n, depth, seeds = 40, 5, 200
    file = tmp_path / "net.yaml"
    file.write_text(
        f"network: net\ninput: {{source: gaussian, channels: {n}, batch: 6, correlation: {correlation}}}\nbody:\n"
        f"  - repeat: {depth}\n    name: layer\n    body:\n"
        f"      - {{name: dense, component: linear, units: {n}, init: he}}\n      - {{name: relu, component: relu}}\n"
    )
    net = lensnet.load(str(file)).network
    batch = load_batch(net.input)
    source = Source(propagate(net, input_signal(net, batch)), batch.double().numpy())
    effects = {(e.component, e.port, e.quantity): e for e in Descent(net, source, (Level.FLUCTUATION,)).effects}
    values = {}

    def take(draw):
        for path, moments in draw.outputs.items():
            values.setdefault((path, None), []).append(moments.second_moment.mean())
        for key, gradient in draw.gradients.items():
            values.setdefault(key, []).append(gradient.mean())

    measure(net, batch, seeds, dtype="float64", on_seed=take, keep_seeds=False)
    for (path, port), numbers in values.items():
        if (path, port, "scatter") not in effects:
            continue
        scatter, median = effects[path, port, "scatter"], effects[path, port, "median"]
        assert scatter.status == "ok"
        logs = np.log(numbers)
        assert logs.std() == pytest.approx(scatter.value, rel=4 / np.sqrt(2 * seeds) + 2 / n), (path, port)
        allowed = 5 * scatter.value / np.sqrt(seeds) + median.error
        assert np.median(logs) == pytest.approx(np.log(median.value), abs=allowed), (path, port)


def test_slopes_of_a_smooth_activation_scatter_together_with_what_makes_them():
    """sum g_i^2 d(z_i)/|g|^2 of independent normal g and z has the variance 3 Var d/n, the length of z included; with
    the question and the layer below 2 + 3 Var d + 2."""
    n = 100_000
    body = f"- {{name: dense, component: linear, units: {n}, gain: 1.5}}\n  - {{name: act, component: tanh}}"
    found = backward_variances(f"  {body}\n", n)
    z = np.linspace(-10, 10, 200_001)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    d = (1 - np.tanh(1.5 * z) ** 2) ** 2
    spread = 3 * (weight @ d**2 / (weight @ d) ** 2 - 1)
    assert found["act", "x"] * n == pytest.approx(2 + spread, rel=2e-3)
    assert found["dense", "x"] * n == pytest.approx(4 + spread, rel=2e-3)


def backward_variances(body, n):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.yaml"
        file.write_text(f"network: net\ninput: {{source: gaussian, channels: {n}, batch: 1}}\nbody:\n{body}")
        net = lensnet.load(str(file)).network
    one = np.ones(1)
    moments = propagate(net, Signal(0 * one, one))
    sources = Sources(2 + sum(4 + len(node.ports) for node in net))
    forward = Forward(net, moments.signals, lambda path: ONE_ROW, sources)
    backward = Backward(net, forward, moments.gradients)
    return {key: sources.law(found.response, 1).variance for key, found in backward.responses.items()}


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_the_sample_correlation_of_activations(name, correlation):
    """ln(1 - r) over 300 neurons: its variance over 4,000 draws."""
    f = np.tanh if name == "tanh" else lambda z: np.maximum(z, 0)
    rng, n, draws = np.random.default_rng(0), 300, 4000
    z, w = normal(rng, (draws, n)), normal(rng, (draws, n))
    a, b = f(z), f(correlation * z + np.sqrt(1 - correlation**2) * w)
    logs = np.log(1 - (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)))
    variance, _ = _sample(f, correlation)
    assert n * logs.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / draws) + 3 / n)


def test_unrelated_rows_of_a_tanh_stack_scatter_together_by_what_chance_makes_them_alike(tmp_path):
    """Infinitely wide, the rows stay uncorrelated; at width 48 chance correlations carry a third of the variance."""
    n, depth, rows, draws = 48, 8, 8, 500
    file = tmp_path / "net.yaml"
    file.write_text(
        f"network: net\ninput: {{source: gaussian, channels: {n}, batch: {rows}}}\nbody:\n"
        f"  - repeat: {depth}\n    name: layer\n    body:\n"
        f"      - {{name: dense, component: linear, units: {n}}}\n      - {{name: act, component: tanh}}\n"
    )
    net = lensnet.load(str(file)).network
    batch = load_batch(net.input)
    source = Source(propagate(net, input_signal(net, batch)), batch.double().numpy())
    effects = {(e.component, e.port, e.quantity): e for e in Descent(net, source, (Level.FLUCTUATION,)).effects}
    rng = np.random.default_rng(0)
    outputs, gradients = [], []
    for _ in range(draws):
        x, layers = batch.double().numpy().T, []
        for _ in range(depth):
            w = normal(rng, (n, n)) / np.sqrt(n)
            x = np.tanh(w @ x)
            layers.append((w, 1 - x**2))
        outputs.append(np.log((x**2).mean()))
        g = normal(rng, x.shape)
        for w, slope in reversed(layers):
            g = w.T @ (slope * g)
        gradients.append(np.log((g**2).mean()))
    noise = 3 / np.sqrt(2 * draws)
    forward, backward = effects["layer.7.act", None, "scatter"].value, effects["layer.0.dense", "x", "scatter"].value
    assert np.std(outputs) == pytest.approx(forward, rel=0.07 + noise)
    assert np.std(gradients) == pytest.approx(backward, rel=0.1 + noise)


def test_the_mean_gradient_below_a_norm(tmp_path):
    """Divided by a power that scatters, orthogonal to the signal, with gates that let that power through: infinite
    width is a third too small at the sphere."""
    n, rows, draws = 32, 6, 3000
    layer = f"  - {{name: l%d, component: linear, units: {n}, init: he}}\n  - {{name: r%d, component: relu}}\n"
    file = tmp_path / "net.yaml"
    file.write_text(
        f"network: net\ninput: {{source: gaussian, channels: {n}, batch: {rows}, correlation: 0.3}}\nbody:\n"
        + "".join(layer % (i, i) for i in range(2))
        + f"  - {{name: project, component: linear, units: {n}}}\n  - {{name: sphere, component: sphere}}\n"
    )
    net = lensnet.load(str(file)).network
    batch = load_batch(net.input)
    source = Source(propagate(net, input_signal(net, batch)), batch.double().numpy())
    effects = {(e.component, e.port, e.quantity): e for e in Descent(net, source, (Level.FLUCTUATION,)).effects}
    rng, x = np.random.default_rng(0), batch.double().numpy().T
    w = normal(rng, (3, draws, n, n)) * np.sqrt([2 / n, 2 / n, 1 / n])[:, None, None, None]
    first = w[0] @ x
    second = w[1] @ np.maximum(first, 0)
    z = w[2] @ np.maximum(second, 0)
    length, r = np.linalg.norm(z, axis=1, keepdims=True), normal(rng, z.shape)
    g = (r - z * (z * r).sum(1, keepdims=True) / length**2) / length
    found = {"sphere": g}
    g = found["project"] = w[2].swapaxes(1, 2) @ g
    g = found["l1"] = w[1].swapaxes(1, 2) @ (g * (second > 0))
    found["l0"] = w[0].swapaxes(1, 2) @ (g * (first > 0))
    for path, gradient in found.items():
        mean, error = mean_and_error((gradient**2).mean((1, 2)))
        effect = effects[path, "x", "second_moment"]
        assert effect.value == pytest.approx(mean, rel=0.04 + 3 * error / mean), path
