"""Tangent kernels of layers with several weight tensors, and of weights in several places, against autograd at large
width over weight draws."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.predict.kernel.tangent import KernelError, ntk
from tests.kernel.networks import network
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
        "- {name: enter, component: linear, units: 192}\n- {name: s, component: ista, step: 0.5, threshold: 0.2}\n" + OUT,
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


def compare(net, width: int, seeds: int) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(1).standard_normal(net.input.shape.tensor_shape(3))
    x[1] = 0.7 * x[0] + 0.7 * x[1]
    _, kernels = torch_kernels(net, x, seeds)
    expected = ntk(net, x)
    error = np.std(kernels, axis=0, ddof=1) / np.sqrt(seeds)
    off = np.mean(kernels, axis=0) - expected
    allowed = 4 * error + 5 / width * np.diag(expected).mean()
    assert np.all(np.abs(off) < allowed), f"{off / np.diag(expected).mean()} against {allowed}"
    assert error.max() < 0.12 * expected.max()


def test_a_component_without_the_formula_is_named() -> None:
    body = "- {name: enter, component: linear, units: 32}\n- {name: m, component: redunet_layer}\n" + OUT
    with pytest.raises((KernelError, Exception)):
        ntk(network(body, channels=8, batch=3))
