"""Attention over tokens of which only averages are known: those of a token with itself, and of two different ones.

Exchangeable tokens are x_j = c + z_j with a common part, which drops out of the softmax. A query with itself is
then an integral over independent logits (`TokenAttention`, exact). Two queries i of e and i' of f gather

    E out_i out_i' = D + (S - D) E sum_j a_j b_j,

D and S: the pairs of e and f at different and at equal tokens. Their logits at one token have covariance
kappa = cov(query_i, query_i') (S - D), and the sum is read off that of one query with itself as for a softmax over
channels: n E sum_j a_j b_j = 1 + (n E sum a^2 - 1)(e^kappa - 1)/(e^v - 1).
"""

from __future__ import annotations

import numpy as np

from lensnet.algebra.mixing.equal_tokens import TokenAttention
from lensnet.algebra.mixing.softmax_moments import softmax_moments
from lensnet.levels.classes import AveragedPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.pairs import Field, Pairs

UNALIKE = 0.1
"""Error where pairs of tokens differ, whose logits agree where the tokens do: 40 random tokens of 48 numbers leave a
tenth, 16 of 128 numbers 2 %."""
_MOST = 64.0
"""Largest variance of logits that the integrals are tabulated for."""


def attended_own(state: Covariance, gain: Field, slope: float, width: float, channels: float, causal: bool) -> Field:
    """Second moment of what every query gathers, `(E, T)`; arguments as for `TokenAttention`."""
    layout: AveragedPairs = state.layout
    shared = _different(state) / np.maximum(layout.typical(state.second_moment), 1e-300)
    tokens = TokenAttention(
        state.second_moment, np.clip(shared, -1.0, 1.0)[:, None], np.broadcast_to(gain, layout.field_shape), slope,
        width, channels, causal,
    )  # fmt: skip
    return tokens.mix()


def attended_pairs(state: Covariance, bias: float, slope: float, causal: bool) -> Pairs:
    """The same of two queries, averaged over equal and over different tokens, `(E, E, 2)`.

    `slope`, `bias`: the covariance of two queries, as it enters their logits, is slope times that of their tokens, and
    bias.
    """
    layout: AveragedPairs = state.layout
    count = layout.positions[0]
    apart = state.pairs[..., 1]
    met = state.pairs[..., 0] - apart  # what one token has that two do not
    power, alone = layout.typical(state.second_moment), _different(state)
    own = np.clip((slope * power + bias) * np.maximum(power - alone, 0.0), 0.0, _MOST)
    variance = np.sqrt(np.multiply.outer(own, own))
    seen = np.arange(1.0, count + 1) if causal else np.full(count, float(count))
    squares = softmax_moments(np.broadcast_to(variance[..., None], (*variance.shape, count)), seen).square_sum
    # pairs of different queries of which the later sees so many tokens
    later = 2 * (np.arange(1.0, count + 1) - 1) / max(count * (count - 1), 1) if causal else np.full(count, 1 / count)
    out = np.empty(layout.shape)
    for place, weight in ((0, np.full(count, 1 / count)), (1, later)):
        kappa = np.clip((slope * state.pairs[..., place] + bias) * met, -variance, variance)
        share = np.divide(np.expm1(kappa), np.expm1(variance), out=np.ones(variance.shape), where=variance > 1e-9)
        alike = ((1 + (seen * squares - 1) * share[..., None]) / seen) @ weight
        out[..., place] = apart + met * alike
    return out


def _different(state: Covariance) -> Field:
    """The average over pairs of different tokens of one example, `(E,)`."""
    return np.einsum("ee->e", state.pairs[..., 1])
