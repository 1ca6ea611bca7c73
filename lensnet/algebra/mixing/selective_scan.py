"""The selective scan of state-space models (Gu and Dao 2023, Mamba, algorithm 2): second moments of its recurrence.

    h_t = exp(-a dt_t) h_(t-1) + dt_t b_t x_t,   y_t = <c_t, h_t> + skip * x_t,   dt_t = softplus(u_t + bias)

for every channel, with a decay a for each of N states, b_t and c_t in R^N shared by the channels. The step u of a
channel is a constant of that channel (its bias, and what the tokens have in common) plus a part that is independent
from token to token; given the constant, the steps of different tokens are independent, and every moment of the
recurrence obeys a recurrence of its own. That b, c, u and x know little of one another (rows of one random matrix, or
of several) and that single tokens of u are alike otherwise is what is assumed; nothing is expanded in small steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.special import special

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Pairs = tuple[Places, Places, Array]

_NONE = np.zeros(1)
_MOST_DECAYS = 32
_QUIET = 1e-6
"""Means whose share of the power is below this are none."""


@dataclass(frozen=True)
class Steps:
    """The law of the time steps of one example. `level`: (J,) what a channel keeps, with weights `weight`; `own`: the
    variance that every token adds."""

    level: Array
    weight: Array
    own: float

    @cached_property
    def _values(self) -> tuple[Array, Array, Array]:
        """Steps at the nodes of a token's own part, (J, K), the slope of the softplus there, and weights (K,)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(10 if self.own > 0 else 1)
        u = self.level[:, None] + np.sqrt(self.own) * nodes
        return np.logaddexp(0.0, u), 1 / (1 + np.exp(-u)), weights / weights.sum()

    def average(self, power: int, decay: Array, slope: int = 0) -> Array:
        """E dt^power exp(-decay dt) softplus'^slope at every level and decay, (J, K) for K decays."""
        step, rise, weight = self._values
        kept = np.exp(-decay[None, :, None] * step[:, None, :])
        return np.asarray(np.einsum("jkn,jn,n->jk", kept, step**power * rise**slope, weight))


def steps_of(square: Array, mean: float, bias: float, spread: float, uniform: bool) -> Steps:
    """square: E u_t u_s, (T, T); mean of u; bias and spread of the constant that is added, uniform or normal."""
    tokens = len(square)
    whole = float(np.trace(square)) / tokens
    shared = (float(square.sum()) - whole * tokens) / (tokens * (tokens - 1)) if tokens > 1 else whole
    common, own = max(shared - mean**2, 0.0), max(whole - max(shared, mean**2), 0.0)
    level, weight = np.array([mean + bias]), np.ones(1)
    for size, rule in ((spread, np.polynomial.legendre.leggauss if uniform else None), (np.sqrt(common), None)):
        if size <= 1e-4:
            continue
        nodes, weights = rule(8) if rule is not None else np.polynomial.hermite_e.hermegauss(7)
        nodes = nodes * np.sqrt(3.0) if rule is not None else nodes
        level = (level[:, None] + size * nodes).ravel()
        weight = (weight[:, None] * weights / weights.sum()).ravel()
    return Steps(level, weight, own)


@dataclass(frozen=True)
class Scan:
    """The states of one example. `decays`: (K,); `weights`: how many states each stands for."""

    steps: Steps
    decays: Array
    weights: Array

    def meeting(self, drive: Array) -> Array:
        """E z_t sum_(s<t) z_s exp(-a (dt_(s+1) + ... + dt_(t-1))) for E z_t z_s = drive, (J, K, T)."""
        tokens = len(drive)
        fading = self.steps.average(0, self.decays)[..., None] ** np.arange(tokens)
        out = np.zeros((*fading.shape[:2], tokens))
        for t in range(1, tokens):
            out[..., t] = fading[..., t - 1 :: -1] @ drive[t, :t] if t > 1 else fading[..., 0] * drive[1, 0]
        return out

    def states(self, drive: Array, first: Places, second: Places) -> Array:
        """E h_t h'_t of states with the decays at the places first and second, (J, P, T), for E z_t z_s = drive where
        z_t = b_t x_t."""
        a, b, none = self.decays[first], self.decays[second], np.zeros(1)
        average = self.steps.average
        late = self.meeting(drive) * average(1, none)[..., None]
        new = average(2, none)[..., None] * np.diagonal(drive)
        new = new + average(1, a)[..., None] * late[:, first] + average(1, b)[..., None] * late[:, second]
        return _decayed(average(0, a + b), new)

    def adjoints(self, drive: Array, first: Places, second: Places) -> Array:
        """E l_t l'_t of the adjoints l_t = z_t + exp(-a dt_(t+1)) l_(t+1), (J, P, T), for E z_t z_s = drive where
        z_t = c_t g_t."""
        turned = drive[::-1, ::-1]
        a, b = self.decays[first], self.decays[second]
        late = self.meeting(turned)
        new = np.diagonal(turned) + self.steps.average(0, a)[..., None] * late[:, first]
        new = new + self.steps.average(0, b)[..., None] * late[:, second]
        return _decayed(self.steps.average(0, a + b), new)[..., ::-1]


