"""Components written in YAML alone: a function of one number, an expression over tensors, a random mixing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lensnet
from lensnet.measure import measure, to_module
from lensnet.measure.module import layers
from lensnet.network.graph import Network

SPEC = """
network: own
about: Components defined in the file.
input: {source: gaussian, batch: 4, channels: 6, positions: [5]}
body:
  - {name: centre, component: centre, strength: 0.5}
  - {name: shifted, component: token_shift}
  - {name: gate, component: own_gate, from: [centre, shifted]}
  - {name: act, component: swish2}
  - {name: relu, component: relu}
  - {name: mixed, component: position_mix, gain: 1.5}
define:
  centre:
    parameters: {strength: {type: real, default: 1, symbol: s}}
    forward: x - s*position_mean(x) + 0.1*channel_mean(x) - example_mean(x)
  token_shift:
    forward: x/2 + shift(x, 1)/2
  own_gate:
    ports: {in: [value, gate]}
    forward: value*sigmoid(gate)
  swish2:
    function: x*sigmoid(2*x)
  position_mix:
    implementation: mix
    parameters: {over: {type: choice, choices: [channels, positions, both], default: positions}}
    weights: {weight: {fan_in: positions, fan_out: positions}}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Network:
    file = Path(tmp_path_factory.mktemp("specs")) / "own.yaml"
    file.write_text(SPEC)
    return lensnet.load(file).network


def test_expressions_and_functions_are_what_they_say(own: Network) -> None:
    made = layers(to_module(own).double())
    draws = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, 5, 6, generator=draws, dtype=torch.float64) for _ in range(2))
    mean, channel, example = x.mean(1, keepdim=True), x.mean(2, keepdim=True), x.mean(0, keepdim=True)
    torch.testing.assert_close(made["centre"](x), x - 0.5 * mean + 0.1 * channel - example)
    torch.testing.assert_close(made["shifted"](x), (x + x.roll(1, 1)) / 2)
    torch.testing.assert_close(made["gate"](x, y), x * torch.sigmoid(y))
    torch.testing.assert_close(made["act"](x), x * torch.sigmoid(2 * x))


def test_a_known_function_runs_on_the_fused_kernel(own: Network) -> None:
    made = layers(to_module(own))
    assert made["relu"].function is F.relu
    assert made["act"].function is not F.silu


def test_they_are_measured_like_any_other(own: Network) -> None:
    batch = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    found = measure(own, batch, seeds=3, device="cpu", dtype="float64")
    for seed in found.seeds:
        assert seed.nonfinite == []
        assert set(seed.outputs) == {"input", *(node.path for node in own)}
        assert {("gate", "value"), ("gate", "gate"), ("mixed", "x"), ("centre", "x")} <= set(seed.gradients)
        assert seed.outputs["mixed"].mean.shape == (4, 5)
    gains = [s.outputs["mixed"].second_moment.mean() / s.outputs["relu"].second_moment.mean() for s in found.seeds]
    assert np.isfinite(gains).all()
