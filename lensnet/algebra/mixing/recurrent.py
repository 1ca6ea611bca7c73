"""Recurrent layers over time: plain ones, long short-term memories and gated recurrent units, in wide layers, where
every unit is an independent draw of one process.

The pre-activations of a unit over the time steps of all examples are a Gaussian process: weights are the same at every
step and for every example, so two steps have the covariance w2 * sum x_t x_s + w2 * sum h_{t-1} h_{s-1} + biases. Fresh
inputs share the biases only, a repeated input shares everything. Gates follow by sampling units of that process, step
by step, since the covariance of a step needs the hidden states of the steps before it; backward likewise, from the last
step on. That weights used before act as fresh ones of the covariance of what they see is Gaussian conditioning (Yang
2019, Tensor programs I); what is neglected is of order 1/units: single units among finitely many, and what the gradient
knows of the weights that it passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.normal import expit
from lensnet.algebra.special import special

Array = NDArray[np.float64]

_UNITS, _FEWEST_UNITS = 2**15, 2**10
_MEMORY = 1e7
"""Numbers that the process of one call may hold before units are saved."""
_FEW_UNITS = 2**11
"""Units per example where many examples are asked for one by one: what holds for each is averaged over all."""
_JITTER = 1e-10
LSTM, GRU, TANH, RELU = range(4)
_GATES = {LSTM: 4, GRU: 3, TANH: 1, RELU: 1}


@dataclass(frozen=True)
class Recurrence:
    """One layer at one place. `wide`: w2_input * channels; `deep`: w2_hidden * units; `bias`, `hidden_bias`: second
    moments of the two biases."""

    kind: int
    wide: float
    deep: float
    bias: float
    hidden_bias: float

    def run(self, tokens: Array, source: np.random.Generator, most: int = _UNITS) -> Unrolled:
        """Sampled units (at most `most`) over the steps of a batch whose inputs have the covariance `tokens`,
        (E, T, E, T)."""
        examples, steps = tokens.shape[:2]
        units = 2 * round(max(_FEWEST_UNITS, min(most, _MEMORY / (4.0 * examples * steps))) / 2)
        by_time = tokens.transpose(1, 0, 3, 2)  # (t, e, s, f)
        states = np.zeros((steps + 1, examples, units))
        trace: list[tuple[Array, ...]] = []
        cell = states[0]
        # input and state meet in one sum; a GRU keeps them apart, since a gate acts on the state's alone
        gates, parts = _GATES[self.kind], 2 if self.kind == GRU else 1
        processes = [_Process(gates, steps, examples, units, source) for _ in range(parts)]
        for t in range(steps):
            before = np.einsum("eu,sfu->esf", states[t], states[: t + 1], optimize=True) / units
            given = self.wide * by_time[t, :, : t + 1] + self.bias
            kept = self.deep * before + self.hidden_bias
            if self.kind == LSTM:
                z = processes[0].step(t, given + kept)
                i, f, o, g = expit(z[0]), expit(z[1]), expit(z[2]), np.tanh(z[3])
                new = f * cell + i * g
                states[t + 1] = o * np.tanh(new)
                trace.append((i, f, o, g, cell, np.tanh(new)))
                cell = new
            elif self.kind in (TANH, RELU):
                z = processes[0].step(t, given + kept)[0]
                states[t + 1] = np.tanh(z) if self.kind == TANH else np.maximum(z, 0.0)
                trace.append((1 - states[t + 1] ** 2 if self.kind == TANH else (z > 0).astype(float),))
            else:
                a, b = processes[0].step(t, given), processes[1].step(t, kept)
                r, u = expit(a[0] + b[0]), expit(a[1] + b[1])
                n = np.tanh(a[2] + r * b[2])
                states[t + 1] = (1 - u) * n + u * states[t]
                trace.append((r, u, n, b[2], states[t]))
        return Unrolled(self, states, trace)


@dataclass(frozen=True)
class Unrolled:
    """Sampled units of a layer over time. `states`: h_0 to h_T, (T + 1, E, U)."""

    layer: Recurrence
    states: Array
    trace: list[tuple[Array, ...]]

    @property
    def hidden(self) -> Array:
        """E h_t h_s of the outputs of a batch, (E, T, E, T)."""
        return _together(self.states[1:, None])

    @property
    def before(self) -> Array:
        """The same of the states that the hidden weights see: h_0 to h_(T-1)."""
        return _together(self.states[:-1, None])

    @property
    def standard_error(self) -> float:
        """Relative standard error of the average second moment."""
        power = (self.states[1:] ** 2).mean(axis=(0, 1))
        half = len(power) // 2
        paired = (power[:half] + power[half:]) / 2
        return float(paired.std() / max(paired.mean(), 1e-300) / np.sqrt(half))

    def back(self, upstream: Array, source: np.random.Generator) -> Errors:
        """dL/dz of all gates, from the covariance of the gradient at the outputs, (E, T, E, T)."""
        steps, examples, units = len(self.trace), *self.states.shape[1:]
        turned = upstream[:, ::-1, :, ::-1].transpose(1, 0, 3, 2)  # from the last step on
        process = _Process(1, steps, examples, units, source)
        gates = _GATES[self.layer.kind]
        errors = np.zeros((2, steps, gates, examples, units))  # at the input's products and at the state's
        carried = np.zeros((examples, units))
        for after in range(steps):
            t = steps - 1 - after
            # the step behind has its errors at `after`, the first one none
            behind = np.concatenate([np.zeros((1, gates, examples, units)), errors[1, :after]])
            covariance = turned[after, :, : after + 1] + self.layer.deep / units * np.einsum(
                "geu,sgfu->esf", behind[after], behind, optimize=True
            )
            delta = process.step(after, covariance)[0]
            if self.layer.kind == LSTM:
                i, f, o, g, cell, bent = self.trace[t]
                inner = delta * o * (1 - bent**2) + carried
                out = delta * bent * o * (1 - o)
                errors[:, after] = inner * g * i * (1 - i), inner * cell * f * (1 - f), out, inner * i * (1 - g**2)
                carried = inner * f
            elif self.layer.kind in (TANH, RELU):
                errors[:, after] = delta * self.trace[t][0]
            else:
                r, u, n, hidden, before = self.trace[t]
                delta = delta + carried
                candidate = delta * (1 - u) * (1 - n**2)
                reset, update = candidate * hidden * r * (1 - r), delta * (before - n) * u * (1 - u)
                errors[0, after] = reset, update, candidate
                errors[1, after] = reset, update, candidate * r  # the reset gate stands between state and candidate
                carried = delta * u
        return Errors(*(_together(part[::-1]) for part in errors))


@dataclass(frozen=True)
class Errors:
    """E dL/dz_t dL/dz_s, summed over the gates, of a batch, (E, T, E, T): where the input's products enter, and where
    those of the hidden state do."""

    inputs: Array
    hiddens: Array


class _Process:
    """Samples of a Gaussian process that grows by one time step of all examples at a time, for independent gates."""

    def __init__(self, gates: int, steps: int, examples: int, units: int, source: np.random.Generator) -> None:
        half = source.standard_normal((gates, steps * examples, units // 2))
        self.noise = np.concatenate([half, -half], axis=-1)
        self.root = np.zeros((steps * examples, steps * examples))
        self.examples = examples

    def step(self, t: int, covariance: Array) -> Array:
        """The values of step t, (gates, E, units), given its covariance with the steps 0..t, (E, t + 1, E)."""
        past, now = t * self.examples, (t + 1) * self.examples
        rows = covariance.reshape(self.examples, now)
        left = np.zeros((self.examples, past))
        if past:
            from scipy.linalg import solve_triangular

            left = solve_triangular(self.root[:past, :past], rows[:, :past].T, lower=True).T
        rest = rows[:, past:] - left @ left.T
        rest += (_JITTER * np.trace(rows[:, past:]) / self.examples + 1e-30) * np.eye(self.examples)
        self.root[past:now, :past], self.root[past:now, past:now] = left, _root(rest)
        return np.asarray(np.einsum("en,gnu->geu", self.root[past:now, :now], self.noise[:, :now], optimize=True))


def _root(matrix: Array) -> Array:
    """A lower triangular root of a covariance that rounding may have left with a negative eigenvalue."""
    try:
        return np.asarray(np.linalg.cholesky(matrix), dtype=float)
    except np.linalg.LinAlgError:
        value, vector = np.linalg.eigh(matrix)
        factor = vector * np.sqrt(np.maximum(value, _JITTER * max(float(value[-1]), 1e-30)))
        return np.asarray(np.linalg.qr(factor.T)[1], dtype=float).T


def _together(values: Array) -> Array:
    """From (T, G, E, U) the averages over units of products, summed over G: (E, T, E, T)."""
    return np.asarray(np.einsum("tgeu,sgfu->etfs", values, values, optimize=True) / values.shape[-1])


@lru_cache(maxsize=16)
def _run(
    kind: int, gram: bytes, upstream: bytes, steps: int, most: int, wide: float, deep: float, bias: float,
    hidden_bias: float,
) -> tuple[Array, Array]:  # fmt: skip
    """(second moment of h per step, that of dL/dz summed over the gates per step) of one example."""
    size = (1, steps, 1, steps)
    source = np.random.default_rng([crc32(gram), steps, kind])
    unrolled = Recurrence(kind, wide, deep, bias, hidden_bias).run(np.frombuffer(gram).reshape(size), source, most)
    errors = unrolled.back(np.frombuffer(upstream).reshape(size), source)
    return np.diagonal(unrolled.hidden[0, :, 0]).copy(), np.diagonal(errors.inputs[0, :, 0]).copy()


def _each(
    kind: Array, q: Array, gram: Array, p: Array, gradient_gram: Array, numbers: tuple[Array, ...]
) -> list[tuple[Array, Array]]:
    values = tuple(round(float(np.max(number)), 9) for number in numbers)
    q, p = (np.atleast_2d(np.asarray(field, float)) for field in (q, p))
    grams = [_gram(np.asarray(one, float), field) for one, field in ((gram, q), (gradient_gram, p))]
    out, examples = [], max(len(one) for one in grams)
    most = max(_FEW_UNITS, _UNITS // examples)
    for example in range(examples):
        here = [np.ascontiguousarray(one[min(example, len(one) - 1)]) for one in grams]
        steps = len(here[0])
        if not all(np.isfinite(one).all() for one in here):
            out.append((np.full(steps, np.nan), np.full(steps, np.nan)))
            continue
        out.append(_run(round(float(np.max(kind))), here[0].tobytes(), here[1].tobytes(), steps, most, *values))
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
    """Second moment of the hidden state of an LSTM (kind 0), GRU (1) or plain layer with tanh (2) or relu (3) at every
    step, (E, T).

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
