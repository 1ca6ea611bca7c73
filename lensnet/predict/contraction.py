"""The power of a contraction of two signals, and of the gradients that it sends back.

With A_kl = E a_k a_l, the average over what the left brings along, and B_kl of the right, the second moment of
y = sum_k a_k b_k, averaged over both, is sum_kl A_kl B_kl: an identity, whatever the two signals know of each other.
Backward the gradient takes the place of one of them and the axis that the other brought along is the summed one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.network.contraction import Operand, operands_of
from lensnet.network.graph import Node

Field = NDArray[np.float64]
_TINY = 1e-300


def contraction_operators(node: Node) -> dict[str, Callable[..., Field]]:
    """`contracted_mean`, `contracted_square`, `contracted_gradient`: the functions of fields that the formulas of a
    contraction call. Gram matrices are (E, shared places, groups, K, K), or (E, shared places, groups, 2), or one
    correlation of all pairs."""
    meeting = _Meeting(*operands_of(node), node.shape.positions)
    return {
        "contracted_mean": meeting.mean,
        "contracted_square": meeting.square,
        "contracted_gradient": meeting.gradient,
    }


@dataclass(frozen=True)
class _Meeting:
    left: Operand
    right: Operand
    positions: tuple[int, ...]

    def square(self, m_a: Field, m_b: Field, q_a: Field, q_b: Field, gram_a: Field, gram_b: Field) -> Field:
        """Second moment at every position of the output, (E, *positions)."""
        a, b = _cut(self.left, q_a), _cut(self.right, q_b)
        grams = (_known(gram_a, a, _cut(self.left, m_a)), _known(gram_b, b, _cut(self.right, m_b)))
        return self._laid(a.mean(2), b.mean(2), _agreement(*grams, self.left.terms))

    def mean(
        self, m_a: Field, m_b: Field, q_a: Field, q_b: Field, gram_a: Field, gram_b: Field, profile_a: Field,
        profile_b: Field,
    ) -> Field:  # fmt: skip
        """Mean at every position of the output, (E, *positions)."""
        profiles = np.asarray(profile_a, float), np.asarray(profile_b, float)
        if any(one.ndim < 2 for one in profiles):
            a, b = (_cut(side, m) for side, m in ((self.left, m_a), (self.right, m_b)))
            terms = self.left.terms / max(a.shape[2], b.shape[2])
            out = terms * (a[..., :, None] * b[..., None, :]).sum(2)
            return out.reshape(-1, *self.positions)
        a, b = _cut(self.left, q_a), _cut(self.right, q_b)
        size = _diagonal(_known(gram_a, a, 0 * a)) * _diagonal(_known(gram_b, b, 0 * b))
        share = (profiles[0] * profiles[1]).sum(3).mean(2) / np.sqrt(np.maximum(size, _TINY))
        return self._laid(np.sqrt(a.mean(2)), np.sqrt(b.mean(2)), share)

    def gradient(self, port: float, p: Field, q: Field, m: Field, gram: Field, gram_of_gradient: Field) -> Field:
        """Second moment of the gradient at one port, (E, *positions of the port): `q`, `m` of the other port, `gram`
        along what that one brings along, `gram_of_gradient` of the output's gradient along the same."""
        back = round(float(np.max(port)))
        mine, other = (self.left, self.right)[:: 1 - 2 * back]
        sizes = (self.left.places_count, self.left.free_count, self.right.free_count)
        p = np.broadcast_to(np.asarray(p, float), (len(np.atleast_1d(p)), *self.positions)).reshape(-1, *sizes)
        arriving = p.mean(2 if back else 3)  # (E, W, what I bring along)
        power = _cut(other, q)  # (E, W, terms, what the other brings along)
        places = other.free_count > 1
        terms = other.free_count if places else other.free_channels
        rows, flat = (
            (power.mean(2), _cut(other, m).mean(2)) if places else (power.mean((2, 3)), _cut(other, m).mean((2, 3)))
        )
        grams = _known(gram_of_gradient, arriving[:, :, :1], 0.0), _known(gram, rows, flat)
        share = _agreement(*grams, terms) * (other.free_channels if places else 1)
        out = arriving[:, :, None] * power.mean(3)[..., None] * share[..., None, None]
        if not mine.summed:
            return mine.joined(out.mean(2, keepdims=True))
        return mine.joined(np.broadcast_to(out, (*out.shape[:2], mine.terms, out.shape[3])))

    def _laid(self, a: Field, b: Field, share: Field) -> Field:
        """(E, W, f) x (E, W, g) x (E, W) -> (E, *positions)."""
        return (a[..., :, None] * b[..., None, :] * share[..., None, None]).reshape(-1, *self.positions)


def _cut(side: Operand, field: Field) -> Field:
    """(E, *positions) -> (E, shared places, terms or 1, free places)."""
    field = np.asarray(field, float)
    field = np.broadcast_to(field, (len(np.atleast_1d(field)), *side.positions))
    return np.asarray(side.cut(field[..., None])[:, :, 0, :, :, 0])


def _known(gram: Field, power: Field, mean: Field | float) -> Field:
    """A Gram matrix; one correlation as the averages of its diagonal and of the rest, (E, W, 1, 2)."""
    gram = np.asarray(gram, float)
    if gram.ndim >= 4:
        return gram
    axes = tuple(range(2, np.ndim(power)))
    level, flat = np.asarray(power, float).mean(axes), np.broadcast_to(mean, np.shape(power)).mean(axes)
    rest = flat**2 + gram.reshape(-1)[:1] * np.maximum(level - flat**2, 0.0)
    return np.stack([level, rest], -1)[:, :, None]


def _diagonal(gram: Field) -> Field:
    """Mean of the diagonal over the groups, (E, W)."""
    alone = gram[..., 0] if gram.ndim == 4 else np.trace(gram, axis1=-2, axis2=-1) / gram.shape[-1]
    return np.asarray(alone.mean(2))


def _agreement(a: Field, b: Field, terms: int) -> Field:
    """sum_kl A_kl B_kl over the mean diagonals of both, (E, W): `terms` where the terms know nothing of one another,
    its square where they are alike."""
    size = np.maximum(_diagonal(a) * _diagonal(b), _TINY)
    if a.ndim == b.ndim == 5:
        return np.asarray((a * b).sum((-1, -2)).mean(2) / size)
    a, b = _averages(a), _averages(b)
    whole = terms * a[..., 0] * b[..., 0] + terms * (terms - 1) * a[..., 1] * b[..., 1]
    return np.asarray(whole.mean(2) / size)


def _averages(gram: Field) -> Field:
    """The averages of the diagonal and of the rest, (E, W, groups, 2)."""
    if gram.ndim == 4:
        return gram
    count = gram.shape[-1]
    alone = np.trace(gram, axis1=-2, axis2=-1)
    rest = (gram.sum((-1, -2)) - alone) / max(count * (count - 1), 1)
    return np.stack([alone / count, rest], -1)
