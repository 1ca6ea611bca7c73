"""Every layer equals the plain torch operation on the same weights, and gradients flow through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers import RandomLayer, build, implementations
from lensnet.measure.layers.embed import sinusoids
from lensnet.network.geometry import Adaptive, Collapse, Patches, WindowTranspose
from lensnet.network.graph import Node
from lensnet.network.shape import Shape
from lensnet.network.weights import WeightLaw
from tests.measure.networks import conv, flatten, linear, node, pool

VECTOR, TOKENS, IMAGE = Shape(12), Shape(12, (5,)), Shape(12, (8, 7))


def tensor(shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(shape.tensor_shape(3), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.2


def made(given: Node) -> Any:
    layer = build(given).double().train()
    for part in layer.modules():
        if isinstance(part, RandomLayer):
            part.redraw(0, given.path)
    return layer


def check(layer: nn.Module, expected: Tensor, *xs: Tensor) -> None:
    """The layer's output is `expected`, and its gradient is right by finite differences."""
    torch.testing.assert_close(layer(*xs), expected, rtol=1e-9, atol=1e-11)
    leaves = tuple(x[:2].clone().requires_grad_() for x in xs)
    assert torch.autograd.gradcheck(layer, leaves, fast_mode=True)


@pytest.mark.parametrize("shape", [VECTOR, TOKENS, IMAGE], ids=str)
def test_linear_acts_on_the_channels(shape: Shape) -> None:
    layer = made(linear("a", "input", shape, 9, bias_std=0.3))
    x = tensor(shape)
    expected = F.linear(x.movedim(shape.channel_axis, -1), layer.weight, layer.bias).movedim(-1, shape.channel_axis)
    check(layer, expected, x)
    assert made(linear("a", "input", shape, 9)).bias is None


@pytest.mark.parametrize("fields", [{}, {"stride": 2, "padding": 1}, {"groups": 3, "dilation": 2, "padding": 2}])
def test_convolutions_pad_with_zeros(fields: dict[str, int]) -> None:
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **fields}
    layer, x = made(conv("a", "input", IMAGE, 6, 3, bias_std=0.2, **fields)), tensor(IMAGE)
    check(layer, F.conv2d(x, layer.weight, layer.bias, **options), x)
    layer, x = made(conv("a", "input", TOKENS, 6, 2, **fields)), tensor(TOKENS)
    check(layer, F.conv1d(x.transpose(1, 2), layer.weight, None, **options).transpose(1, 2), x)


@pytest.mark.parametrize("shape", [TOKENS, IMAGE], ids=str)
def test_circular_convolution_is_equivariant(shape: Shape) -> None:
    layer, x = made(conv("a", "input", shape, 6, 3, padding=1, mode="circular")), tensor(shape)
    axes = (1,) if len(shape.positions) == 1 else (2, 3)
    moved = tuple(range(2, 2 + len(axes)))
    torch.testing.assert_close(layer(x.roll(moved, axes)), layer(x).roll(moved, axes))
    reference = {1: nn.Conv1d, 2: nn.Conv2d}[len(axes)](12, 6, 3, padding=1, padding_mode="circular", bias=False)
    reference = reference.double()
    reference.weight.data.copy_(layer.weight)
    first = x.transpose(1, 2) if len(axes) == 1 else x
    expected = reference(first)
    check(layer, expected.transpose(1, 2) if len(axes) == 1 else expected, x)


def test_transposed_convolution() -> None:
    window = WindowTranspose((3, 3), (2, 2), (1, 1), (1, 1), (1, 0))
    weights = {"weight": WeightLaw(27, 24, 0.1, bias_std=0.1)}
    given = node(
        "a", "conv_transpose2d", ["input"], [IMAGE], Shape(8, window.out_positions(IMAGE.positions)),
        {"groups": 2}, weights, window,
    )  # fmt: skip
    layer, x = made(given), tensor(IMAGE)
    expected = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1, (1, 0), 2)
    assert expected.shape == given.shape.tensor_shape(3)
    check(layer, expected, x)


