"""ReduNet's operators, gates and layers against the papers' arithmetic, and its claims about shifts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensnet.measure.redunet import step
from lensnet.measure.redunet.coefficients import Transform
from lensnet.measure.redunet.operators import construct
from lensnet.network.shape import Shape
from tests.coding_rate import reference

ONE = torch.ones(1, dtype=torch.float64)


@pytest.mark.parametrize("by_label", [False, True], ids=["soft gates", "label gates"])
@pytest.mark.parametrize("lam", [10.0, 500.0])
@pytest.mark.parametrize(("d", "m", "k"), [(8, 24, 3), (40, 30, 3), (40, 200, 5)], ids=str)
def test_ten_layers_agree_with_the_published_algorithm(d: int, m: int, k: int, lam: float, by_label: bool) -> None:
    """Fewer and more examples than channels, classes of unequal size: every way through the factors is used."""
    z = np.random.default_rng(0).standard_normal((d, m))
    y = np.arange(m) % k
    y[: m // 5] = 0
    layers = reference.redunet(z, y, 10, 0.1, 0.5, lam, by_label)
    labels, v = torch.tensor(y), step.project(torch.tensor(z.T))[None]
    for layer in layers[:-1]:
        made = construct(v, labels, k, 0.1)
        gates = step.soft_gate(step.training_norms(made, v, ONE), lam)
        np.testing.assert_allclose(v[0].T, layer.features, atol=1e-10)
        np.testing.assert_allclose(made.operators.expansion[0], layer.E, atol=1e-10)
        np.testing.assert_allclose(made.operators.compression[:, 0], layer.C, atol=1e-10)
        if not by_label:
            np.testing.assert_allclose(gates.T, layer.gates, atol=1e-10)
        assert float(made.rates.total) == pytest.approx(layer.R, abs=1e-10)
        assert float(made.rates.conditional) == pytest.approx(layer.Rc, abs=1e-10)
        gates = step.one_hot(labels, k, v) if by_label else gates
        direction = step.ascent(made.operators, v, gates)
        with torch.no_grad():
            sparse = step.ascent(made.operators, v, gates)
        torch.testing.assert_close(direction, sparse, rtol=0, atol=1e-12)
        if by_label:
            torch.testing.assert_close(direction, step.ascent_by_label(made, v), rtol=0, atol=1e-12)
        v = step.project(v[0] + 0.5 * direction[0])[None]
    np.testing.assert_allclose(v[0].T, layers[-1].features, atol=1e-10)


@pytest.mark.parametrize("positions", [(7,), (8,), (4, 5), (3, 6)], ids=str)
def test_the_spectral_rate_is_that_of_all_shifts(positions: tuple[int, ...]) -> None:
    """R_circ = rate of the matrix of all circular shifts, over the number of positions, with the same alpha."""
    shape, m, eps2 = Shape(3, positions), 5, 0.3
    T = shape.position_count
    x = torch.randn(shape.tensor_shape(m), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    transform = Transform(shape)
    v = transform.forward(x)
    labels = torch.tensor([0, 1, 0, 1, 1])
    made = construct(v, labels, 2, eps2, transform.weights(v))
    channels_first = x.movedim(shape.channel_axis, 1)
    axes = tuple(range(2, 2 + len(positions)))
    shifts = [channels_first.roll(s, axes) for s in np.ndindex(*positions)]
    alpha = shape.channels / (m * eps2)

    def rate(rows: torch.Tensor, a: float) -> float:
        return float(np.linalg.slogdet(np.eye(rows.shape[1]) + a * (rows.T @ rows).numpy())[1]) / 2 / T

    every = torch.stack(shifts, 1).flatten(2)
    assert float(made.rates.total) == pytest.approx(rate(every.flatten(0, 1), alpha), rel=1e-12)
    expected = sum(
        n / m * rate(every[labels == j].flatten(0, 1), shape.channels / (n * eps2)) for j, n in ((0, 2), (1, 3))
    )
    assert float(made.rates.conditional) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(transform.backward(v), x)
    gates = step.one_hot(labels, 2, v)
    by_label = step.ascent_by_label(made, v)
    torch.testing.assert_close(by_label, step.ascent(made.operators, v, gates), rtol=0, atol=1e-12)


@pytest.mark.parametrize("m", [4, 30], ids=["fewer examples than channels", "more"])
def test_operators_of_every_frequency(m: int) -> None:
    shape, eps2 = Shape(5, (6,)), 0.2
    x = torch.randn(shape.tensor_shape(m), dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    labels, transform = torch.arange(m) % 2, Transform(shape)
    v = transform.forward(x)
    made = construct(v, labels, 2, eps2, transform.weights(v))
    gates = step.soft_gate(step.class_norms(made.operators, v, transform.weights(v)), 0.05)
    spectrum = np.fft.fft(x.numpy(), axis=1)  # (m, T, C), all frequencies
    norms = np.zeros((2, m))
    for t in range(6):
        V, y = spectrum[:, t].T, labels.numpy()
        operators = [reference.operator(V[:, y == j], eps2) for j in range(2)]
        norms += [np.linalg.norm(C @ V, axis=0) ** 2 for C in operators]
        if t <= 3:
            np.testing.assert_allclose(made.operators.expansion[t], reference.operator(V, eps2), atol=1e-10)
            np.testing.assert_allclose(made.operators.compression[:, t], operators, atol=1e-10)
    weights = np.exp(-0.05 * np.sqrt(norms))
    np.testing.assert_allclose(gates.T, weights / weights.sum(0), atol=1e-10)
    fast = step.soft_gate(step.training_norms(made, v, transform.weights(v)), 0.05)
    torch.testing.assert_close(fast, gates, rtol=0, atol=1e-10)


def test_a_shifted_signal_comes_out_shifted() -> None:
    shape = Shape(4, (6, 5))
    x = step.project(
        torch.randn(shape.tensor_shape(12), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    )
    transform, labels = Transform(shape), torch.arange(12) % 3

    v = transform.forward(x)
    made = construct(v, labels, 3, 0.1, transform.weights(v))

    def layer(x: torch.Tensor) -> torch.Tensor:
        v = transform.forward(x)
        gates = step.soft_gate(step.class_norms(made.operators, v, transform.weights(v)), 10.0)
        return step.project(x + 0.5 * transform.backward(step.ascent(made.operators, v, gates)))

    torch.testing.assert_close(layer(x.roll((2, 3), (2, 3))), layer(x).roll((2, 3), (2, 3)), rtol=0, atol=1e-12)


def test_the_orthonormal_transform_is_the_plain_one_at_another_distortion() -> None:
    shape = Shape(3, (8,))
    x = torch.randn(shape.tensor_shape(9), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(9) % 2
    made = []
    for transform, eps2 in ((Transform(shape), 0.2 * 8), (Transform(shape, orthonormal=True), 0.2)):
        v = transform.forward(x)
        made.append(construct(v, labels, 2, eps2, transform.weights(v)).rates)
    assert float(made[0].total) == pytest.approx(float(made[1].total), rel=1e-12)
    assert float(made[0].reduction) == pytest.approx(float(made[1].reduction), rel=1e-12)
