"""Scaled dot-product attention on several examples at once: covariances between every two tokens of a batch.

Queries, keys and values come from anywhere, each with its covariance over all tokens of all examples (as in
`dot_product`, for one example). Queries of all examples are one Gaussian family, and so are the keys, so that one
sample of both serves the whole batch; values and the gradient from above are averaged exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import lcm

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mixing.dot_product import HeadSample
from lensnet.algebra.mixing.softmax_paths import keys_of_two, queries_of_two, transposed
from lensnet.algebra.mixing.token_gram import gram_root
from lensnet.algebra.mixing.token_pairs import samples_within, standard_error

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeadPairs:
    """Samples of one head for a batch of E examples.

    `query`: (S, E, Tq, w); `key`: (S, E, Tk, w); `key_gram`, `value`: covariances of keys and values,
    (E, Tk, E, Tk); `scale`: factor on the logits; `bias`: added to them, (heads, Tq, Tk), minus infinity where a query
    does not see a key; one sample after the other has that of the next head. `sink`: (heads,), as in `HeadSample`.
    """

    query: Array
    key: Array
    key_gram: Array
    value: Array
    scale: float
    bias: Array
    sink: Array | None = None

    @classmethod
    def draw(
        cls,
        grams: tuple[Array, Array, Array],
        examples: int,
        width: int,
        scale: float,
        bias: Array,
        sink: Array,
        source: np.random.Generator,
        work: float,
    ) -> HeadPairs:
        """`grams`: of queries, keys and values over all tokens, (E*T, E*T); `bias`, `sink` as above. Samples come in
        pairs: opposite logits."""
        roots = [gram_root(gram, len(gram)) for gram in grams[:2]]
        (queries, keys), rank = (len(gram) for gram in grams[:2]), max(root.shape[1] for root in roots)
        pairs = samples_within(work, queries * (2.0 * keys / examples * (width + keys) + 2.0 * rank * width)) // 2
        heads = lcm(len(bias), len(sink))
        pairs = -(-max(pairs, 1) // heads) * heads  # as many of every head
        query, key = (root @ source.standard_normal((pairs, root.shape[1], width)) for root in roots)
        query, key = np.concatenate([query, query]), np.concatenate([key, -key])
        split = (examples, keys // examples, examples, keys // examples)
        return cls(
            query.reshape(len(query), examples, -1, width), key.reshape(len(key), examples, -1, width),
            grams[1].reshape(split), grams[2].reshape(split), scale, bias, sink if np.isfinite(sink).any() else None,
        )  # fmt: skip

    @cached_property
    def examples(self) -> list[HeadSample]:
        """The samples of every example alone."""
        each = range(self.query.shape[1])
        grams = [(self.value[e, :, e], self.key_gram[e, :, e]) for e in each]
        return [HeadSample(self.query[:, e], self.key[:, e], *grams[e], self.scale, self.bias, sink=self.sink)
                for e in each]  # fmt: skip

    def mix(self) -> tuple[Array, float]:
        """E[a_i^T G a_k] for all queries of all examples, (E*Tq, E*Tq), and its relative standard error."""
        count = self.value.shape[0] * self.value.shape[1]
        factor = gram_root(self.value.reshape(count, count), count).reshape(*self.value.shape[:2], -1)
        seen = np.stack([one.weights @ own for one, own in zip(self.examples, factor, strict=True)], axis=1)
        rows = seen.reshape(len(seen), -1, seen.shape[-1])
        found = np.einsum("snr,smr->nm", rows, rows, optimize=True) / len(rows)
        return np.asarray(found), standard_error((rows**2).sum(axis=(1, 2)))

    def to_values(self, upstream: Array) -> Array:
        """Covariance of the gradient at the values, (E*Tk, E*Tk), from that at the output, (E*Tq, E*Tq)."""

        def pair(e: HeadSample, f: HeadSample, p: Array, gram: Array, other: Array) -> Array:
            return np.asarray(transposed(e.weights) @ p @ f.weights)

        return self._blocks(upstream, pair, lambda e, p: e.to_value(p), self.key.shape[2])

    def to_keys(self, upstream: Array) -> Array:
        """The same at the keys; pairs to leading order in 1/width."""

        def pair(e: HeadSample, f: HeadSample, p: Array, gram: Array, other: Array) -> Array:
            return self.scale**2 * keys_of_two(e.weights, f.weights, gram, p * (e.query @ transposed(f.query)))

        return self._blocks(upstream, pair, lambda e, p: e.to_key(p), self.key.shape[2])

    def to_queries(self, upstream: Array) -> Array:
        """The same at the queries, (E*Tq, E*Tq)."""
        width = self.query.shape[-1]

        def pair(e: HeadSample, f: HeadSample, p: Array, gram: Array, other: Array) -> Array:
            return self.scale**2 * width * p * queries_of_two(e.weights, f.weights, gram, other)

        return self._blocks(upstream, pair, lambda e, p: e.to_query(p), self.query.shape[2])

    def _blocks(
        self, upstream: Array, pair: Callable[..., Array], own: Callable[[HeadSample, Array], Array], tokens: int
    ) -> Array:
        """The covariance block by block; a token with itself as in `HeadSample`, which is exact in 1/width."""
        examples, queries = self.query.shape[1:3]
        p = upstream.reshape(examples, queries, examples, queries)
        out = np.zeros((examples, tokens, examples, tokens))
        for e, one in enumerate(self.examples):
            for f, two in enumerate(self.examples[e:], start=e):
                if not p[e, :, f].any():
                    continue
                grams = self.value[e, :, f], self.key_gram[e, :, f]
                both = pair(one, two, p[e, :, f], *grams).mean(axis=0)
                if e == f:
                    np.fill_diagonal(both, own(one, p[e, :, e]))
                out[e, :, f], out[f, :, e] = both, both.T
        return out.reshape(examples * tokens, -1)
