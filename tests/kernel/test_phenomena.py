"""What the kernel level is for: collapse, its laws and where they are wrong, and numbers of the literature."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest

import lensnet
from lensnet.predict.kernel.maps import correlation_map, fixed_point, step
from lensnet.predict.kernel.propagate import Kernels, propagate, propagate_back
from lensnet.predict.kernel.source import input_state
from lensnet.quantities import gram
from lensnet.quantities.rows import row_sample
from tests.kernel.networks import network

RELU = "- {component: linear, units: 8, gain: sqrt(2)}\n- {component: relu}"


def kernels_of(name: str) -> Kernels:
    net = lensnet.load(name)
    return propagate(net.network, input_state(net.network, net._batch(None)))


def test_the_relu_map_and_its_asymptote() -> None:
    """Cho and Saul 2009; 1 - c -> 9 pi^2/(2 l^2) (Hayou et al. 2019), which is -71 % at ten layers and -19 % at 100."""
    c = np.linspace(-0.9, 0.9, 7)
    expected = (np.sqrt(1 - c**2) + c * (pi - np.arccos(c))) / pi
    np.testing.assert_allclose(correlation_map(network(RELU), c), expected, rtol=1e-12)
    block, now, ratio = network(RELU), 0.0, {}
    for layer in range(1, 101):
        now = step(block, 1.0, now)[1]
        ratio[layer] = (1 - now) / (9 * pi**2 / 2 / layer**2)
    assert ratio[10] == pytest.approx(0.29, abs=0.01) and ratio[100] == pytest.approx(0.81, abs=0.01)


def test_a_residual_block_collapses_more_slowly() -> None:
    """x + W relu(x), Var w = 2a/n: c' = (c + a relu_map(c))/(1 + a) (Yang and Schoenholz 2017)."""
    a = 0.25
    body = f"""
    - name: add
      component: residual
      branch: [{{component: relu}}, {{component: linear, units: 16, gain: sqrt(2*{a})}}]
    """
    q, c = step(network(body), 1.3, 0.2)
    relu = (np.sqrt(1 - 0.04) + 0.2 * (pi - np.arccos(0.2))) / pi
    assert q == pytest.approx(1.3 * (1 + a), rel=1e-12)
    assert c == pytest.approx((0.2 + a * relu) / (1 + a), rel=1e-12)


def test_fixed_points_of_tanh() -> None:
    """Poole et al. 2016; Schoenholz et al. 2017: ordered below the edge of chaos, chaotic above; depth scale there."""
    block = "- {{component: tanh}}\n- {{component: linear, units: 8, gain: {!r}, bias_std: sqrt(0.1)}}"
    ordered = fixed_point(network(block.format(1.2)))
    chaotic = fixed_point(network(block.format(2.5**0.5)))
    assert ordered is not None and chaotic is not None
    assert ordered.correlation == 1.0 and ordered.slope < 1
    assert chaotic.correlation == pytest.approx(0.6644, abs=2e-4)
    assert chaotic.depth == pytest.approx(13.460, abs=0.002)


def test_relu_collapse_of_the_bundled_network() -> None:
    kernels = kernels_of("relu_collapse")
    cosine = [
        gram.correlation(np.asarray(kernels.states[f"layer.{i}.relu"].pairs), row_sample(32, ())) for i in (0, 9, 39)
    ]
    assert cosine == pytest.approx([0.595, 0.898, 0.984], abs=0.001)
    sizes = [float(np.mean(kernels.states[f"layer.{i}.relu"].second_moment)) for i in (0, 39)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-9)


def test_attention_collapses_and_is_rescued() -> None:
    sample = row_sample(8, (16,))
    pure, saved = kernels_of("attention_collapse"), kernels_of("attention_rescued")
    apart = [1 - gram.position_cosine(np.asarray(pure.states[f"layer.{i}.attention"].pairs), sample) for i in range(3)]
    assert apart[0] == pytest.approx(0.54, abs=0.03) and apart[1] < 2e-3 and apart[2] < 1e-9
    assert gram.position_cosine(np.asarray(saved.states["layer.3.think"].pairs), sample) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("batch", "expected"), [(8, None), (256, pi / (pi - 1))])
def test_the_gradient_grows_through_batch_normalisation(batch: int, expected: float | None) -> None:
    """pi/(pi - 1) per ReLU layer at a large batch (Yang et al. 2019)."""
    body = """
    - repeat: 6
      name: layer
      body:
        - {name: dense, component: linear, units: 64}
        - {name: norm, component: batchnorm}
        - {name: relu, component: relu}
    """
    kernels = propagate(*given(body, batch))
    gradients = propagate_back(kernels, np.eye(batch))
    sizes = [np.diag(gradients.pairs[f"layer.{i}.dense", "x"]).mean() for i in (3, 4)]
    ratio = sizes[0] / sizes[1]
    if expected is not None:
        assert ratio == pytest.approx(expected, rel=0.005)
    else:
        assert ratio > pi / (pi - 1) * 1.05


@pytest.mark.parametrize("batch", [5, 8, 16])
def test_linear_batch_normalisation_at_a_small_batch(batch: int) -> None:
    """(B - 2)/(B - 3) per layer without an activation, exactly (Yang et al. 2019)."""
    body = """
    - repeat: 5
      name: layer
      body:
        - {name: dense, component: linear, units: 64}
        - {name: norm, component: batchnorm, eps: 0}
    """
    kernels = propagate(*given(body, batch))
    gradients = propagate_back(kernels, np.eye(batch))
    sizes = [np.diag(gradients.pairs[f"layer.{i}.dense", "x"]).mean() for i in (2, 3)]
    assert sizes[0] / sizes[1] == pytest.approx((batch - 2) / (batch - 3), rel=1e-3)


def given(body: str, batch: int):  # type: ignore[no-untyped-def]
    net = network(body, channels=64, batch=batch)
    return net, input_state(net, None)