def test_embedding_and_positions() -> None:
    ids = Shape(20, (5,), "ids")
    weights = {"weight": WeightLaw(1, 1, 1.0)}
    layer = made(node("a", "embedding", ["input"], [ids], TOKENS, weights=weights))
    tokens = torch.randint(0, 20, (3, 5))
    torch.testing.assert_close(layer(tokens), layer.weight[tokens])
    x = tensor(TOKENS)
    check(made(node("a", "positional_encoding", ["input"], [TOKENS])), x + sinusoids(5, 12), x)
    learned = made(node("a", "positional_encoding", ["input"], [TOKENS], None, {"encoding": "learned"}, weights))
    check(learned, x + learned.weight, x)
    assert learned.weight.shape == (5, 12)


def test_sinusoids_by_their_definition() -> None:
    table = sinusoids(6, 5)
    assert table.shape == (6, 5)
    assert float(table[3, 2]) == pytest.approx(float(torch.sin(torch.tensor(3 / 10000 ** (2 / 5)))), rel=1e-6)
    assert float(table[3, 3]) == pytest.approx(float(torch.cos(torch.tensor(3 / 10000 ** (2 / 5)))), rel=1e-6)


def test_patches_row_by_row() -> None:
    image, geometry = Shape(3, (4, 6)), Patches((2, 3))
    weights = {"weight": WeightLaw(18, 7, 0.1)}
    layer = made(node("a", "patch_embedding", ["input"], [image], Shape(7, (4,)), weights=weights, geometry=geometry))
    x = tensor(image)
    patches = [x[:, :, i : i + 2, j : j + 3].flatten(1) for i in (0, 2) for j in (0, 3)]
    check(layer, torch.stack([patch @ layer.weight.flatten(1).T for patch in patches], 1), x)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "batchnorm": lambda x: F.batch_norm(x, None, None, training=True),
    "groupnorm": lambda x: F.group_norm(x, 4),
    "instancenorm": F.instance_norm,
    "layernorm": lambda x: (x - x.mean(1, True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt(),
    "rmsnorm": lambda x: x / (x.square().mean(1, True) + 1e-6).sqrt(),
    "local_response_norm": lambda x: F.local_response_norm(x[..., None], 5, 5 * 1e-4, 0.75, 2.0)[..., 0],
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", [VECTOR, TOKENS, IMAGE], ids=str)
def test_norms(name: str, shape: Shape) -> None:
    parameters = {"groups": 4, "scale": 1.5, "shift": 0.25} if name != "local_response_norm" else {}
    if name == "rmsnorm":
        parameters.pop("shift")
    if name == "instancenorm" and shape is VECTOR:
        with pytest.raises(ImplementationError, match="at least two positions"):
            build(node("a", name, ["input"], [shape], None, parameters))
        return
    layer, x = made(node("a", name, ["input"], [shape], None, parameters)), tensor(shape)
    first = x.movedim(shape.channel_axis, 1)
    expected = NORMS[name](first) * parameters.get("scale", 1.0) + parameters.get("shift", 0.0)
    check(layer, expected.movedim(1, shape.channel_axis), x)


def test_batchnorm_in_eval_mode_uses_running_statistics() -> None:
    parameters = {"running_mean": 0.5, "running_var": 4.0, "eps": 0.0}
    x = tensor(IMAGE)
    declared = made(node("a", "batchnorm", ["input"], [IMAGE], None, {**parameters, "mode": "eval"}))
    switched = made(node("a", "batchnorm", ["input"], [IMAGE], None, parameters)).eval()
    check(declared, (x - 0.5) / 2, x)
    check(switched, (x - 0.5) / 2, x)


@pytest.mark.parametrize(("size", "channels"), [(5, 12), (4, 12), (5, 1), (5, 2), (1, 3)])
def test_local_response_norm_at_the_first_and_last_channels(size: int, channels: int) -> None:
    shape = Shape(channels, (2, 3))
    parameters = {"size": size, "alpha": 0.3, "beta": 0.6, "offset": 1.0}
    x = tensor(shape)
    layer = made(node("a", "local_response_norm", ["input"], [shape], None, parameters))
    check(layer, F.local_response_norm(x, size, 0.3 * size, 0.6, 1.0), x)


def test_pools() -> None:
    x, y = tensor(IMAGE), tensor(TOKENS)
    check(made(pool("a", "input", IMAGE, "max_pool2d", 3, 2, padding=1)), F.max_pool2d(x, 3, 2, 1), x)
    check(made(pool("a", "input", TOKENS, "max_pool1d", 2, 2)), F.max_pool1d(y.transpose(1, 2), 2).transpose(1, 2), y)
    for mode, counts in (("zero", True), ("ignore", False)):
        layer = made(pool("a", "input", IMAGE, "avg_pool2d", 3, 2, padding=1, mode=mode))
        check(layer, F.avg_pool2d(x, 3, 2, 1, count_include_pad=counts), x)
    adaptive = node("a", "adaptive_avg_pool2d", ["input"], [IMAGE], Shape(12, (3, 3)), geometry=Adaptive((3, 3)))
    check(made(adaptive), F.adaptive_avg_pool2d(x, 3), x)
    check(made(node("a", "global_avg_pool", ["input"], [IMAGE], VECTOR, geometry=Collapse())), x.mean((2, 3)), x)
    check(made(node("a", "token_mean", ["input"], [TOKENS], VECTOR, geometry=Collapse())), y.mean(1), y)
    check(made(flatten("a", "input", IMAGE)), x.flatten(1), x)
    check(made(flatten("a", "input", TOKENS)), y.flatten(1), y)


@pytest.mark.parametrize("shape", [VECTOR, TOKENS, IMAGE], ids=str)
def test_merges(shape: Shape) -> None:
    x, y, z = (tensor(shape, seed) for seed in range(3))
    scales = {"skip_scale": 0.5, "branch_scale": 2.0}
    ports = ["skip", "branch"]
    check(made(node("a", "residual", ["p", "q"], [shape] * 2, None, scales, ports=ports)), x / 2 + 2 * y, x, y)
    check(made(node("a", "sum", ["p", "q", "r"], [shape] * 3)), x + y + z, x, y, z)
    check(made(node("a", "multiply", ["p", "q"], [shape] * 2)), x * y, x, y)
    wide = Shape(24, shape.positions)
    check(made(node("a", "concat", ["p", "q"], [shape] * 2, wide)), torch.cat([x, y], shape.channel_axis), x, y)
    check(made(node("a", "scale", ["p"], [shape], None, {"factor": 3.0})), 3 * x, x)
    check(made(node("a", "fork", ["p"], [shape])), x, x)
    check(made(node("a", "identity", ["p"], [shape])), x, x)


def test_pointwise_functions() -> None:
    x = tensor(VECTOR)
    references: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, float]]] = {
        "relu": (F.relu, {}),
        "leaky_relu": (lambda t: F.leaky_relu(t, 0.2), {"slope": 0.2}),
        "gelu": (F.gelu, {}),
        "gelu_tanh": (lambda t: F.gelu(t, approximate="tanh"), {}),
        "hardtanh": (lambda t: t.clamp(-0.5, 0.25), {"low": -0.5, "high": 0.25}),
        "softplus": (lambda t: F.softplus(3 * t) / 3, {"beta": 3.0}),
        "elu": (lambda t: F.elu(t, 0.5), {"alpha": 0.5}),
        "selu": (F.selu, {}),
        "prelu": (lambda t: F.leaky_relu(t, 0.25), {}),
    }
    for name, (reference, parameters) in references.items():
        check(made(node("a", name, ["p"], [VECTOR], None, parameters)), reference(x), x)


