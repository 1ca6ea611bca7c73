"""LSTM and GRU at random weights, over time: wide layers, where every unit is an independent draw of one process.

The pre-activations of a unit over the time steps are a Gaussian process: weights are the same at every step, so two
steps have the covariance w2 * sum x_t x_s + w2 * sum h_{t-1} h_{s-1} + biases. Fresh inputs share the biases only, a
repeated input shares everything. Gates follow by sampling units of that process, step by step, since the covariance of
a step needs the hidden states of the steps before it; backward likewise, from the last step on. What is neglected is of
order 1/units: single units among finitely many, and what the gradient knows of the weights that it passes.
"""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from lensnet.algebra.special import special

Array = NDArray[np.float64]

_UNITS = 2048
LSTM, GRU = 0, 1
_GATES = {LSTM: 4, GRU: 3}


class _Process:
    """Samples of a Gaussian process that grows by one time step at a time, for several independent gates."""

    def __init__(self, gates: int, steps: int, source: np.random.Generator) -> None:
        half = source.standard_normal((gates, steps, _UNITS // 2))
        self.noise = np.concatenate([half, -half], axis=-1)
        self.root = np.zeros((steps, steps))

    def step(self, t: int, covariance: Array) -> Array:
        """The values of step t, (gates, units), given its covariance with the steps 0..t."""
        for s in range(t):
            inner = float(self.root[t, :s] @ self.root[s, :s])
            self.root[t, s] = (covariance[s] - inner) / self.root[s, s] if self.root[s, s] > 1e-9 else 0.0
        self.root[t, t] = np.sqrt(max(float(covariance[t] - self.root[t, :t] @ self.root[t, :t]), 0.0))
        return np.asarray(np.tensordot(self.root[t, : t + 1], self.noise[:, : t + 1], axes=(0, 1)))


@lru_cache(maxsize=16)
def _run(
    kind: int, gram: bytes, upstream: bytes, steps: int, wide: float, deep: float, bias: float, hidden_bias: float
) -> tuple[Array, Array]:
    """(second moment of h per step, that of dL/dz summed over the gates per step).

    `wide`: w2_input * channels; `deep`: w2_hidden * units; `bias`, `hidden_bias`: second moments of the two biases.
    """
    tokens = np.frombuffer(gram).reshape(steps, steps)
    source = np.random.default_rng([crc32(gram), steps, kind])
    states = np.zeros((steps + 1, _UNITS))
    trace: list[tuple[Array, ...]] = []
    if kind == LSTM:
        process = _Process(4, steps, source)
        cell = np.zeros(_UNITS)
        for t in range(steps):
            before = states[: t + 1] @ states[t] / _UNITS
            z = process.step(t, wide * tokens[t, : t + 1] + deep * before + bias + hidden_bias)
            i, f, o, g = expit(z[0]), expit(z[1]), expit(z[2]), np.tanh(z[3])
            new = f * cell + i * g
            states[t + 1] = o * np.tanh(new)
            trace.append((i, f, o, g, cell, np.tanh(new)))
            cell = new
    else:
        inputs, hiddens = _Process(3, steps, source), _Process(3, steps, source)
        for t in range(steps):
            before = states[: t + 1] @ states[t] / _UNITS
            a = inputs.step(t, wide * tokens[t, : t + 1] + bias)
            b = hiddens.step(t, deep * before + hidden_bias)
            r, u = expit(a[0] + b[0]), expit(a[1] + b[1])
            n = np.tanh(a[2] + r * b[2])
            states[t + 1] = (1 - u) * n + u * states[t]
            trace.append((r, u, n, b[2], states[t], states[t + 1]))
    second = (states[1:] ** 2).mean(axis=1)
    back = np.frombuffer(upstream).reshape(steps, steps)
    run = _lstm_back if kind == LSTM else _gru_back
    return second, run(trace, back, deep, source)


def _lstm_back(trace: list[tuple[Array, ...]], upstream: Array, deep: float, source: np.random.Generator) -> Array:
    steps = len(trace)
    process = _Process(1, steps, source)
    errors = np.zeros((steps + 1, 4, _UNITS))  # dL/dz of the step behind, by distance from the end
    power = np.zeros(steps)
    carried = np.zeros(_UNITS)
    for back in range(steps):
        t = steps - 1 - back
        i, f, o, g, cell, bent = trace[t]
        covariance = np.array([upstream[t, steps - 1 - s] for s in range(back + 1)])
        covariance += deep * np.einsum("sgu,gu->s", errors[: back + 1], errors[back]) / _UNITS
        delta = process.step(back, covariance)[0]
        inner = delta * o * (1 - bent**2) + carried
        now = (inner * g * i * (1 - i), inner * cell * f * (1 - f), delta * bent * o * (1 - o), inner * i * (1 - g**2))
        errors[back + 1] = now
        power[t] = (errors[back + 1] ** 2).sum(axis=0).mean()
        carried = inner * f
    return power


def _gru_back(trace: list[tuple[Array, ...]], upstream: Array, deep: float, source: np.random.Generator) -> Array:
    steps = len(trace)
    process = _Process(1, steps, source)
    errors = np.zeros((steps + 1, 3, _UNITS))
    power = np.zeros(steps)
    carried = np.zeros(_UNITS)
    for back in range(steps):
        t = steps - 1 - back
        r, u, n, hidden, before, _ = trace[t]
        covariance = np.array([upstream[t, steps - 1 - s] for s in range(back + 1)])
        covariance += deep * np.einsum("sgu,gu->s", errors[: back + 1], errors[back]) / _UNITS
        delta = process.step(back, covariance)[0] + carried
        candidate = delta * (1 - u) * (1 - n**2)
        reset, update = candidate * hidden * r * (1 - r), delta * (before - n) * u * (1 - u)
        errors[back + 1] = (reset, update, candidate * r)  # through the hidden weights the candidate counts times r
        power[t] = (reset**2 + update**2 + candidate**2).mean()
        carried = delta * u
    return power


def _each(
    kind: Array, q: Array, gram: Array, p: Array, gradient_gram: Array, numbers: tuple[Array, ...]
) -> list[tuple[Array, Array]]:
    values = tuple(round(float(np.max(number)), 9) for number in numbers)
    q, p = (np.atleast_2d(np.asarray(field, float)) for field in (q, p))
    grams = [_gram(np.asarray(one, float), field) for one, field in ((gram, q), (gradient_gram, p))]
    out = []
    for example in range(max(len(one) for one in grams)):
        here = [np.ascontiguousarray(one[min(example, len(one) - 1)]) for one in grams]
        steps = len(here[0])
        if not all(np.isfinite(one).all() for one in here):
            out.append((np.full(steps, np.nan), np.full(steps, np.nan)))
            continue
        out.append(_run(round(float(np.max(kind))), here[0].tobytes(), here[1].tobytes(), steps, *values))
    return out


def _gram(gram: Array, field: Array) -> Array:
    """(E, T, T): as it is, or from one correlation of all pairs of steps."""
    if gram.ndim == 3:
        return gram
    root = np.sqrt(np.maximum(field, 0.0))
    rho = np.broadcast_to(gram.reshape(-1, 1, 1), (len(field), 1, 1))
    return root[:, :, None] * (rho + (1 - rho) * np.eye(field.shape[-1])) * root[:, None, :]


@special("recurrent_square", 7, r"\mathbb{{E}}\left[h_t^2\right]")
def recurrent_square(
    kind: Array, q: Array, gram: Array, wide: Array, deep: Array, bias: Array, hidden_bias: Array
) -> Array:
    """Second moment of the hidden state of an LSTM (kind 0) or GRU (1) at every step, (E, T).

    gram: E_c x_t x_s, (E, T, T), or a correlation; wide: w2 of the input weights times channels; deep: of the hidden
    weights times units; bias, hidden_bias: second moments of the two biases.
    """
    blank = np.zeros_like(np.atleast_2d(np.asarray(q, float)))
    found = _each(kind, q, gram, blank, np.zeros(()), (wide, deep, bias, hidden_bias))
    return np.stack([second for second, _ in found])


@special("recurrent_gradient", 9, r"\mathbb{{E}}\left[\lVert\partial L/\partial z_t\rVert^2\right]")
def recurrent_gradient(
    kind: Array, q: Array, gram: Array, p: Array, gradient_gram: Array, wide: Array, deep: Array, bias: Array,
    hidden_bias: Array,
) -> Array:  # fmt: skip
    """Second moment of dL/dz, summed over the gates, at every step, (E, T); p, gradient_gram: of the output."""
    found = _each(kind, q, gram, p, gradient_gram, (wide, deep, bias, hidden_bias))
    return np.stack([power for _, power in found])
