"""Self-attention on tokens with a known Gram matrix: exact second moments by sampling the logits alone.

Given the tokens X (T, d), Gaussian W_Q, W_K, W_V, W_O and a gradient R from above that is independent of them, the
second moments forward and backward depend on X only through G = X X^T / d, and on R only through its Gram matrix P. The
averages over W_V, W_O and R, and over the parts of W_Q and W_K that the logits do not see, are done exactly
(docs/effects/attention.md); what is left is an average over the T x T logits L = Q K^T / sqrt(d_head) of a function of
L, G and P. It is taken over a fixed, reproducible sample of L: query and key products have rank d_head, so a sample
costs much less than a forward pass, and one sample already averages over T queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mixing.softmax_paths import (
    columns,
    diagonal,
    own_keys,
    own_queries,
    pulled_by_logits,
    softmax_weights,
    transposed,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LogitSample:
    """Samples of the attention of one example, all heads alike.

    `factor`: F with G = F F^T, (S or 1, T, r), r <= channels. `slope`: g_query^2 g_key^2; `bias`: second moment of the
    query's bias times g_key^2. `query`: Gaussian, (S, r + 1, head_width), the last row is the bias; `key`:
    (S, head_width, r).
    """

    factor: Array
    slope: float
    bias: float
    width: int
    channels: int
    causal: bool
    query: Array
    key: Array

    @cached_property
    def gram(self) -> Array:
        return self.factor @ transposed(self.factor)

    @cached_property
    def own(self) -> Array:
        """q of every token, (S or 1, T)."""
        return np.maximum(diagonal(self.gram), 1e-300)

    @cached_property
    def queries(self) -> Array:
        """Rows W_Q x_i times g_key: (S, T, head_width)."""
        return np.sqrt(self.slope) * self.factor @ self.query[:, :-1] + np.sqrt(self.bias) * self.query[:, -1:]

    @cached_property
    def directions(self) -> Array:
        """u_i = W_K^T q_i / sqrt(d_head), times sqrt(d), in the space that the tokens span: (S, T, r)."""
        return self.queries @ self.key / np.sqrt(self.width)

    @cached_property
    def logits(self) -> Array:
        return self.directions @ transposed(self.factor)

    @cached_property
    def weights(self) -> Array:
        """a_ij: softmax of the logits over the keys j that query i sees."""
        return softmax_weights(self.logits, self.causal)

    @cached_property
    def seen(self) -> Array:
        """(G a_i)_j for every query i."""
        return np.asarray(self.weights @ self.gram)

    def mix(self) -> Array:
        """E a_i^T G a_i: second moment of what query i gathers, (T,)."""
        return np.asarray((self.seen * self.weights).sum(axis=-1).mean(axis=0))

    def gradient(self, upstream: Array) -> Array:
        """Second moment of dL/dx over g_value^2 g_output^2 channels_out / channels, (T,).

        `upstream`: P, (T, T), or (T,) where the gradients of different positions are independent.
        """
        d = self.channels
        a, gram = self.weights, self.gram
        pulled = pulled_by_logits(a, self.logits)
        pulled_seen = pulled @ gram
        upward = upstream if upstream.ndim == 1 else np.diagonal(upstream)
        share = self.slope * self.own / np.maximum(self.slope * self.own + self.bias, 1e-300)
        along = (pulled_seen * pulled).sum(axis=-1)  # |M u|^2 / d
        trace = own_queries(a, gram, gram)  # tr M^2 / d^2
        norm = np.maximum((self.queries**2).sum(axis=-1), 1e-300) / self.width
        query = self.slope * (1 - share / d) * (along / (norm * self.width) + (1 - 1 / self.width) * trace)
        query = query + share**2 * along / (self.own * d)
        # where the paths meet at one token: keys and values of the token that asks
        own_weight, own_logit = diagonal(a), diagonal(self.logits)
        meet = own_logit * own_weight * (diagonal(pulled_seen) - (a * pulled_seen).sum(axis=-1))
        query = query + 2 * share * (meet + own_weight * diagonal(pulled_seen)) / (self.own * d)
        value = columns(upstream, a, a) + 2 * columns(upstream, a, pulled) / d
        result = upward * query + value + own_keys(a, gram, upstream * self.lengths(upstream.ndim == 1) / d)
        return np.asarray(result.mean(axis=0))

    def lengths(self, alone: bool = False, other: LogitSample | None = None) -> Array:
        """u_i.u_k of every two queries (of this and another example), with the part outside the tokens' span that is
        averaged; `alone`: of every query with itself."""
        two = self if other is None else other
        outside = (self.channels - self.factor.shape[-1]) / self.width
        if alone:
            return np.asarray((self.directions**2).sum(axis=-1) + outside * (self.queries**2).sum(axis=-1))
        return self.directions @ transposed(two.directions) + outside * self.queries @ transposed(two.queries)


def logit_sample(
    gram: Array,
    slope: float,
    bias: float,
    width: int,
    channels: int,
    causal: bool,
    samples: int,
    source: np.random.Generator,
    fluctuating: bool,
) -> LogitSample:
    """Draw the logits of one example with token Gram matrix `gram` (T, T).

    `fluctuating`: `gram` is an average over weight draws, and every sample gets the Gram matrix of `channels` Gaussian
    channels of that covariance; else `gram` is taken as it stands. Samples come in pairs of opposite logits.
    """
    root = gram_root(gram, channels if not fluctuating else len(gram))[None]
    pairs = (samples + 1) // 2
    if fluctuating:
        rank = root.shape[-1]
        channel = source.standard_normal((pairs, rank, channels)) / np.sqrt(channels)
        root = root @ (np.linalg.cholesky(channel @ transposed(channel)) if channels > rank else channel)
    rank = root.shape[-1]
    query = source.standard_normal((pairs, rank + 1, width))
    key = source.standard_normal((pairs, width, rank))
    if samples > 1:
        query, key = np.concatenate([query, query]), np.concatenate([key, -key])
        root = np.concatenate([root, root]) if fluctuating else root
    return LogitSample(root, slope, bias, width, channels, causal, query, key)


def gram_root(gram: Array, most: int) -> Array:
    """F with F F^T = gram, (T, r): its r <= `most` positive eigenvalues (at least one column)."""
    value, vector = np.linalg.eigh(gram)
    keep = np.flatnonzero(value > 1e-9 * max(value[-1], 0.0))[-most:]
    if not len(keep):
        keep = np.array([len(value) - 1])
    return np.asarray(vector[:, keep] * np.sqrt(np.maximum(value[keep], 0.0)))
