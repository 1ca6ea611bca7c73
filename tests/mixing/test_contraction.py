"""A contraction of two signals against closed forms that use no measured Gram matrix, and against plain einsum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lensnet.levels.signal import Signal
from lensnet.measure.estimators import signal_quantities
from lensnet.measure.layers.registry import build
from lensnet.network.contraction import operands_of
from lensnet.network.graph import Node
from lensnet.network.shape import Shape
from lensnet.predict.moments.backward import backward
from lensnet.predict.moments.forward import forward
from tests.effects.monte_carlo import place

DRAWS = 200


def _flat(value: float, positions: tuple[int, ...]) -> np.ndarray:
    return np.full((1, *positions), value)


def _signals(node: Node, moments: list[tuple[float, float]], sides: dict[tuple[str, str], Any]) -> list[Signal]:
    out = []
    for port, shape, (mean, second) in zip(node.ports, node.shapes_in, moments, strict=True):
        mine = {name: value for (at, name), value in sides.items() if at == port}
        out.append(Signal(_flat(mean, shape.positions), _flat(second, shape.positions), side=mine))
    return out


def _alike(source: torch.Generator, positions: int, channels: int, rho: float, examples: int = 4) -> Tensor:
    """(N, T, C) of unit power; two positions have the correlation rho."""
    own, common = (torch.randn(examples, n, channels, generator=source) for n in (positions, 1))
    return own * (1 - rho) ** 0.5 + common * rho**0.5


@pytest.mark.parametrize("rho", [(0.0, 0.6), (0.4, 0.6), (1.0, 1.0)])
def test_terms_that_agree_add_as_amplitudes(rho: tuple[float, float]) -> None:
    """K + K (K - 1) rho_a rho_b times the powers, predicted from correlations and seen over draws."""
    count, (left, right) = 9, (24, 16)
    node = place("contract", [Shape(left, (count,)), Shape(right, (count,))], terms=count, left_over="positions",
                 right_over="positions")  # fmt: skip
    layer, seen = build(node), []
    for draw in range(DRAWS):
        source = torch.Generator().manual_seed(draw)
        a, b = (_alike(source, count, width, one) for width, one in zip((left, right), rho, strict=True))
        seen.append(float(layer(a, b).square().mean()))
    exact = count + count * (count - 1) * rho[0] * rho[1]
    error = np.std(seen) / DRAWS**0.5
    assert abs(np.mean(seen) - exact) < 4 * error < 0.1 * exact
    grams = {("left", "left_gram"): np.array([rho[0]]), ("right", "right_gram"): np.array([rho[1]])}
    found = forward(node, _signals(node, [(0, 1), (0, 1)], grams))[0]
    assert float(found.second_moment.mean()) == pytest.approx(exact, rel=1e-9)


def test_a_signal_with_itself_is_a_wishart_matrix() -> None:
    """mean over i, j of (x_i . x_j)^2 = (K^2 + 2K)/T + K (T - 1)/T, from Gram matrices of signals that are one."""
    count, width = 6, 20
    node = place("contract", [Shape(width, (count,))] * 2, terms=width, rows=count, columns=count)
    predicted, means = [], []
    for draw in range(DRAWS):
        x = torch.randn(2, count, width, generator=torch.Generator().manual_seed(draw))
        sides = {key: value.numpy() for key, value in signal_quantities(node, x, x).items()}
        q, m = x.double().square().mean(-1).numpy(), x.double().mean(-1).numpy()
        signals = [Signal(m, q, side={n: v for (p, n), v in sides.items() if p == port}) for port in node.ports]
        found = forward(node, signals, drawn=False)[0]
        predicted.append(float(found.second_moment.mean()))
        means.append(float(found.mean.mean()))
    exact = (width**2 + 2 * width + width * (count - 1)) / count
    assert np.mean(predicted) == pytest.approx(exact, abs=4 * np.std(predicted) / DRAWS**0.5)
    assert np.mean(means) == pytest.approx(width / count, abs=4 * np.std(means) / DRAWS**0.5)


def test_gradients_of_independent_terms_add_as_powers() -> None:
    """Left: as many terms as the right brings along; right: the same the other way round; seen over draws."""
    node = place("contract", [Shape(12, (5,)), Shape(12, (7,))], terms=3, groups=4, rows=5, columns=7)
    layer, seen = build(node), []
    for draw in range(DRAWS):
        source = torch.Generator().manual_seed(draw)
        a, b = (torch.randn(3, n, 12, generator=source).mul(s).requires_grad_() for n, s in ((5, 1.5), (7, 0.5)))
        y = layer(a, b)
        assert y.shape == (3, 4, 5, 7)
        y.backward(torch.randn(y.shape, generator=source))  # type: ignore[no-untyped-call]
        assert a.grad is not None and b.grad is not None
        seen.append((float(a.grad.square().mean()), float(b.grad.square().mean())))
    signals = _signals(node, [(0, 2.25), (0, 0.25)], {})
    found = backward(node, signals, np.ones((1, 5, 7)))
    for port, values in zip(node.ports, np.transpose(seen), strict=True):
        field = found[port].field
        assert field is not None
        exact = {"left": 7 * 0.25, "right": 5 * 2.25}[port]
        assert float(field.mean()) == pytest.approx(exact, rel=1e-9)
        assert abs(np.mean(values) - exact) < 4 * np.std(values) / DRAWS**0.5


def test_axes_are_cut_and_joined_as_einsum_has_them() -> None:
    """Windows that meet place by place, groups of channels, channels of both sides that stay."""
    shapes = [Shape(4 * 2, (3, 5)), Shape(4 * 6, (3, 5))]
    node = place("contract", shapes, terms=5, left_over="columns", right_over="columns", groups=4, shared=1, rows=3)
    a, b = (torch.randn(2, shape.channels, 3, 5, generator=torch.Generator().manual_seed(1)) for shape in shapes)
    wanted = torch.einsum("nhcwk,nhdwk->nwhcd", a.unflatten(1, (4, 2)), b.unflatten(1, (4, 6))).flatten(2)
    assert torch.allclose(build(node)(a, b), wanted, atol=1e-5)
    left = operands_of(node)[0]
    field = np.arange(30.0).reshape(2, 3, 5)
    assert np.array_equal(left.joined(left.cut(field[..., None])[:, :, 0, :, :, 0]), field)
