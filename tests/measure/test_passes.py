"""One measured pass: gradients equal autograd of a network written by hand, forks add up, findings are named."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule

from lensnet.measure.errors import MeasureError
from lensnet.measure.module import draw, layers, to_module
from lensnet.measure.passes import cotangent, measure_pass
from lensnet.measure.statistics import SeedStatistics
from lensnet.measure.together import measure_together
from lensnet.network.graph import Network
from lensnet.network.shape import Shape
from lensnet.network.weights import WeightLaw
from tests.measure.networks import chain, conv, flatten, linear, network, node, pool

WIDTH = Shape(6)


def residual_network() -> Network:
    """stem, then stem + branch(stem) with a ReLU in the branch, then a head; every name a trap for torch's modules."""
    return network(
        [
            linear("stem", "input", WIDTH, 6, bias_std=0.1),
            node("stem.fork", "fork", ["stem"], [WIDTH]),
            linear("half.weight", "stem.fork", WIDTH, 6),
            node("train", "relu", ["half.weight"], [WIDTH]),
            node(
                "half",
                "residual",
                ["stem.fork", "train"],
                [WIDTH] * 2,
                ports=["skip", "branch"],
                needs={"cross_moment": {}},
            ),
            node("code", "dropout", ["half"], [WIDTH], None, {"rate": 0.5}),
            linear("graph", "code", WIDTH, 4),
        ],
        WIDTH,
        batch=5,
    )


def measured(given: Network, batch: Tensor, seed: int = 0, backward: bool = True) -> tuple[GraphModule, SeedStatistics]:
    module = to_module(given).double()
    draw(module, given, seed, examples=len(batch))
    return module, measure_pass(module, given, batch, seed, backward)


