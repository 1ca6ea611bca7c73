"""Tangent kernels of layers with several weight tensors, and of weights in several places, against autograd at large
width over weight draws."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.catalog.catalog import catalog
from lensnet.ladder.trial import is_layer
from lensnet.network.graph import Network
from lensnet.predict.kernel.tangent import KernelError, ntk
from tests.kernel.networks import network
from tests.kernel.test_components import modelled
from tests.kernel.test_wide_networks import torch_kernels

HEAD = "- {name: mean, component: token_mean}\n- {name: out, component: linear, units: 1}\n"
OUT = "- {name: out, component: linear, units: 1}\n"
TOKENS = {"channels": 24, "positions": "[5]"}
CASES: dict[str, tuple[str, dict[str, object], int, int]] = {
    "gated linear unit": (
        "- {name: g, component: gated_linear_unit, units: 256, activation: gelu, gate_bias_std: 0.4}\n" + OUT,
        {"channels": 24}, 256, 16,
    ),
    "experts": (
        "- {name: enter, component: linear, units: 128}\n"
        "- {name: e, component: mixture_of_experts, experts: 4, active: 2, hidden: 64, units: 128}\n" + OUT,
        {"channels": 24}, 128, 60,
    ),
    "attention": (
        "- {name: enter, component: linear, units: 128}\n"
        "- {name: a, component: attention, heads: 2, query_gain: 1.5, value_bias_std: 0.3}\n" + HEAD, TOKENS, 128, 40,
    ),
    "gated recurrence": (
        "- {name: r, component: gru, units: 192, input_gain: 1.2, hidden_gain: 0.9, hidden_bias_std: 0.2}\n" + HEAD,
        TOKENS, 192, 24,
    ),
    "long memory": (
        "- {name: r, component: lstm, units: 192, input_gain: 1.5, hidden_gain: 0.9}\n"
        "- {name: last, component: pick, index: 4}\n" + OUT, TOKENS, 192, 24,
    ),
    "learned positions": (
        "- {name: enter, component: linear, units: 128}\n"
        "- {name: at, component: positional_encoding, encoding: learned, std: 0.7}\n"
        "- {name: up, component: linear, units: 128}\n- {name: act, component: relu}\n" + HEAD, TOKENS, 128, 24,
    ),
    "sparsification": (
        "- {name: enter, component: linear, units: 192}\n"
        "- {name: s, component: ista, step: 0.5, threshold: 0.2}\n" + OUT,
        {"channels": 24}, 192, 24,
    ),
    "squeeze and excite": (
        "- {name: enter, component: linear, units: 192}\n"
        "- {name: s, component: squeeze_excite, reduction: 2, squeeze_gain: 1.4, excite_gain: 2}\n" + HEAD,
        {"channels": 24, "positions": "[3]"}, 96, 24,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_several_weight_tensors(case: str) -> None:
    body, options, width, seeds = CASES[case]
    net = network(body, batch=3, **options)  # type: ignore[arg-type]
    compare(net, width, seeds)


def compare(net: Network, width: int, seeds: int) -> None:
    x = np.random.default_rng(1).standard_normal(net.input.shape.tensor_shape(3))
    x[1] = 0.7 * x[0] + 0.7 * x[1]
    kernels = torch_kernels(net, x, seeds)
    expected = ntk(net, x)
    error = np.std(kernels, axis=0, ddof=1) / np.sqrt(seeds)
    off = np.mean(kernels, axis=0) - expected
    allowed = 4 * error + 5 / width * np.diag(expected).mean()
    assert np.all(np.abs(off) < allowed), f"{off / np.diag(expected).mean()} against {allowed}"
    assert error.max() < 0.12 * expected.max()


def test_every_weight_of_the_catalogue_has_a_tangent() -> None:
    """By the layer's own kernel formula where one tensor multiplies the input, else by a formula for each."""
    for name, component in catalog().items():
        weights = component.weights.keys()
        if not weights or not is_layer(component) or not modelled(name):
            continue
        if name in REFUSED:
            continue
        declared = component.port_effects("kernel", "tangent").keys()
        assert declared == weights or (not declared and len(weights) == 1 and component.coherence.kind == "fresh"), name


REFUSED = {
    "elementwise_gain": "- {name: w, component: linear, units: 32}\n- {name: g, component: elementwise_gain, std: 1}\n",
    "experts": "- {name: w, component: linear, units: 32}\n- {name: s, component: linear, units: 2}\n"
    "- {name: g, component: experts, experts: 2, hidden: 32, units: 32, from: [w, s]}\n",
}
"""Tables that multiply, and banks of experts, have no formula of their weights."""


@pytest.mark.parametrize("name", REFUSED)
def test_weights_without_a_tangent_are_refused_by_name(name: str) -> None:
    with pytest.raises(KernelError, match="g has no tangent formula|w gets a gradient that no formula gives"):
        ntk(network(REFUSED[name] + OUT, channels=8, batch=3))


UNROLLED = """
- {name: inject, component: linear, units: 256, from: input}
- {name: h0, component: tanh}
- {name: w0, component: linear, units: 256, gain: 1.2, bias_std: 0.3}
- {name: s0, component: sum, from: [w0, inject]}
- {name: h1, component: tanh}
- {name: w1, component: linear, units: 256, gain: 1.2, bias_std: 0.3, weights_of: w0}
- {name: s1, component: sum, from: [w1, inject]}
- {name: h2, component: tanh}
"""
SHARED = {
    "the last state": UNROLLED + OUT,
    "all states": UNROLLED + "- {name: all, component: sum, from: [h0, h1, h2]}\n" + OUT,
    "a matrix squared": """
- {name: one, component: linear, units: 256, from: input}
- {name: w, component: linear, units: 256, gain: 1.2}
- {name: f, component: relu}
- {name: v, component: linear, units: 256, gain: 1.2, weights_of: w}
- {name: g, component: relu}
- {name: both, component: sum, from: [f, g]}
""" + OUT,
    "two eyes": """
- {name: one, component: linear, units: 256, from: input}
- {name: two, component: linear, units: 256, from: input}
- {name: a, component: linear, units: 256, from: one}
- {name: b, component: linear, units: 256, from: two, weights_of: a}
- {name: f, component: relu, from: a}
- {name: g, component: relu, from: b}
- {name: both, component: sum, from: [f, g]}
""" + OUT,
}  # fmt: skip


@pytest.mark.parametrize("case", SHARED)
def test_weights_in_several_places(case: str) -> None:
    """Gradients at two uses of the same weights agree where a readout asks both: their product counts twice."""
    compare(network(SHARED[case], channels=24, batch=3), 256, 16)


def test_uses_of_shared_weights_count_together() -> None:
    """y = V(f(W x) + f(W x)) with W written twice is the same function as 2 V f(W x)."""
    twice = """
    - {name: w, component: linear, units: 64, from: input}
    - {name: f, component: relu}
    - {name: again, component: linear, units: 64, from: input, weights_of: w}
    - {name: g, component: relu}
    - {name: both, component: sum, from: [f, g]}
    """
    once = """
    - {name: w, component: linear, units: 64, from: input}
    - {name: f, component: relu}
    - {name: both, component: scale, factor: 2}
    """
    x = np.random.default_rng(3).standard_normal((4, 12))
    found = [ntk(network(body + "\n    " + OUT, channels=12), x) for body in (twice, once)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