def _decayed(factor: Array, new: Array) -> Array:
    """v_t = factor v_(t-1) + new_t, along the last axis."""
    out = np.array(new + 0.0 * factor[..., None])
    for t in range(1, out.shape[-1]):
        out[..., t] += factor * out[..., t - 1]
    return out


@dataclass(frozen=True)
class Example:
    """One example: means (T,), Gram matrices (T, T) averaged over channels, `g` of the gradient at the output.
    `by_head`: every head has one decay for all its states; else every state has one for all heads."""

    m_x: Array
    m_b: Array
    m_c: Array
    x: Array
    b: Array
    c: Array
    g: Array
    scan: Scan
    skip: float
    states: float
    by_head: bool

    @cached_property
    def alike(self) -> Pairs:
        """A state with itself: places of the two decays, and how often the pair occurs in a sum over states."""
        places = np.arange(len(self.scan.decays))
        return places, places, self.scan.weights

    @cached_property
    def unlike(self) -> Pairs:
        """Two different states."""
        if self.by_head:
            return *self.alike[:2], self.scan.weights * (self.states - 1)
        first, second = (one.ravel() for one in np.indices((len(self.scan.decays),) * 2))
        weight = np.outer(self.scan.weights, self.scan.weights) - np.diag(self.scan.weights)
        return first, second, weight.ravel()

    def kinds(self) -> list[tuple[Pairs, Array, Array]]:
        """Pairs of states with E b_t b'_s and E c_t c'_s: of one state, and of two where b and c have means."""
        means = np.outer(self.m_b, self.m_b), np.outer(self.m_c, self.m_c)
        out = [(self.alike, self.b, self.c)]
        if np.trace(means[0]) * np.trace(means[1]) > _QUIET * np.trace(self.b) * np.trace(self.c) and self.states > 1:
            out.append((self.unlike, *means))
        return out

    def over(self, value: Array, weight: Array) -> Array:
        """A sum over pairs, averaged over the levels of the steps: (J, P, T) to (T,)."""
        return np.asarray(np.einsum("jpt,j,p->t", value, self.scan.steps.weight, weight))

    def mean(self) -> Array:
        """E y_t over channels."""
        scan, average = self.scan, self.scan.steps.average
        held = _decayed(average(0, scan.decays), average(1, np.zeros(1))[..., None] * (self.m_b * self.m_x))
        return self.skip * self.m_x + self.m_c * self.over(held, scan.weights)

    def square(self) -> Array:
        """E y_t^2 over channels."""
        out = self.skip**2 * np.diagonal(self.x)
        for (first, second, weight), b, c in self.kinds():
            out = out + np.diagonal(c) * self.over(self.scan.states(self.x * b, first, second), weight)
        if self.skip:
            out = out + 2 * self.skip * self.m_c * self._met(self.x * self.m_b, self.scan, False)
        return out

    def _met(self, drive: Array, scan: Scan, turned: bool) -> Array:
        """sum_n E x_t h_t for E x_t z_s = drive; from the last token on, where the step comes in after the decay."""
        none, average = np.zeros(1), scan.steps.average
        drive = drive[::-1, ::-1] if turned else drive
        late = average(0, scan.decays)[..., None] * scan.meeting(drive) + np.diagonal(drive)
        out = self.over(average(1, none)[..., None] * late, scan.weights)
        return out[::-1] if turned else out

    def gradient(self, port: int, sharing: float) -> Array:
        """E (dL/dz_t)^2 at a port: 0 x, 1 step, 2 b, 3 c; `sharing`: channels that share one number of it."""
        return self.to_x() if port == 0 else (self.to_step, self.to_b, self.to_c)[port - 1](sharing)

    def to_x(self) -> Array:
        """E (dL/dx_t)^2."""
        out = self.skip**2 * np.diagonal(self.g)
        twice = self.scan.steps.average(2, np.zeros(1))[..., None]
        for (first, second, weight), b, c in self.kinds():
            out = out + np.diagonal(b) * self.over(twice * self.scan.adjoints(self.g * c, first, second), weight)
        if self.skip:
            out = out + 2 * self.skip * self.m_b * self._met(self.g * self.m_c, self.scan, True)
        return out

    def to_b(self, sharing: float) -> Array:
        """E (dL/db_t)^2; `sharing`: channels that see the same b."""
        first, second, weight = self.alike
        twice = self.scan.steps.average(2, np.zeros(1))[..., None]
        total = self.over(twice * self.scan.adjoints(self.g * self.c, first, second), weight)
        return sharing * np.diagonal(self.x) * total / self.states

    def to_c(self, sharing: float) -> Array:
        """E (dL/dc_t)^2; `sharing`: channels that see the same c."""
        first, second, weight = self.alike
        total = self.over(self.scan.states(self.x * self.b, first, second), weight)
        return sharing * np.diagonal(self.g) * total / self.states

    def to_step(self, sharing: float) -> Array:
        """E (dL/du_t)^2 of the step before its softplus; `sharing`: channels of one step."""
        scan, average, out = self.scan, self.scan.steps.average, np.zeros(len(self.x))
        for (first, second, weight), b, c in self.kinds():
            drive, decay, other = self.x * b, scan.decays[first], scan.decays[second]
            late = average(1, np.zeros(1))[..., None] * scan.meeting(drive)
            before = np.zeros((len(scan.steps.weight), len(first), len(drive)))
            before[..., 1:] = scan.states(drive, first, second)[..., :-1]
            moved = average(0, np.zeros(1), 2)[..., None] * np.diagonal(drive)
            moved = moved - (decay * average(0, decay, 2))[..., None] * late[:, first]
            moved = moved - (other * average(0, other, 2))[..., None] * late[:, second]
            moved = moved + (decay * other * average(0, decay + other, 2))[..., None] * before
            out += self.over(moved * scan.adjoints(self.g * c, first, second), weight)
        return sharing * out