def batch_of(shape: Shape, examples: int, seed: int = 0) -> Tensor:
    return torch.randn(shape.tensor_shape(examples), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_everything_equals_a_network_written_by_hand() -> None:
    x = batch_of(WIDTH, 5).requires_grad_()
    module, found = measured(residual_network(), x.detach())
    parts = layers(module)
    stem = F.linear(x, parts["stem"].weight, parts["stem"].bias)
    skip, into_branch = stem.view_as(stem), stem.view_as(stem)
    mixed = F.linear(into_branch, parts["half.weight"].weight)
    branch = F.relu(mixed)
    total = skip + branch
    dropped = total * parts["code"].noise
    head = F.linear(dropped, parts["graph"].weight)
    watched = [x, stem, skip, into_branch, mixed, branch, total, dropped]
    gx, gstem, gskip, ginto, gmixed, gbranch, gtotal, gdropped = torch.autograd.grad(head, watched, cotangent(0, head))
    expected = {
        ("stem", "x"): gx, ("stem.fork", "x"): gstem, ("half.weight", "x"): ginto, ("train", "x"): gmixed,
        ("half", "skip"): gskip, ("half", "branch"): gbranch, ("code", "x"): gtotal, ("graph", "x"): gdropped,
    }  # fmt: skip
    assert found.gradients.keys() == expected.keys()
    for key, gradient in expected.items():
        np.testing.assert_allclose(found.gradients[key], gradient.square().mean(1).numpy(), rtol=1e-12)
    for path, value in {"input": x, "stem": stem, "half": total, "code": dropped, "graph": head}.items():
        np.testing.assert_allclose(found.outputs[path].mean, value.detach().mean(1).numpy(), atol=1e-15)
        np.testing.assert_allclose(
            found.outputs[path].second_moment, value.detach().square().mean(1).numpy(), rtol=1e-12
        )
    for path, (value, gradient) in {"input": (x, gx), "stem": (stem, gstem), "half": (total, gtotal)}.items():
        assert found.invariant[path] == pytest.approx(float((value * gradient).sum().detach()), rel=1e-10)
    assert found.invariant["stem.fork"] == pytest.approx(found.invariant["stem"], rel=1e-10)
    assert found.invariant["graph"] == pytest.approx(float((head * cotangent(0, head)).sum().detach()), rel=1e-10)
    cross = (skip * branch).detach().mean(1).numpy()
    np.testing.assert_allclose(found.side["half", "skip,branch", "cross_moment"], cross, rtol=1e-12)
    assert found.nonfinite == []
    torch.testing.assert_close(gstem, gskip + ginto)


def test_ports_of_a_signal_used_twice_without_a_fork_stay_apart() -> None:
    given = network([linear("a", "input", WIDTH, 6), node("b", "multiply", ["a", "a"], [WIDTH] * 2)], WIDTH)
    x = batch_of(WIDTH, 3)
    module, found = measured(given, x)
    signal = module(x)
    root = F.linear(x, layers(module)["a"].weight)
    gradient = cotangent(0, signal) * root
    for port in ("xs.0", "xs.1"):
        np.testing.assert_allclose(found.gradients["b", port], gradient.square().mean(1).numpy(), rtol=1e-12)
    assert found.invariant["a"] == pytest.approx(2 * float((gradient * root).sum()), rel=1e-10)


def test_images_and_sequences() -> None:
    image = Shape(3, (9, 9))
    given = chain(
        image,
        lambda source, shape: conv("conv", source, shape, 8, 3, padding=1),
        lambda source, shape: node("relu", "relu", [source], [shape]),
        lambda source, shape: pool("pool", source, shape, "max_pool2d", 3, 2, needs={"window_gram": {}}),
        lambda source, shape: flatten("flat", source, shape),
        lambda source, shape: linear("head", source, shape, 5),
    )
    module, found = measured(given, batch_of(image, 2))
    assert found.outputs["conv"].mean.shape == (2, 9, 9)
    assert found.gradients["pool", "x"].shape == (2, 9, 9)
    assert found.outputs["flat"].mean.shape == (2,)
    assert found.side["pool", "x", "window_gram"].shape == (9, 9)
    assert module(batch_of(image, 2)).shape == (2, 5)


def test_ids_have_no_gradient_but_what_follows_has() -> None:
    ids, tokens = Shape(30, (4,), "ids"), Shape(6, (4,))
    weights = {"weight": WeightLaw(1, 1, 1.0)}
    given = network(
        [
            node("embed", "embedding", ["input"], [ids], tokens, weights=weights),
            node("norm", "layernorm", ["embed"], [tokens], needs={"token_gram": {}, "gradient_gram": {}}),
            linear("head", "norm", tokens, 3),
        ],
        ids,
    )
    _, found = measured(given, torch.randint(0, 30, (2, 4)))
    assert found.outputs.keys() == {"embed", "norm", "head"}
    assert found.gradients.keys() == {("norm", "x"), ("head", "x")}
    assert found.side["norm", "x", "gradient_gram"].shape == (2, 4, 4)
    gram = found.side["norm", "x", "token_gram"]
    np.testing.assert_allclose(np.diagonal(gram, axis1=1, axis2=2), found.outputs["embed"].second_moment, rtol=1e-12)


def test_forward_only_measures_no_gradient() -> None:
    x = batch_of(WIDTH, 5)
    _, both = measured(residual_network(), x)
    _, forward = measured(residual_network(), x, backward=False)
    assert forward.gradients == {} and forward.invariant == {}
    for path, moments in both.outputs.items():
        np.testing.assert_array_equal(moments.second_moment, forward.outputs[path].second_moment)


def test_side_quantities_can_be_left_out() -> None:
    given, x = residual_network(), batch_of(WIDTH, 5)
    module = to_module(given).double()
    draw(module, given, 0)
    assert measure_pass(module, given, x, 0, sides=False).side == {}


def test_nothing_passes_back_through_a_step() -> None:
    given = chain(
        WIDTH,
        lambda source, shape: linear("a", source, shape, 6),
        lambda source, shape: node("step", "step", [source], [shape], function=lambda x: (x > 0).to(x.dtype)),
        lambda source, shape: linear("b", source, shape, 6),
    )
    _, found = measured(given, batch_of(WIDTH, 3))
    assert found.gradients["b", "x"].mean() > 0
    np.testing.assert_array_equal(found.gradients["step", "x"], 0.0)
    np.testing.assert_array_equal(found.gradients["a", "x"], 0.0)
    assert found.invariant["a"] == 0.0


def test_nan_is_a_finding_with_the_component_named() -> None:
    given = chain(
        WIDTH,
        lambda source, shape: linear("a", source, shape, 6),
        lambda source, shape: node("log", "log", [source], [shape], function=torch.log),
        lambda source, shape: linear("b", source, shape, 6),
    )
    _, found = measured(given, batch_of(WIDTH, 3))
    assert found.nonfinite == ["log", "b"]  # the culprit first, then what it spoils
    assert np.isfinite(found.outputs["a"].mean).all()


def test_a_layer_that_fails_names_the_component() -> None:
    def fails(x: Tensor) -> Tensor:
        raise ValueError("no root")

    given = network([node("block.3.act", "odd", ["input"], [WIDTH], function=fails)], WIDTH)
    with pytest.raises(MeasureError, match=r"block\.3\.act: no root"):
        measured(given, batch_of(WIDTH, 3))


def test_the_invariant_is_constant_along_a_homogeneous_stretch() -> None:
    makers = []
    for index in range(6):
        makers.append(lambda source, shape, i=index: linear(f"l{i}", source, shape, 6, gain=1.4))
        makers.append(lambda source, shape, i=index: node(f"r{i}", "relu", [source], [shape]))
    _, found = measured(chain(WIDTH, *makers), batch_of(WIDTH, 4))
    assert np.ptp(list(found.invariant.values())) < 1e-10 * abs(found.invariant["input"])


@pytest.mark.parametrize(
    "measure",
    [
        lambda module, given, batch: measure_pass(module, given, batch, 0, rows=4),
        lambda module, given, batch: measure_together(module, given, batch, [0, 1], rows=4),
    ],
    ids=["one draw", "draws together"],
)
def test_nothing_of_a_pass_outlives_it(measure: Callable[[GraphModule, Network, Tensor], object]) -> None:
    given = residual_network()
    batch = batch_of(given.input.shape, 5)
    module = to_module(given).double()
    draw(module, given, 0, examples=len(batch))
    found = measure(module, given, batch)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert found and gone() is None