def test_a_function_of_a_known_name_but_other_values_is_not_replaced() -> None:
    x = tensor(VECTOR)
    mine = made(node("a", "relu", ["p"], [VECTOR], implementation="pointwise", function=lambda t: 2 * t.clamp_min(0)))
    check(mine, 2 * F.relu(x), x)
    own = made(
        node("a", "swish2", ["p"], [VECTOR], implementation="swish2", function=lambda t: t * torch.sigmoid(2 * t))
    )
    check(own, x * torch.sigmoid(2 * x), x)


def test_dropout_and_noise_are_fixed_by_the_seed() -> None:
    x = tensor(VECTOR).float()
    for name, parameters in (("dropout", {"rate": 0.25}), ("gaussian_noise", {"std": 0.3})):
        layer: Any = build(node("a", name, ["p"], [VECTOR], None, parameters))
        assert torch.equal(layer(x), x)  # no noise drawn yet
        layer.redraw_noise(0, "a", tuple(x.shape))
        first = layer(x)
        assert torch.equal(first, layer(x))
        layer.redraw_noise(1, "a", tuple(x.shape))
        assert not torch.equal(first, layer(x))
        layer.redraw_noise(0, "a", tuple(x.shape))
        assert torch.equal(first, layer(x))
        assert torch.equal(layer.eval()(x), x)
    layer = build(node("a", "dropout", ["p"], [VECTOR], None, {"rate": 0.25}))
    layer.redraw_noise(0, "a", (200, 500))
    values, counts = layer.noise.unique(return_counts=True)
    assert values.tolist() == pytest.approx([0.0, 4 / 3])
    assert float(counts[0] / counts.sum()) == pytest.approx(0.25, abs=0.006)
    evaluated = build(node("a", "dropout", ["p"], [VECTOR], None, {"mode": "eval"}))
    assert torch.equal(evaluated(x), x)


