"""Pairs followed by displacement against every pair: exact where theory says so, elsewhere within the stated error."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lensnet.levels.classes import AveragedPairs, StationaryPairs
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import FullPairs
from lensnet.network.graph import Network
from lensnet.predict.engine import Source
from lensnet.predict.kernel.engine import followed
from lensnet.predict.kernel.propagate import propagate
from lensnet.predict.kernel.source import input_state
from lensnet.predict.kernel.stationary import input_by_class, propagate_by_class
from lensnet.predict.prediction import Prediction
from lensnet.quantities.rows import RowSample
from tests.kernel.networks import network, network_on


def images(size: int, batch: int = 3) -> np.ndarray:
    """Smooth images, brighter towards one side, on a background."""
    x = np.random.default_rng(0).standard_normal((batch, 3, size, size))
    for axis in (2, 3):
        x = sum(np.roll(x, shift, axis) for shift in range(-2, 3)) / 5**0.5
    return x * (1 + 0.5 * np.linspace(0, 1, size)) + 0.3


def stack(act: str, options: str, size: int, depth: int = 4, batch: int = 3) -> Network:
    layers = [
        line
        for i in range(depth)
        for line in (
            f"- {{name: c{i}, component: conv2d, filters: 64, kernel: 3, gain: sqrt(2), bias_std: 0.1, {options}}}",
            f"- {{name: r{i}, component: {act}}}",
        )
    ]
    layers += ["- {name: pool, component: global_avg_pool}", "- {name: head, component: linear, units: 10}"]
    return network("\n".join(layers), channels=3, batch=batch, positions=f"[{size}, {size}]")


def by_displacement(k: np.ndarray, examples: int, positions: tuple[int, ...]) -> np.ndarray:
    """Averages over equal displacements of a full pair field, by loops."""
    rows, columns = positions
    k = k.reshape(examples, rows, columns, examples, rows, columns)
    out = np.zeros((examples, examples, 2 * rows - 1, 2 * columns - 1))
    for dy in range(1 - rows, rows):
        for dx in range(1 - columns, columns):
            places = [
                (y, x) for y in range(rows) for x in range(columns) if 0 <= y + dy < rows and 0 <= x + dx < columns
            ]
            out[:, :, dy + rows - 1, dx + columns - 1] = np.mean(
                [k[:, y, x, :, y + dy, x + dx] for y, x in places], axis=0
            )
    return out


def test_the_autocovariance_of_a_batch_is_exact() -> None:
    x = images(5)
    net = stack("relu", "padding: 1", 5, 1)
    state, full = input_by_class(net, x, StationaryPairs(3, net.input.shape.positions)), input_state(net, x)
    np.testing.assert_allclose(state.pairs, by_displacement(full.pairs, 3, (5, 5)), atol=1e-12)
    np.testing.assert_allclose(state.second_moment, full.second_moment)


def test_a_stationary_signal_stays_exact_through_circular_convolutions_and_pools() -> None:
    """White noise in the average over draws: every pair is what its displacement says."""
    net = network(
        """
        - {name: c0, component: conv2d, filters: 8, kernel: 3, padding: 1, padding_mode: circular, bias_std: 0.4}
        - {name: r0, component: relu}
        - {name: c1, component: conv2d, filters: 8, kernel: 3, padding: 1, padding_mode: circular}
        - {name: r1, component: erf}
        - {name: p1, component: avg_pool2d, kernel: 2}
        - {name: head, component: global_avg_pool}
        """,
        channels=2,
        batch=2,
        positions="[6, 6]",
    )
    full = input_state(net, None, 2)
    given = StationaryPairs(2, (6, 6))
    pairs = by_displacement(full.pairs, 2, (6, 6))
    source = input_by_class(net, np.zeros((2, 2, 6, 6)), given)
    source = type(source)(full.mean, pairs, given, own=full.second_moment)
    exact, found = propagate(net, full), propagate_by_class(net, source)
    np.testing.assert_allclose(found.states["head"].pairs, exact.states["head"].pairs, rtol=1e-9)


@pytest.mark.parametrize("kind", [StationaryPairs, AveragedPairs])
@pytest.mark.parametrize(("act", "options"), [("relu", "padding: 1"), ("relu", "padding: 0"), ("gelu", "padding: 1")])
def test_images_within_the_stated_error(act: str, options: str, kind: type) -> None:
    net, x = stack(act, options, 12), images(12)
    exact, found = (
        propagate(net, input_state(net, x)),
        propagate_by_class(net, input_by_class(net, x, kind(3, net.input.shape.positions))),
    )
    for path in ("c0", "r0", "c2", "r3"):
        np.testing.assert_allclose(found.states[path].second_moment, exact.states[path].second_moment, rtol=1e-9)
    a, b = found.states["head"].pairs, exact.states["head"].pairs
    size = np.sqrt(np.outer(np.diag(b), np.diag(b)))
    assert np.max(np.abs(a - b) / size) < found.errors["head"]
    assert found.errors["head"] < (0.12 if kind is StationaryPairs else 0.23)


def test_four_convolutions_on_large_images_within_a_second() -> None:
    net, x = stack("relu", "padding: 1", 32, batch=4), images(32, 4)
    start = time.process_time()
    propagate_by_class(net, input_by_class(net, x, StationaryPairs(4, net.input.shape.positions)))
    assert time.process_time() - start < 1.0


def test_a_norm_behind_the_first_convolution_is_exact_place_by_place() -> None:
    """The length of a random filter on a few images scatters widely: against the integral over samples."""
    net = network(
        """
        - {name: c0, component: conv2d, filters: 32, kernel: 3, stride: 2, padding: 1, init: he}
        - {name: b0, component: batchnorm}
        - {name: r0, component: relu}
        - {name: p0, component: max_pool2d, kernel: 2}
        """,
        channels=3,
        batch=3,
        positions="[12, 12]",
    )
    x = images(12)
    full = propagate(net, input_state(net, x))
    source = input_by_class(net, x, StationaryPairs(3, (12, 12)))
    found = propagate_by_class(net, source, x)
    sample = RowSample(3, (0, 7, 30))
    np.testing.assert_allclose(
        found.states["c0"].rows_gram(sample), full.states["c0"].rows_gram(sample), rtol=1e-6, atol=1e-9
    )
    exact = full.states["b0"]
    np.testing.assert_allclose(found.states["b0"].second_moment, exact.second_moment, rtol=1e-6)
    for offset in ((0, 1), (1, 1), (-2, 1)):
        pairs = exact.pairs.reshape(3, 6, 6, 3, 6, 6)
        near = found.states["b0"].population.near.at(offset)[:, 2, 2]
        np.testing.assert_allclose(near, [pairs[e, 2, 2, e, 2 + offset[0], 2 + offset[1]] for e in range(3)], rtol=1e-6)
    np.testing.assert_allclose(found.states["p0"].second_moment, full.states["p0"].second_moment, rtol=0.02)
    sharp = propagate_by_class(net, source)
    size = exact.second_moment
    assert np.abs(sharp.states["b0"].second_moment / size - 1).max() > 0.05
    assert any("length" in c.text and c.margin < 0 for c in found.checks["b0"])


@pytest.mark.parametrize("layout", [StationaryPairs, AveragedPairs])
def test_maxima_of_exchangeable_positions(layout: type) -> None:
    """Tokens that are all alike but for noise: whichever class of pairs, a window is what it is pair by pair."""
    net = network(
        "- {name: r0, component: relu}\n- {name: p0, component: max_pool2d, kernel: 2}\n"
        "- {name: c1, component: conv2d, filters: 8, kernel: 1}\n- {name: g, component: global_avg_pool}",
        channels=4,
        batch=2,
        positions="[4, 4]",
    )
    given = FullPairs(2, (4, 4))
    same, there = given.same_example, given.same_place
    pairs = (0.4 + 0.6 * there) * (0.3 + 0.7 * same)
    mean = np.zeros(given.field_shape)
    full = propagate(net, Covariance(mean, pairs, given, Population("input", 4, np.inf, mean, pairs, given)))
    kept = layout(2, (4, 4))
    tables = np.array([[1.0, 0.3], [0.3, 1.0]]), np.array([[0.4, 0.12], [0.12, 0.4]])
    some = (
        np.stack(tables, axis=-1)
        if layout is AveragedPairs
        else (kept.same_place * tables[0][:, :, None, None] + (1 - kept.same_place) * tables[1][:, :, None, None])
    )
    own = np.ones(given.field_shape)
    state = Covariance(mean, some, kept, Population("input", 4, np.inf, mean, some, kept, own=own), own)
    found = propagate_by_class(net, state)
    np.testing.assert_allclose(found.states["p0"].second_moment, full.states["p0"].second_moment, rtol=5e-3)
    np.testing.assert_allclose(found.states["g"].pairs, full.states["g"].pairs, rtol=5e-3)


@pytest.mark.parametrize("heads", [1, 4])
def test_tokens_of_which_averages_are_known(heads: int) -> None:
    """Attention, residuals and norms over tokens that may be exchanged: second moments, and pairs of equal and of
    different tokens of two examples, against every pair (whose logits are sampled, to about 1 %); and random tokens,
    which are not all alike, within the stated error."""
    net = network(
        f"""
        - {{name: l0, component: linear, units: 64, gain: 1, bias_std: 0.5}}
        - name: mix
          component: residual
          branch:
            - {{component: layernorm}}
            - {{name: attention, component: attention, heads: {heads}, query_gain: 1.2}}
        - name: think
          component: residual
          branch:
            - {{component: layernorm}}
            - {{component: linear, units: 64, gain: sqrt(2)}}
            - {{component: relu}}
            - {{component: linear, units: 64}}
        - {{name: second, component: attention, heads: {heads}}}
        - {{name: mean, component: token_mean}}
        """,
        channels=48,
        batch=3,
        positions="[40]",
    )
    given, kept = FullPairs(3, (40,)), AveragedPairs(3, (40,))
    pairs = (0.3 + 0.7 * given.same_place) * (0.2 + 0.8 * given.same_example)
    mean = np.zeros(given.field_shape)
    full = propagate(net, Covariance(mean, pairs, given))
    tables = (0.2 + 0.8 * np.eye(3))[..., None] * np.array([1.0, 0.3])
    found = propagate_by_class(net, Covariance(mean, tables, kept, own=np.ones(given.field_shape)))
    assert not found.reasons
    for path in ("l0", "attention", "mix", "think", "second"):
        path = next(node.path for node in net if node.path.endswith(path))
        power, state = full.states[path].second_moment.mean(), found.states[path]
        np.testing.assert_allclose(state.second_moment.mean(), power, rtol=0.03)
        split = full.states[path].pairs.reshape(3, 40, 3, 40)
        same = np.einsum("apbp->ab", split) / 40
        different = (split.sum(axis=(1, 3)) - 40 * same) / (40 * 39)
        for place, wanted in enumerate((same, different)):
            for some in (np.eye(3, dtype=bool), ~np.eye(3, dtype=bool)):
                assert abs(state.pairs[some, place].mean() - wanted[some].mean()) < 0.03 * power, path
    assert abs(found.states["mean"].pairs.mean() / full.states["mean"].pairs.mean() - 1) < 0.03
    x = np.random.default_rng(1).standard_normal((3, 40, 48))
    full, found = propagate(net, input_state(net, x)), propagate_by_class(net, input_by_class(net, x, kept))
    for path, state in found.states.items():
        np.testing.assert_allclose(
            state.second_moment.mean(), full.states[path].second_moment.mean(), rtol=found.errors[path], err_msg=path
        )


def test_a_mask_and_a_maximum_are_no_averages() -> None:
    """What averages over positions cannot tell says so, and long texts are followed by averages all the same."""
    body = """
    - {name: e, component: embedding, units: 32}
    - {name: a, component: attention, heads: 2, causal: true}
    """
    source = "{source: tokens, length: 900, vocabulary: 50, batch: 4, distribution: uniform}"
    net = network_on(source, body)
    batch = np.random.default_rng(0).integers(0, 50, (4, 900)).astype(float)
    assert followed(net, Source(Prediction(), batch)) == (4, "averaged")
    state = input_by_class(net, batch, AveragedPairs(4, (900,)))
    equal = np.mean([batch[0, i] == batch[1, j] for i in range(900) for j in range(900) if i != j])
    np.testing.assert_allclose(state.pairs[0, 1], [(batch[0] == batch[1]).mean(), equal])
    found = propagate_by_class(net, state)
    assert any("exchanged" in check.text and check.margin == -1 for check in found.checks["a"])
