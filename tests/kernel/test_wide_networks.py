"""Tangent kernels and branches against torch at large width: autograd over weight draws, with standard errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensnet.measure.layers.registry import RandomLayer
from lensnet.measure.module import draw, layers, to_module
from lensnet.network.graph import Network
from lensnet.predict.kernel.tangent import nngp, ntk
from tests.kernel.networks import network

MLP = """
- {name: one, component: linear, units: 256, gain: 1.4, bias_std: 0.3}
- {name: act, component: gelu}
- {name: two, component: linear, units: 256, gain: 1.3}
- {name: act2, component: tanh}
- {name: out, component: linear, units: 1}
"""
SKIP = """
- {name: stem, component: linear, units: 256}
- name: add
  component: residual
  branch: [{component: relu}]
- {name: mid, component: linear, units: 256}
- {name: out, component: linear, units: 1}
"""
CONV = """
- {name: one, component: conv2d, filters: 64, kernel: 3, padding: 1, gain: sqrt(2)}
- {name: act, component: relu}
- {name: pool, component: avg_pool2d, kernel: 2}
- {name: two, component: conv2d, filters: 64, kernel: 2}
- {name: act2, component: relu}
- {name: mean, component: global_avg_pool}
- {name: out, component: linear, units: 1}
"""
PIXELS = """
- {name: one, component: conv2d, filters: 256, kernel: 3, padding: 1, gain: sqrt(2)}
- {name: finer, component: pixel_shuffle, factor: 2, output: [6, 6]}
- {name: act, component: relu}
- {name: two, component: conv2d, filters: 64, kernel: 3, padding: 1, bias_std: 0.3}
- {name: act2, component: tanh}
- {name: coarser, component: pixel_unshuffle, factor: 3, output: [2, 2]}
- {name: three, component: conv2d, filters: 64, kernel: 2, gain: sqrt(2)}
- {name: act3, component: relu}
- {name: mean, component: global_avg_pool}
- {name: out, component: linear, units: 1}
"""
CASES: dict[str, tuple[str, dict[str, object], int]] = {
    "mlp": (MLP, {"channels": 12}, 12),
    "x + relu(x)": (SKIP, {"channels": 12}, 12),
    "conv": (CONV, {"channels": 3, "positions": "[6, 6]"}, 14),
    "pixels": (PIXELS, {"channels": 3, "positions": "[3, 3]"}, 14),
}


def torch_kernels(net: Network, x: np.ndarray, seeds: int) -> list[np.ndarray]:
    """The tangent kernel of every draw by autograd, averaged over output channels, every weight counted in units of its
    standard deviation. Of weights in several places the derivatives are added."""
    module, dtype = to_module(net), torch.int64 if net.input.shape.kind == "ids" else torch.float32
    slots: dict[tuple[str, ...], list[tuple[torch.nn.Parameter, float]]] = {}
    for node in net:
        for name, part in layers(module)[node.path].named_modules():
            for slot, of in part._slots.items() if isinstance(part, RandomLayer) else ():
                scale = of.law.bias_std if of.is_bias else of.law.variance**0.5
                owner = node.path if of.is_bias and node.component.spec.ties else node.weights_of
                slots.setdefault((owner, name, slot), []).append((part.get_parameter(slot).requires_grad_(True), scale))
    parameters = [parameter for uses in slots.values() for parameter, _ in uses]
    kernels = []
    for seed in range(seeds):
        draw(module, net, seed)
        total = np.zeros((len(x), len(x)))
        for channel in (y := module(torch.as_tensor(x, dtype=dtype))).T:
            rows = []
            for value in channel:
                found = iter(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))
                parts = [
                    sum((0 if g is None else g * s) for (_, s), g in zip(uses, found, strict=False))
                    for uses in slots.values()
                ]
                rows.append(torch.cat([part.flatten() for part in parts if not isinstance(part, int)]))
            jacobian = torch.stack(rows).double().numpy()
            total += jacobian @ jacobian.T
        kernels.append(total / y.shape[1])
    return kernels


@pytest.mark.parametrize("case", CASES)
def test_tangent_kernels_of_wide_networks(case: str) -> None:
    body, options, seeds = CASES[case]
    net = network(body, batch=3, **options)
    x = np.random.default_rng(1).standard_normal(net.input.shape.tensor_shape(3))
    x[1] = 0.7 * x[0] + 0.7 * x[1]
    kernels = torch_kernels(net, x, seeds)
    expected = ntk(net, x)
    error = np.std(kernels, axis=0, ddof=1) / np.sqrt(seeds)
    width = {"mlp": 256, "x + relu(x)": 256, "conv": 64, "pixels": 64}[case]
    allowed = 4 * error + 3 / width * np.abs(expected)  # corrections to the mean are O(1/width)
    assert np.all(np.abs(np.mean(kernels, axis=0) - expected) < allowed)
    assert error.max() < 0.12 * expected.max()


BRANCHES = {
    "x + x": "[x, x]",
    "x + relu(x)": "[x, relu]",
    "relu(x) + tanh(x)": "[relu, tanh]",
    "x + W relu(x)": "[x, mix]",
    "relu(x) + relu(W x)": "[relu, far]",
}


@pytest.mark.parametrize("case", BRANCHES)
def test_branches_that_meet(case: str) -> None:
    """The covariance of a sum of dependent branches, behind a dense layer, over wide draws of numpy."""
    body = f"""
    - {{name: x, component: linear, units: 64, bias_std: 0.4, bias: 0.2}}
    - {{name: relu, component: relu, from: x}}
    - {{name: tanh, component: tanh, from: x}}
    - {{name: mix, component: linear, units: 64, from: relu}}
    - {{name: inner, component: linear, units: 64, from: x}}
    - {{name: far, component: relu, from: inner}}
    - {{name: add, component: sum, from: {BRANCHES[case]}}}
    - {{name: all, component: concat, from: [add, relu, tanh, mix, far]}}
    - {{name: out, component: linear, units: 1}}
    """
    net = network(body, channels=5, batch=3)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, 5))
    draws, width = 40, 640
    found = []
    for _ in range(draws):
        z = x @ rng.standard_normal((5, width)) / 5**0.5 + 0.2 + 0.4 * rng.standard_normal(width)
        relu, tanh = np.maximum(z, 0), np.tanh(z)
        mix = relu @ rng.standard_normal((width, width)) / width**0.5
        far = np.maximum(z @ rng.standard_normal((width, width)) / width**0.5, 0)
        parts = {"x": z, "relu": relu, "tanh": tanh, "mix": mix, "far": far}
        add = sum(parts[name.strip()] for name in BRANCHES[case].strip("[]").split(","))
        every = np.concatenate([add, relu, tanh, mix, far], axis=1)
        found.append(every @ every.T / every.shape[1])
    error = np.std(found, axis=0, ddof=1) / draws**0.5
    off = np.abs(np.mean(found, axis=0) - nngp(net, x))
    assert np.all(off < 4 * error + 2 / width * np.diag(nngp(net, x)).max())


def test_weights_that_are_used_twice() -> None:
    """An unrolled recurrent network: the same matrix in both steps, whose outputs meet."""
    body = """
    - {name: inject, component: linear, units: 400, from: input}
    - {name: h0, component: tanh}
    - {name: w0, component: linear, units: 400, gain: 1.2, bias_std: 0.3}
    - {name: s0, component: sum, from: [w0, inject]}
    - {name: h1, component: tanh}
    - {name: w1, component: linear, units: 400, gain: 1.2, bias_std: 0.3, weights_of: w0}
    - {name: s1, component: sum, from: [w1, inject]}
    - {name: h2, component: tanh}
    - {name: both, component: sum, from: [h1, h2, w0, w1]}
    """
    net = network(body, channels=8, batch=3)
    x = np.random.default_rng(0).standard_normal((3, 8))
    module, found = to_module(net), []
    for seed in range(30):
        draw(module, net, seed)
        y = module(torch.as_tensor(x, dtype=torch.float32)).double().numpy()
        found.append(y @ y.T / 400)
    expected, error = nngp(net, x), np.std(found, axis=0, ddof=1) / 30**0.5
    assert np.all(np.abs(np.mean(found, axis=0) - expected) < 4 * error + 0.01 * np.diag(expected).max())
    apart = nngp(network(body.replace(", weights_of: w0", ""), channels=8, batch=3), x)
    assert np.trace(expected) > 1.1 * np.trace(apart)
