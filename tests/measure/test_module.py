"""The fx graph of a network: nodes, ports and targets."""

from __future__ import annotations

import torch

from lensnet.measure.layers import build
from lensnet.measure.module import draw, layers, to_module
from lensnet.network.shape import Shape
from tests.measure.networks import chain, linear, network, node

WIDTH = Shape(4)


def test_nodes_carry_their_path_and_ports() -> None:
    given = network(
        [
            linear("stem", "input", WIDTH, 4),
            node("stem.fork", "fork", ["stem"], [WIDTH]),
            node("block.0.add", "sum", ["stem.fork", "stem.fork"], [WIDTH] * 2),
        ],
        WIDTH,
    )
    module = to_module(given)
    calls = [n for n in module.graph.nodes if n.op == "call_module"]
    assert [n.meta["path"] for n in calls] == ["stem", "stem.fork", "block.0.add"]
    assert calls[2].meta["ports"] == ("xs.0", "xs.1")
    assert [n.target for n in calls] == ["stem", "stem_.fork", "block.0.add"]
    assert list(layers(module)) == ["stem", "stem.fork", "block.0.add"]
    module.graph.lint()


def test_names_that_torch_uses_itself() -> None:
    names = ["code", "graph", "forward", "half", "in", "class", "weight", "a.train", "a_", "a", "training", "0"]
    given = chain(WIDTH, *(lambda source, shape, name=name: linear(name, source, shape, 4) for name in names))
    module = to_module(given)
    assert list(layers(module)) == names
    assert len({id(layer) for layer in layers(module).values()}) == len(names)
    draw(module, given, 0)
    assert module(torch.randn(2, 4)).shape == (2, 4)
    assert module.double().half().train().training


def test_drawing_again_keeps_the_tensors() -> None:
    given = chain(WIDTH, lambda source, shape: linear("a", source, shape, 4))
    module = to_module(given)
    draw(module, given, 0)
    place = module.get_parameter("a.weight").data_ptr()
    draw(module, given, 1)
    assert module.get_parameter("a.weight").data_ptr() == place


def test_an_empty_network_is_the_identity() -> None:
    x = torch.randn(2, 4)
    assert torch.equal(to_module(network([], WIDTH))(x), x)


def test_build_is_the_same_module_everywhere() -> None:
    given = linear("a", "input", WIDTH, 4)
    assert type(build(given)) is type(layers(to_module(network([given], WIDTH)))["a"])
