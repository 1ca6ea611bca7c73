"""Self-attention on several examples at once: covariances between every two tokens of a batch, by sampled logits.

All examples see the same weights. With G the covariance of all their tokens (E, T, E, T), the output of query i of
example e covaries with that of query k of example f as

    E[a_i^T G_ef a_k],     a_i = softmax(u_i . X_e),

where the logits of all queries of all examples are one Gaussian family through W_Q and W_K. `token_gram` averages the
same function of the logits for one token; here one sample serves the whole batch (docs/effects/attention.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mixing.softmax_paths import keys_of_two, queries_of_two, transposed
from lensnet.algebra.mixing.token_gram import LogitSample, gram_root

Array = NDArray[np.float64]
_WORK = 3e9
"""Multiplications that the samples of one call may cost."""
_MOST = 96


@dataclass(frozen=True)
class BatchLogits:
    """Sampled attention of a batch, all heads alike.

    `factor`: (S or 1, E, T, r) with G = F F^T; `query`, `key`, `slope`, `bias`, ... as in `LogitSample`.
    """

    factor: Array
    slope: float
    bias: float
    width: int
    channels: int
    causal: bool
    query: Array
    key: Array

    @classmethod
    def draw(
        cls,
        gram: Array,
        shape: tuple[int, int],
        slope: float,
        bias: float,
        width: int,
        channels: int,
        causal: bool,
        fluctuating: bool,
        source: np.random.Generator,
        work: float = _WORK,
    ) -> BatchLogits:
        """Logits of a batch of `shape` (E, T) whose tokens have the covariance `gram` (E*T, E*T).

        `fluctuating`: `gram` is an average over weight draws, and every sample gets that of `channels` Gaussian
        channels; else it is taken as it stands. Samples come in pairs of opposite logits.
        """
        examples, tokens = shape
        root = gram_root(gram, channels if not fluctuating else len(gram))[None]
        rank = min(root.shape[-1], channels) if fluctuating else root.shape[-1]
        count = examples * tokens
        each = count * (2.0 * tokens * count + 2.0 * rank * width + tokens * rank)
        pairs = samples_within(work, each) // 2
        if fluctuating:
            channel = source.standard_normal((pairs, root.shape[-1], channels)) / np.sqrt(channels)
            if channels > root.shape[-1]:
                channel = np.linalg.cholesky(channel @ np.swapaxes(channel, -1, -2))
            root = root @ channel
            root *= np.sqrt(np.trace(gram) / max(float((root**2).sum(axis=(1, 2)).mean()), 1e-300))  # few samples
            root = np.concatenate([root, root])
        rank = root.shape[-1]
        query = source.standard_normal((pairs, rank + 1, width))
        key = source.standard_normal((pairs, width, rank))
        query, key = np.concatenate([query, query]), np.concatenate([key, -key])
        factor = root.reshape(len(root), examples, tokens, rank)
        return cls(factor, slope, bias, width, channels, causal, query, key)

    def example(self, index: int) -> LogitSample:
        """The sample of one example alone."""
        return LogitSample(
            self.factor[:, index], self.slope, self.bias, self.width, self.channels, self.causal, self.query, self.key
        )

    @cached_property
    def examples(self) -> list[LogitSample]:
        return [self.example(index) for index in range(self.factor.shape[1])]

    @cached_property
    def count(self) -> tuple[int, int]:
        return self.factor.shape[1], self.factor.shape[2]

    def mix(self) -> tuple[Array, float]:
        """E[a_i^T G_ef a_k] for all tokens of all examples, (E*T, E*T), and its relative standard error."""
        examples, tokens = self.count
        seen = np.stack([one.weights @ one.factor for one in self.examples], axis=1)
        rows = seen.reshape(len(seen), examples * tokens, -1)
        found = np.einsum("snr,smr->nm", rows, rows, optimize=True) / len(rows)
        size = (rows**2).sum(axis=(1, 2)) / (self.factor**2).sum(axis=(1, 2, 3))
        return np.asarray(found), standard_error(size)

    def gradient(self, upstream: Array) -> Array:
        """Covariance of dL/dx between all tokens over g_value^2 g_output^2 channels_out/channels, (E*T, E*T).

        `upstream`: the same of the gradient that arrives, (E*T, E*T). Tokens with themselves as in `LogitSample`;
        pairs to leading order in 1/channels and 1/head_width.
        """
        examples, tokens = self.count
        p = upstream.reshape(examples, tokens, examples, tokens)
        out = np.zeros_like(p)
        for e in range(examples):
            for f in range(e, examples):
                if not p[e, :, f].any():
                    continue
                both = np.sum(self._pair(e, f, p[e, :, f]), axis=0)
                if e == f:
                    np.fill_diagonal(both, self.examples[e].gradient(p[e, :, e]))
                out[e, :, f] = both
                out[f, :, e] = both.T
        return out.reshape(upstream.shape)

    def path(self, which: int, upstream: Array) -> Array:
        """What comes through the queries (0), keys (1) or values (2) alone, to leading order also of a token with
        itself, (E*T, E*T)."""
        examples, tokens = self.count
        p = upstream.reshape(examples, tokens, examples, tokens)
        out = np.zeros_like(p)
        for e in range(examples):
            for f in range(e, examples):
                out[e, :, f] = self._pair(e, f, p[e, :, f])[which]
                out[f, :, e] = out[e, :, f].T
        return out.reshape(upstream.shape)

    def _pair(self, e: int, f: int, p: Array) -> list[Array]:
        """The block of two examples: through queries, keys and values."""
        one, two = self.examples[e], self.examples[f]
        a, b, gram = one.weights, two.weights, one.factor @ transposed(two.factor)
        value = transposed(a) @ p @ b
        key = keys_of_two(a, b, gram, p * one.lengths(other=two) / self.channels)
        query = self.slope * p * queries_of_two(a, b, gram, gram)
        return [np.asarray(part.mean(axis=0)) for part in (query, key, value)]


def samples_within(work: float, each: float) -> int:
    """How many samples of this cost fit the work, an even number of at least four."""
    return 2 * max(2, min(_MOST, round(work / each)) // 2)


def standard_error(sizes: Array) -> float:
    """Relative standard error of an average whose two halves are samples of opposite logits."""
    paired = (sizes[: len(sizes) // 2] + sizes[len(sizes) // 2 :]) / 2
    return float(np.std(paired, ddof=1) / np.mean(paired) / np.sqrt(len(paired)))
