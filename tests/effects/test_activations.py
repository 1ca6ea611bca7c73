"""The activation files: their formulas are torch's functions, and the numbers that their texts quote are right."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad

from lensnet.algebra.tape import compile_tape
from lensnet.catalog.catalog import catalog
from lensnet.catalog.locate import data_folder
from lensnet.language.formula import evaluate_number, parse_formula

TORCH = {
    "relu": ({}, F.relu),
    "leaky_relu": ({"slope": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
    "prelu": ({}, lambda x: F.prelu(x, torch.tensor([0.25], dtype=x.dtype))),
    "abs": ({}, torch.abs),
    "erf": ({}, torch.erf),
    "gelu": ({}, F.gelu),
    "gelu_tanh": ({}, lambda x: F.gelu(x, approximate="tanh")),
    "silu": ({}, F.silu),
    "tanh": ({}, torch.tanh),
    "sigmoid": ({}, torch.sigmoid),
    "softplus": ({"beta": 2.5}, lambda x: F.softplus(x, 2.5, threshold=100)),
    "hardtanh": ({"low": -0.5, "high": 2}, lambda x: F.hardtanh(x, -0.5, 2)),
    "hardswish": ({}, F.hardswish),
    "elu": ({"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    "selu": ({}, F.selu),
    "mish": ({}, F.mish),
    "sin": ({"frequency": 2.5}, lambda x: torch.sin(2.5 * x)),
    "cos": ({"frequency": 0.5}, lambda x: torch.cos(0.5 * x)),
    "square": ({}, torch.square),
    "step": ({}, lambda x: (torch.sign(x) + 1) / 2),
    "sign": ({}, torch.sign),
    "identity": ({}, lambda x: x),
}

# Mean, second moment and second moment of the derivative at N(0, 1), as the texts of the components quote them.
QUOTED = {
    "relu": (0.399, 0.5, 0.5),
    "prelu": (0.299, 0.531, 0.531),
    "abs": (0.798, 1, 1),
    "erf": (0, 0.465, 0.569),
    "gelu": (0.282, 0.425, 0.456),
    "silu": (0.207, 0.356, 0.379),
    "tanh": (0, 0.394, 0.464),
    "sigmoid": (0.5, 0.293, 0.0448),
    "softplus": (0.806, 0.921, 0.293),
    "hardtanh": (0, 0.516, 0.683),
    "hardswish": (0.166, 0.332, 0.359),
    "elu": (0.161, 0.645, 0.668),
    "selu": (0, 1, 1.0716),
    "mish": (0.240, 0.452, 0.479),
    "sin": (0, 0.432, 0.568),
    "cos": (0.607, 0.568, 0.432),
    "square": (1, 3, 4),
    "step": (0.5, 0.5, 0),
    "sign": (0, 1, 0),
    "identity": (0, 1, 1),
}


def test_every_activation_of_the_catalogue_is_checked():
    assert {file.stem for file in (data_folder("components") / "activation").glob("*.yaml")} == set(TORCH)


def function_of(name, given=None):
    """The component's formula as a tape in x, and the values of its symbols."""
    component = catalog()[name]
    values = {}
    for parameter, spec in component.parameters.items():
        values[spec.symbol or parameter] = (given or {}).get(parameter, evaluate_number(spec.default, {}))
    return compile_tape(parse_formula(component.function, ["x", *values])), values


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_formula_is_torchs_function(name, dtype):
    given, native = TORCH[name]
    tape, values = function_of(name, given)
    x = torch.linspace(-30, 30, 4000).to(dtype)
    ours, theirs = tape.torch({"x": x, **values}), native(x)
    assert ours.dtype == dtype
    scale = theirs.abs().clamp(min=1)
    assert ((ours - theirs).abs() / scale).max() < (1e-12 if dtype == torch.float64 else 4e-6)


@pytest.mark.parametrize("name", TORCH)
def test_the_gradient_is_torchs_and_finite_far_out(name):
    given, native = TORCH[name]
    tape, values = function_of(name, given)
    for x in (torch.linspace(-6.01, 6, 800), torch.tensor([-1e4, -200.0, -95.0, 95.0, 200.0, 1e4])):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ours = tape.torch({"x": a, **values})
        assert torch.isfinite(ours).all()
        if ours.requires_grad:
            ours.sum().backward()
        native(b).sum().backward()
        got = a.grad if a.grad is not None else torch.zeros_like(b.grad)
        assert torch.isfinite(got).all()
        assert torch.allclose(got, b.grad, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", QUOTED)
def test_the_numbers_to_remember_are_right(name):
    tape, values = function_of(name)
    breaks = [evaluate_number(kink, values) for kink in catalog()[name].spec.kinks or []]

    def expectation(f):
        total = 0.0
        edges = sorted({-12.0, *breaks, 12.0})
        for low, high in zip(edges, edges[1:], strict=False):
            total += quad(lambda z: f(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), low, high, limit=200)[0]
        return total

    def value(z):
        return float(tape({"x": np.float64(z), **values}))

    slope = tape.derivative("x")

    def derivative(z):
        return float(slope({"x": np.float64(z), **values}))

    mean, second, gradient = QUOTED[name]
    assert expectation(value) == pytest.approx(mean, abs=6e-4)
    assert expectation(lambda z: value(z) ** 2) == pytest.approx(second, abs=6e-4)
    assert expectation(lambda z: derivative(z) ** 2) == pytest.approx(gradient, abs=6e-4)
