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
        return self.factor @ _t(self.factor)

    @cached_property
    def own(self) -> Array:
        """q of every token, (S or 1, T)."""
        return np.maximum(_diagonal(self.gram), 1e-300)

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
        return self.directions @ _t(self.factor)

    @cached_property
    def weights(self) -> Array:
        """a_ij: softmax of the logits over the keys j that query i sees."""
        logits = self.logits
        if self.causal:
            logits = np.where(np.tril(np.ones(logits.shape[-2:], bool)), logits, -np.inf)
        raw = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(raw / raw.sum(axis=-1, keepdims=True))

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
        a, gram, seen = self.weights, self.gram, self.seen
        pulled = a * (self.logits - (a * self.logits).sum(axis=-1, keepdims=True))  # J_i l_i
        pulled_seen = pulled @ gram
        gathered = (seen * a).sum(axis=-1)  # a_i^T G a_i
        upward = upstream if upstream.ndim == 1 else np.diagonal(upstream)
        share = self.slope * self.own / np.maximum(self.slope * self.own + self.bias, 1e-300)
        along = (pulled_seen * pulled).sum(axis=-1)  # |M u|^2 / d
        trace = ((a @ gram**2) * a).sum(axis=-1) - 2 * (a * seen**2).sum(axis=-1) + gathered**2  # tr M^2 / d^2
        norm = np.maximum((self.queries**2).sum(axis=-1), 1e-300) / self.width
        query = self.slope * (1 - share / d) * (along / (norm * self.width) + (1 - 1 / self.width) * trace)
        query = query + share**2 * along / (self.own * d)
        # where the paths meet at one token: keys and values of the token that asks
        own_weight, own_logit = _diagonal(a), _diagonal(self.logits)
        meet = own_logit * own_weight * (_diagonal(pulled_seen) - (a * pulled_seen).sum(axis=-1))
        query = query + 2 * share * (meet + own_weight * _diagonal(pulled_seen)) / (self.own * d)
        value = _columns(upstream, a, a) + 2 * _columns(upstream, a, pulled) / d
        result = upward * query + value + self._key_path(upstream, gathered)
        return np.asarray(result.mean(axis=0))

    def _key_path(self, upstream: Array, gathered: Array) -> Array:
        """|sum_i (e_j^T J_i X W_V^T g_i) u_i|^2: the gradient through the keys."""
        a, seen = self.weights, self.seen
        outside = (self.channels - self.factor.shape[-1]) / self.width
        if upstream.ndim == 1:
            length = (self.directions**2).sum(axis=-1) + outside * (self.queries**2).sum(axis=-1)
            weight = (upstream * length / self.channels)[..., None] * a**2
            return np.asarray((weight * (self.own[:, None, :] - 2 * seen + gathered[..., None])).sum(axis=-2))
        length = self.directions @ _t(self.directions) + outside * self.queries @ _t(self.queries)
        weight = upstream * length / self.channels
        both = seen @ _t(a)
        return np.asarray(
            self.own * _columns(weight, a, a) - 2 * _columns(weight, a * seen, a) + _columns(weight * both, a, a)
        )


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
        root = root @ (np.linalg.cholesky(channel @ _t(channel)) if channels > rank else channel)
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


def _columns(upstream: Array, left: Array, right: Array) -> Array:
    """sum_{i i'} P_{i i'} left_{i j} right_{i' j} for every j; a one-dimensional P is a diagonal."""
    if upstream.ndim == 1:
        return np.asarray((upstream[:, None] * left * right).sum(axis=-2))
    return np.asarray((left * (upstream @ right)).sum(axis=-2))


def _diagonal(matrix: Array) -> Array:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _t(matrix: Array) -> Array:
    return np.swapaxes(matrix, -1, -2)
