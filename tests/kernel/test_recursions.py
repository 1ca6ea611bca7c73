"""NNGP and NTK of whole networks against recursions written here by hand, to 1e-9 and better, fifty layers deep.

The recursions share no code with the package: arc-cosine and erf kernels from their papers, everything else by index.
"""

from __future__ import annotations

import itertools
from math import pi

import mpmath
import numpy as np
import pytest

from lensnet.predict.kernel.stack import Dense, stack_of
from lensnet.predict.kernel.tangent import nngp, ntk
from tests.kernel.networks import network

DEPTH = 50


def relu(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cho and Saul 2009, eq. 4 and 6, over 2: E relu relu and E step step."""
    size = np.sqrt(np.outer(np.diag(k), np.diag(k)))
    c = np.clip(k / size, -1, 1)
    np.fill_diagonal(c, 1.0)
    angle = np.arccos(c)
    return size * (np.sin(angle) + (pi - angle) * c) / (2 * pi), (pi - angle) / (2 * pi)


def erf(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Williams 1997, eq. 11, and its derivative by the covariance."""
    a = 1 + 2 * np.diag(k)
    size = np.outer(a, a)
    return 2 / pi * np.arcsin(2 * k / np.sqrt(size)), 4 / pi / np.sqrt(size - 4 * k**2)


def identity(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return k, np.ones_like(k)


FUNCTIONS = {"relu": relu, "erf": erf, "identity": identity}


def inputs(batch: int = 4, channels: int = 16) -> np.ndarray:
    x = np.random.default_rng(3).standard_normal((batch, channels))
    x[1] = 0.8 * x[0] + 0.6 * x[1]
    return x


@pytest.mark.parametrize(("name", "gain", "bias"), [("relu", 2**0.5, 0.0), ("relu", 1.3, 0.4), ("erf", 1.7, 0.2)])
def test_fifty_dense_layers(name: str, gain: float, bias: float) -> None:
    body = f"""
    - repeat: {DEPTH}
      name: layer
      body:
        - {{name: dense, component: linear, units: 300, gain: {gain!r}, bias_std: {bias}}}
        - {{name: act, component: {name}}}
    - {{name: head, component: linear, units: 3, gain: 1.1, bias_std: 0.1}}
    """
    x = inputs()
    k, theta = x @ x.T / 16, 0.0
    for _ in range(DEPTH):
        k = gain**2 * k + bias**2
        theta = gain**2 * theta + k
        k, slope = FUNCTIONS[name](k)
        theta = theta * slope
    k = 1.1**2 * k + 0.01
    theta = 1.1**2 * theta + k
    net = network(body)
    np.testing.assert_allclose(nngp(net, x), k, rtol=1e-9)
    np.testing.assert_allclose(ntk(net, x), theta, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "left", "gain", "bias"),
    [("relu", 0, 2**0.5, 0.0), ("relu", 0, 1.3, 0.2), ("leaky_relu", 0.01, 1.4, 0.1), ("abs", -1, 1.0, 0.0)],
)
def test_inputs_that_differ_in_their_last_digits(name: str, left: float, gain: float, bias: float) -> None:
    """A pair of angle 1e-6, one of unequal size, one that points almost the other way and no input: against 50 digits.

    Correlations in double precision have three digits of such a gap left; the kernels keep twelve. Numbers of few bits
    make the input's covariance exact.
    """
    x = np.round(inputs(5) * 2**10) / 2**10
    x[1], x[2], x[3], x[4] = x[0], 2 * x[0], -x[0], 0
    x[1:3, 3:6] += 2.0**-20
    x[3, 3:6] += 2.0**-2
    body = f"""
    - repeat: {DEPTH}
      name: layer
      body:
        - {{name: dense, component: linear, units: 300, gain: {gain!r}, bias_std: {bias}}}
        - {{name: act, component: {name}}}
    - {{name: head, component: linear, units: 3}}
    """
    net, both = network(body), list(itertools.product(range(5), repeat=2))
    with mpmath.workdps(50):
        law = [layer for layer in stack_of(net) or [] if isinstance(layer, Dense)][0]
        g, b, slant = mpmath.mpf(law.gain), mpmath.mpf(law.bias), mpmath.mpf(left)
        even, odd = (1 + slant**2) / 2, (1 - slant) ** 2 / (2 * mpmath.pi)
        k = {(i, j): mpmath.mpf(float(x[i] @ x[j] / 16)) for i, j in both}
        theta = dict.fromkeys(both, mpmath.mpf(0))
        for _ in range(DEPTH):
            k = {at: g * value + b for at, value in k.items()}
            theta = {at: g * theta[at] + k[at] for at in both}
            size = {(i, j): mpmath.sqrt(k[i, i] * k[j, j]) for i, j in both}
            cosine = {at: k[at] / size[at] if size[at] else mpmath.mpf(0) for at in both}
            angle = {at: mpmath.acos(min(cosine[at], 1)) for at in both}
            slope = {at: even - odd * angle[at] for at in both}  # u and v agree in sign but for angle/pi
            k = {at: size[at] * (cosine[at] * slope[at] + odd * mpmath.sin(angle[at])) for at in both}
            theta = {at: theta[at] * slope[at] for at in both}
        head = {at: theta[at] + k[at] for at in both}
        covariance, tangent = (np.reshape([float(of[at]) for at in both], (5, 5)) for of in (k, head))
    np.testing.assert_allclose(nngp(net, x), covariance, rtol=1e-12)
    np.testing.assert_allclose(ntk(net, x), tangent, rtol=1e-12)


def test_residual_blocks_with_a_norm() -> None:
    """x + b*W2 relu(W1 norm(x)): the tangent kernel counts both ways."""
    body = f"""
    - {{name: stem, component: linear, units: 200}}
    - repeat: {DEPTH}
      name: block
      body:
        - name: add
          component: residual
          branch_scale: 0.3
          branch:
            - {{component: layernorm, eps: 1e-5}}
            - {{component: linear, units: 150, gain: sqrt(2), bias_std: 0.2}}
            - {{component: relu}}
            - {{component: linear, units: 200}}
    - {{name: head, component: linear, units: 1}}
    """
    x = inputs()
    k = x @ x.T / 16
    theta = k.copy()
    for _ in range(DEPTH):
        size = np.sqrt(np.outer(np.diag(k) + 1e-5, np.diag(k) + 1e-5))
        hidden = 2 * k / size + 0.04
        inner = 2 * theta / size + hidden
        value, slope = relu(hidden)
        k, theta = k + 0.09 * value, theta + 0.09 * (inner * slope + value)
    theta = theta + k
    net = network(body)
    np.testing.assert_allclose(nngp(net, x), k, rtol=1e-9)
    np.testing.assert_allclose(ntk(net, x), theta, rtol=1e-9)


def test_standard_parametrisation_counts_weights_as_torch_does() -> None:
    body = """
    - {name: one, component: linear, units: 300, gain: 1.4, bias_std: 0.5}
    - {name: act, component: relu}
    - {name: two, component: linear, units: 2}
    """
    x = inputs()
    k = x @ x.T / 16
    first = 1.96 * k + 0.25
    value, slope = relu(first)
    expected = 300 * value + 1.0 * slope * (16 * k + 1)
    np.testing.assert_allclose(ntk(network(body), x, "standard"), expected, rtol=1e-12)


CONVOLUTIONS = [
    ("padding: 1", 3, 1, 1, "zero"),
    ("padding: 0", 3, 1, 0, "zero"),
    ("padding: 1, padding_mode: circular", 3, 1, 1, "circular"),
    ("padding: 1, stride: 2", 3, 2, 1, "zero"),
]


def taps(size: int, kernel: int, stride: int, padding: int, mode: str) -> list[list[int | None]]:
    """Input index of every tap of every output along one axis; None outside."""
    count = (size + 2 * padding - kernel) // stride + 1
    out: list[list[int | None]] = []
    for place in range(count):
        here = [place * stride - padding + tap for tap in range(kernel)]
        out.append([i % size if mode == "circular" else (i if 0 <= i < size else None) for i in here])
    return out


def convolve(k: np.ndarray, where: list[list[int | None]], variance: float) -> np.ndarray:
    """Sum over taps that two windows share, by loops; k is (E, H, W, E, H, W)."""
    n, h = len(where), k.shape[0]
    out = np.zeros((h, n, n, h, n, n))
    for y, x, v, u in itertools.product(range(n), repeat=4):
        for a, b in itertools.product(range(len(where[0])), repeat=2):
            i, j, s, t = where[y][a], where[x][b], where[v][a], where[u][b]
            if None not in (i, j, s, t):
                out[:, y, x, :, v, u] += variance * k[:, i, j, :, s, t]
    return out


def pairs(function: object, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = int(np.sqrt(k.size))
    value, slope = function(k.reshape(n, n))  # type: ignore[operator]
    return value.reshape(k.shape), slope.reshape(k.shape)


@pytest.mark.parametrize("head", ["flatten", "global_avg_pool"])
@pytest.mark.parametrize(("options", "kernel", "stride", "padding", "mode"), CONVOLUTIONS, ids=lambda v: str(v))
def test_convolutions(head: str, options: str, kernel: int, stride: int, padding: int, mode: str) -> None:
    """NNGP and NTK position by position (Novak et al. 2019; Arora et al. 2019), erf and ReLU."""
    body = f"""
    - {{name: one, component: conv2d, filters: 8, kernel: {kernel}, gain: 1.4, bias_std: 0.3, {options}}}
    - {{name: act, component: relu}}
    - {{name: two, component: conv2d, filters: 6, kernel: 2, gain: 1.2}}
    - {{name: act2, component: erf}}
    - {{name: pool, component: {head}}}
    - {{name: out, component: linear, units: 2, gain: 0.9}}
    """
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5))
    k = np.einsum("ecyx,fcvu->eyxfvu", x, x) / 3
    one = taps(5, kernel, stride, padding, mode)
    k = convolve(k, one, 1.96 / kernel**2) + 0.09
    theta = k
    k, slope = pairs(relu, k)
    theta = theta * slope
    two = taps(len(one), 2, 1, 0, "zero")
    k, theta = convolve(k, two, 1.44 / 4), convolve(theta, two, 1.44 / 4)
    theta = theta + k
    k, slope = pairs(erf, k)
    theta = theta * slope
    both = "eyxfyx->ef" if head == "flatten" else "eyxfvu->ef"
    count = k.shape[1] ** (2 if head == "flatten" else 4)
    k, theta = (np.einsum(both, a) / count for a in (k, theta))
    k, theta = 0.81 * k, 0.81 * theta + 0.81 * k
    net = network(body, channels=3, batch=2, positions="[5, 5]")
    np.testing.assert_allclose(nngp(net, x), k, rtol=1e-9)
    np.testing.assert_allclose(ntk(net, x), theta, rtol=1e-9)