@pytest.mark.parametrize("over", ["channels", "positions", "both"])
@pytest.mark.parametrize("shape", [TOKENS, IMAGE], ids=str)
def test_mix(over: str, shape: Shape) -> None:
    sizes = {"channels": 12, "positions": shape.position_count, "both": shape.features}
    weights = {"weight": WeightLaw(sizes[over], sizes[over], 0.1, bias_std=0.1)}
    layer = made(node("a", "mix", ["p"], [shape], None, {"over": over}, weights))
    x = tensor(shape)
    rows = x.movedim(shape.channel_axis, -1).reshape(3, -1, 12)
    if over == "positions":
        mixed = torch.einsum("ntc,st->nsc", rows, layer.weight) + layer.bias[:, None]
    elif over == "channels":
        mixed = rows @ layer.weight.T + layer.bias
    else:
        mixed = (rows.flatten(1) @ layer.weight.T + layer.bias).reshape(rows.shape)
    check(layer, mixed.reshape(3, *shape.positions, 12).movedim(-1, shape.channel_axis), x)


def test_unknown_implementation_names_the_component_and_guesses() -> None:
    with pytest.raises(ImplementationError, match=r"block\.0\.conv: .*'conv4d'; did you mean 'conv[123]d'"):
        build(node("block.0.conv", "conv4d", ["p"], [IMAGE]))
    with pytest.raises(ImplementationError, match="a: 5 groups do not divide 12 channels"):
        build(node("a", "groupnorm", ["p"], [IMAGE], None, {"groups": 5}))
    with pytest.raises(ImplementationError, match="a: cannot build 'linear'"):
        build(node("a", "linear", ["p"], [VECTOR]))


def test_no_layer_learns() -> None:
    assert not any(parameter.requires_grad for parameter in made(linear("a", "input", VECTOR, 4)).parameters())
    assert {"linear", "conv2d", "attention", "forward", "mix", "pointwise"} <= set(implementations())
