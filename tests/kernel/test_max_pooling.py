"""Maxima of pairs of windows: order statistics, Monte Carlo over the Gaussian field, and what a rectifier passes."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import FullPairs
from lensnet.network.graph import Network
from lensnet.predict.kernel.propagate import propagate, propagate_back
from tests.kernel.networks import network

SIDE, CHANNELS = 5, 120_000
OVERLAP = "{name: pool, component: max_pool2d, kernel: 3, stride: 2, padding: 1}"


def pooled(function: str, pool: str = OVERLAP, side: int = SIDE) -> Network:
    before = "" if function == "identity" else f"- {{name: f, component: {function}}}\n"
    return network(f"{before}- {pool}\n", channels=8, batch=2, positions=f"[{side}, {side}]")


def field(side: int, reach: float, alike: float) -> np.ndarray:
    """Covariance of two examples on a grid, smooth over `reach` positions, of sizes that differ from place to place."""
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    squared = ((place[:, None] - place[None]) ** 2).sum(-1)
    one = np.exp(-squared / (2 * reach**2)) if reach else np.eye(len(place))
    size = np.tile(1 + 0.4 * np.sin(place[:, 0] + 2 * place[:, 1]), 2)
    return np.kron(np.array([[1, alike], [alike, 1]]), one) * np.outer(size, size)


def gaussian(side: int, pairs: np.ndarray) -> Covariance:
    layout = FullPairs(2, (side, side))
    mean = np.zeros(layout.field_shape)
    return Covariance(mean, pairs, layout, Population("input", 8, float("inf"), mean, pairs, layout))


def drawn(pairs: np.ndarray, function: str, side: int = SIDE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Monte Carlo over channels: the maxima `(N_out, channels)`, and who wins: flat sample indices, and their slope."""
    root = np.linalg.cholesky(pairs + 1e-9 * np.eye(len(pairs)))
    g = root @ np.random.default_rng(0).standard_normal((len(pairs), CHANNELS))
    x = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "identity": lambda z: z}[function](g)
    slope = {"relu": lambda z: z > 0, "tanh": lambda z: 1 - np.tanh(z) ** 2, "identity": np.ones_like}[function](g)
    padded = np.full((2, side + 2, side + 2, CHANNELS), -np.inf)
    padded[:, 1:-1, 1:-1] = x.reshape(2, side, side, -1)
    index = np.zeros((2, side + 2, side + 2), int)
    index[:, 1:-1, 1:-1] = np.arange(2 * side * side).reshape(2, side, side)
    largest, winner = [], []
    for e in range(2):
        for i in range(0, side, 2):
            for j in range(0, side, 2):
                taps = padded[e, i : i + 3, j : j + 3].reshape(9, -1)
                first = taps.argmax(axis=0)
                largest.append(taps[first, np.arange(CHANNELS)])
                winner.append(index[e, i : i + 3, j : j + 3].ravel()[first])
    return np.array(largest), np.array(winner), np.take_along_axis(slope, np.array(winner), axis=0)


@pytest.mark.parametrize(("function", "reach", "alike"), [("relu", 1.5, 0.9), ("tanh", 0, 0.7), ("identity", 3, 0.5)])
def test_maxima_of_pairs_of_windows(function: str, reach: float, alike: float) -> None:
    pairs, net = field(SIDE, reach, alike), pooled(function)
    kernels = propagate(net, gaussian(SIDE, pairs))
    found, error = kernels.states["pool"], kernels.errors["pool"]
    largest, winner, slope = drawn(pairs, function)
    truth = largest @ largest.T / CHANNELS
    size = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    noise = 4 * np.sqrt(2 / CHANNELS)
    assert np.max(np.abs(found.pairs - truth) / size) < error + noise
    assert error < 0.025
    np.testing.assert_allclose(found.mean.ravel(), largest.mean(axis=1), atol=noise * np.sqrt(size.max()))

    probe = found.layout.same_place  # one question to both examples
    back = propagate_back(kernels, probe)
    asked = np.argwhere(probe)
    sides = [np.zeros(pairs.shape), np.zeros(pairs.shape)]
    for u, v in asked:
        at = winner[u] * len(pairs) + winner[v]
        for total, weight in zip(sides, (np.ones(CHANNELS), slope[u] * slope[v]), strict=True):
            total += np.bincount(at, weight, minlength=total.size).reshape(total.shape) / CHANNELS
    for edge, true in ((("pool", "x"), sides[0]), (("f", "x"), sides[1])):
        if edge in back.pairs:
            off = np.abs(back.pairs[edge] - true)
            assert off.max() < 0.05 * np.diag(true).max(), edge
            np.testing.assert_allclose(np.trace(back.pairs[edge]), np.trace(true), rtol=0.01)


def test_order_statistics_of_independent_taps() -> None:
    """Mean and variance of the largest of four normals (David and Nagaraja 2003); winners are mostly active."""
    pool = "{name: pool, component: max_pool2d, kernel: 2}"
    pairs = np.eye(32)
    kernels = propagate(pooled("relu", pool, 4), gaussian(4, pairs))
    plain = propagate(pooled("identity", pool, 4), gaussian(4, pairs)).states["pool"]
    np.testing.assert_allclose(plain.mean, 1.0293754, rtol=2e-3)
    np.testing.assert_allclose(np.diag(plain.pairs), 1.0293754**2 + 0.4917152, rtol=4e-3)
    np.testing.assert_allclose(plain.pairs[0, 1:], 1.0293754**2, rtol=4e-3)
    back = propagate_back(kernels, kernels.states["pool"].layout.same)
    below = np.diag(back.pairs["f", "x"])
    np.testing.assert_allclose(below, 15 / 64, rtol=0.01)  # a rectifier that stops half would leave 1/8


def test_a_window_of_one_tap_changes_nothing() -> None:
    pairs, pool = field(4, 1.0, 0.8), "{name: pool, component: max_pool2d, kernel: 1}"
    kernels = propagate(pooled("relu", pool, 4), gaussian(4, pairs))
    size = np.sqrt(np.outer(np.diag(kernels.states["f"].pairs), np.diag(kernels.states["f"].pairs)))
    off = np.abs(kernels.states["pool"].pairs - kernels.states["f"].pairs) / size
    assert off.max() < 1e-3 + kernels.errors["pool"]
    rectified = np.full(pairs.shape, 1.0)
    through = propagate_back(kernels, rectified).pairs["f", "x"]
    cosine = pairs / np.sqrt(np.outer(np.diag(pairs), np.diag(pairs)))
    expected = (np.pi - np.arccos(np.clip(cosine, -1, 1))) / (2 * np.pi)  # arc-cosine kernel of order 0
    same_place = kernels.states["f"].layout.same_place > 0
    np.testing.assert_allclose(through[same_place], expected[same_place], rtol=0.01)