def _examples(
    q: Sequence[Array], m: Sequence[Array], grams: Sequence[Array], p: Array, gradient_gram: Array,
    numbers: Sequence[Array],
) -> Iterator[Example]:  # fmt: skip
    """q, grams: of x, step, b, c; m: likewise. Everything per example, (E, T), (E, T, T) or one correlation."""
    skip, bias, spread, uniform, low, high, by_head, heads, states = (float(np.max(number)) for number in numbers)
    shape = np.broadcast_shapes(*(np.atleast_2d(np.asarray(one, float)).shape for one in (*q, *m, p)))
    fields = [np.broadcast_to(np.asarray(one, float), shape) for one in (*q, *m, p)]
    wide = [full_gram(np.asarray(one, float), fields[place]) for place, one in
            ((0, grams[0]), (1, grams[1]), (2, grams[2]), (3, grams[3]), (8, gradient_gram))]  # fmt: skip
    decays = _between(low, high, round(heads if by_head else states))
    count = len(decays)
    for example in range(max(shape[0], *(len(one) for one in wide))):
        x, step, b, c, g = (one[min(example, len(one) - 1)] for one in wide)
        row = min(example, shape[0] - 1)
        steps = steps_of(step, float(fields[5][row].mean()), bias, spread, bool(uniform))
        yield Example(fields[4][row], fields[6][row], fields[7][row], x, b, c, g,
                      Scan(steps, decays, np.full(count, states / count)), skip, states, bool(by_head))  # fmt: skip


def _between(low: float, high: float, count: int) -> Array:
    """Decays evenly from low to high, or the middles of as many equal parts as are looked at."""
    if low == high or count == 1:
        return np.array([low])
    if count <= _MOST_DECAYS:
        return np.linspace(low, high, count)
    margin = (high - low) / (count - 1) / 2
    return low - margin + (high - low + 2 * margin) * (np.arange(_MOST_DECAYS) + 0.5) / _MOST_DECAYS


def full_gram(gram: Array, field: Array) -> Array:
    """(E, T, T): as it is, or from one correlation of all pairs of positions."""
    if gram.ndim == 3:
        return gram
    root = np.sqrt(np.maximum(field, 0.0))
    rho = np.broadcast_to(gram.reshape(-1, 1, 1), (len(field), 1, 1))
    return root[:, :, None] * (rho + (1 - rho) * np.eye(field.shape[-1])) * root[:, None, :]


_FORWARD = 21


@special("scan_mean", _FORWARD, r"\mathbb{{E}}\,y_t")
def scan_mean(*given: Array) -> Array:
    """Mean over channels of what a selective scan makes, (E, T).

    Arguments: second moments (E, T) of x, step, b, c; their means; their Gram matrices (E, T, T), or a correlation;
    skip; mean, standard deviation of the bias of the steps, 1 where it is uniform; lowest and highest decay, 1 where
    each head has one; heads; states.
    """
    return np.stack([one.mean() for one in _examples(given[:4], given[4:8], given[8:12], _NONE, _NONE, given[12:])])


@special("scan_square", _FORWARD, r"\mathbb{{E}}\left[y_t^2\right]")
def scan_square(*given: Array) -> Array:
    """Second moment of what a selective scan makes, (E, T). Arguments as of scan_mean."""
    return np.stack([one.square() for one in _examples(given[:4], given[4:8], given[8:12], _NONE, _NONE, given[12:])])


@special("scan_gradient", _FORWARD + 4, r"\mathbb{{E}}\left[(\partial L/\partial x_t)^2\right]")
def scan_gradient(*given: Array) -> Array:
    """Second moment of the gradient at a port of a selective scan, (E, T).

    Arguments: port (0 x, 1 step, 2 b, 3 c); channels that share one number of that port; second moment of the gradient
    at the output; its Gram matrix; then as of scan_mean.
    """
    port, sharing = (float(np.max(one)) for one in given[:2])
    rest = given[4:]
    out = []
    for one in _examples(rest[:4], rest[4:8], rest[8:12], given[2], given[3], rest[12:]):
        out.append(one.gradient(round(port), sharing))
    return np.stack(out)
