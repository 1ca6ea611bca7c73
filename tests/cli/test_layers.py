"""The layer table counts weights without torch; torch counts the same."""

from __future__ import annotations

import pytest

import lensnet
from lensnet.cli.layers import weight_count


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [("lenet5", []), ("vit_small", []), ("mlp_mixer", []), ("gpt2_small", ["constants.depth=1"]), ("autoencoder", [])],
)
def test_weights_are_those_of_the_torch_module(spec: str, overrides: list[str]) -> None:
    from lensnet.measure.module import layers, to_module

    network = lensnet.load(spec, overrides).network
    modules = layers(to_module(network))
    for node in network:
        assert weight_count(node) == sum(tensor.numel() for tensor in modules[node.path].parameters()), node.path
