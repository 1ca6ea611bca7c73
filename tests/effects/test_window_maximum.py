"""Maxima over windows: order statistics in closed form, photographs, and what a pool selects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from lensnet.levels.signal import Law, Signal
from lensnet.measure.estimators.pools import window_products
from lensnet.measure.fields import channel_mean, channel_product
from lensnet.network.geometry import Window
from lensnet.network.shape import Shape
from lensnet.predict.gaussian_copula import CorrelationTable
from lensnet.predict.window_maximum import selected_mean, window_maximum
from lensnet.predict.window_taps import tap_table
from tests.effects.monte_carlo import place

POOL = Window((3, 3), (2, 2), (0, 0), (1, 1), "ignore")


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def unit_signal(side: int, std: float = 1.0, mean: float = 0.0) -> Signal:
    level, variance = np.full((1, side, side), mean), np.full((1, side, side), std**2)
    return Signal(level, variance + level**2, Law(level, variance, np.inf, "input"))


# Mean and variance of the largest of k independent standard normals: Clark 1961, David and Nagaraja 2003.
@pytest.mark.parametrize(
    ("kernel", "mean", "variance"),
    [
        ((1, 2), 0.5641896, 0.6816901),
        ((1, 3), 0.8462844, 0.5594672),
        ((2, 2), 1.0293754, 0.4917152),
        ((3, 3), 1.4850132, 0.3573533),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_equally_correlated_taps(kernel: tuple[int, int], mean: float, variance: float, rho: float) -> None:
    window = Window(kernel, kernel, (0, 0), (1, 1), "ignore")
    found = window_maximum(window, (6, 6), unit_signal(6, std=2.0), rho).result
    assert np.mean(found.mean) == pytest.approx(2 * np.sqrt(1 - rho) * mean, abs=0.01)
    spread = 4 * (rho + (1 - rho) * variance)
    assert np.mean(found.second_moment) == pytest.approx(spread + 4 * (1 - rho) * mean**2, rel=0.01)
    np.testing.assert_allclose(found.wins.sum(axis=-1), 1.0)


def test_outside_taps_never_win() -> None:
    window = Window((3, 3), (2, 2), (1, 1), (1, 1), "ignore")
    found = window_maximum(window, (5, 5), unit_signal(5), 0.3).result
    assert np.all(found.wins[:, ~tap_table(window, (5, 5)).inside] == 0)
    assert found.mean[0, 0, 0] < found.mean[0, 1, 1]  # 4 real taps against 9


def test_the_correlation_behind_rectified_values() -> None:
    """Arc-cosine kernel of order 1 (Cho and Saul 2009), centred, read backwards."""
    table = CorrelationTable((relu,), np.array([-0.1, 0.1]), np.array([-0.1, 0.1]))
    for rho in (0.1, 0.5, 0.9, 0.99):
        kernel = (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)
        values = (kernel - 1 / (2 * np.pi)) / (0.5 - 1 / (2 * np.pi))
        found = float(table(np.array([values]), np.array([0.0]), np.array([1.0]))[0])
        assert 1 - found == pytest.approx(1 - rho, rel=0.02)


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    from sklearn.datasets import load_sample_images

    crops = [
        image[start : start + 224, start : start + 224] for image in load_sample_images().images for start in (0, 150)
    ]
    x = torch.tensor(np.stack(crops)).permute(0, 3, 1, 2).float()
    return (x - x.mean()) / x.std()


def first_layer(photographs: torch.Tensor, seed: int) -> tuple[torch.Tensor, Signal, np.ndarray, Shape]:
    """AlexNet's first convolution with He weights and its rectifier: pre-activations, signal and products of taps."""
    weight = torch.randn(96, 3, 11, 11, generator=torch.Generator().manual_seed(seed)) * (2 / 363) ** 0.5
    z = functional.conv2d(photographs, weight, stride=4, padding=2).requires_grad_()
    x, shape = z.detach().relu(), Shape(96, tuple(z.shape[2:]))
    moments = [channel_mean(z.detach(), shape), channel_product(z.detach(), z.detach(), shape)]
    mean, second = (np.asarray(value, dtype=float) for value in moments)
    law = Law(mean, second - mean**2, 363, "conv", (relu,))
    signal = Signal(np.asarray(channel_mean(x, shape)), np.asarray(channel_product(x, x, shape)), law)
    node = place("max_pool2d", shape, len(x), kernel=3, stride=2)
    return z, signal, window_products(x, shape, node).numpy(), shape


def test_photographs_forward_and_backward(photographs: torch.Tensor) -> None:
    forward, backward, below, naive = [], [], [], []
    for seed in range(4):
        z, signal, products, shape = first_layer(photographs, seed)
        x = z.relu()
        x.retain_grad()
        y = functional.max_pool2d(x, 3, 2)
        g = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
        y.backward(g)
        pool = window_maximum(POOL, shape.positions, signal, products)
        arriving = np.asarray(channel_product(g, g, Shape(96, tuple(y.shape[2:]))))
        forward.append(float(pool.result.second_moment.mean()) / float((y.detach() ** 2).mean()) - 1)
        gradient = pool.taps.give(pool.result.wins * arriving.reshape(len(arriving), -1, 1))
        backward.append(float(gradient.mean()) / float((x.grad**2).mean()) - 1)
        passed = selected_mean(pool, lambda value: (value > 0).astype(float), arriving) * gradient
        below.append(float(passed.mean()) / float((z.grad**2).mean()) - 1)
        independent = window_maximum(POOL, shape.positions, signal, 0.0)
        naive.append(float(independent.result.second_moment.mean()) / float((y.detach() ** 2).mean()) - 1)
    assert abs(np.mean(forward)) < 0.015 and max(map(abs, forward)) < 0.03
    assert abs(np.mean(backward)) < 0.01
    assert abs(np.mean(below)) < 0.02  # a rectifier that took half of the gradient would be 25 % low
    assert np.mean(naive) > 0.2  # independent taps are not an option