def test_average_pools_and_transposed_convolutions() -> None:
    body = """
    - {name: up, component: conv_transpose2d, filters: 8, kernel: 3, stride: 2}
    - {name: act, component: relu}
    - {name: pool, component: avg_pool2d, kernel: 3, stride: 2, padding: 1}
    - {name: flat, component: flatten}
    - {name: out, component: linear, units: 2}
    """
    x = np.random.default_rng(0).standard_normal((2, 4, 3, 3))
    k = np.einsum("ecyx,fcvu->eyxfvu", x, x) / 4
    up = np.zeros((2, 7, 7, 2, 7, 7))
    for y, z, v, u, a, b in itertools.product(range(3), range(3), range(3), range(3), range(3), range(3)):
        up[:, 2 * y + a, 2 * z + b, :, 2 * v + a, 2 * u + b] += k[:, y, z, :, v, u] / 9
    theta = up
    value, slope = pairs(relu, up)
    theta = theta * slope
    window = np.zeros((4, 7))
    for place, here in enumerate(taps(7, 3, 2, 1, "zero")):
        for i in here:
            if i is not None:
                window[place, i] += 1 / 3
    pooled = [np.einsum("ay,bx,eyxfvu,av,bu->ef", window, window, one, window, window) / 16 for one in (value, theta)]
    net = network(body, channels=4, batch=2, positions="[3, 3]")
    np.testing.assert_allclose(nngp(net, x), pooled[0], rtol=1e-9)
    np.testing.assert_allclose(ntk(net, x), pooled[1] + pooled[0], rtol=1e-9)
