"""Scaled dot-product attention on its own: queries, keys and values come from anywhere, each with its Gram matrix.

With random weights before it, the entries of a head's queries, keys and values are Gaussian over weight draws, and
independent from channel to channel; what they have in common from token to token stands in three Gram matrices. The
logits are products of rank d_head of the first two; given the logits, everything is averaged exactly over the values
and over the gradient from above (docs/effects/attention.md, section 3). So heads that share keys, keys that positions
have rotated, and queries of another sequence need no rule of their own: their Gram matrices say it. A table of relative
positions is no part of a token: what it adds to a key differs from query to query, so it is drawn beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.mixing.softmax_paths import (
    columns,
    own_keys,
    own_queries,
    pulled_by_logits,
    softmax_weights,
    transposed,
)
from lensnet.algebra.mixing.token_gram import gram_root
from lensnet.algebra.special import special

Array = NDArray[np.float64]

# Queries sampled, and multiplications that their logits may cost, for all examples together and for each at least: what
# holds for one draw is asked for again and again, and averaging smooths it.
_ROWS, _FEWEST_ROWS = 2**16, 2**11
_WORK, _LEAST_WORK = 1e9, 4e7


@dataclass(frozen=True)
class HeadSample:
    """Samples of one head of one example. `query`: (S, Tq, w); `key`: (S, Tk, w); `value`: Gram matrix (Tk, Tk);
    `bias`: (heads, Tq, Tk), added to the logits of one sample after the other. `beside_query`, `beside_key`: what a
    table of relative positions adds to query i as key j sees it, and to key j as query i does, (S, Tq, Tk, w), the
    latter of second moment `key_table`; None where there is no table. `sink`: (heads,), logits of what takes a share of
    the softmax and gives nothing, of one sample after the other; minus infinity where there is none."""

    query: Array
    key: Array
    value: Array
    key_gram: Array
    scale: float
    bias: Array
    key_table: float = 0.0
    beside_query: Array | None = None
    beside_key: Array | None = None
    sink: Array | None = None

    @cached_property
    def logits(self) -> Array:
        """Every query times the keys as it sees them."""
        products = self.query @ transposed(self.key)
        if self.beside_key is not None:
            products = products + np.einsum("siw,sijw->sij", self.query, self.beside_key)
        return np.asarray(self.scale * products)

    @cached_property
    def weights(self) -> Array:
        logits = self.logits + np.resize(self.bias, self.logits.shape)
        if self.beside_query is not None:
            logits = logits + self.scale * np.einsum("sjw,sijw->sij", self.key, self.beside_query)
        sink = None if self.sink is None else np.resize(self.sink, (len(logits), 1, 1))
        return softmax_weights(logits, False, sink)

    def share(self) -> Array:
        """What the keys get of every query's softmax, (Tq,): all of it but for a sink."""
        return np.asarray(self.weights.sum(axis=-1).mean(axis=0))

    def mix(self) -> Array:
        a = self.weights
        return np.asarray(((a @ self.value) * a).sum(axis=-1).mean(axis=0))

    def to_value(self, upstream: Array) -> Array:
        return np.asarray(columns(upstream, self.weights, self.weights).mean(axis=0))

    def to_query(self, upstream: Array) -> Array:
        a, gram, width = self.weights, self.value, self.query.shape[-1]
        trace = own_queries(a, gram, self.key_gram + self.key_table * np.eye(len(self.key_gram)))
        pulled = pulled_by_logits(a, self.logits)
        along = ((pulled @ gram) * pulled).sum(axis=-1)
        length = np.maximum((self.query**2).sum(axis=-1), 1e-300)
        power = upstream if upstream.ndim == 1 else np.diagonal(upstream)
        found = self.scale**2 * (width - 1) * trace + along / length
        return np.asarray(power * found.mean(axis=0))

    def to_key(self, upstream: Array) -> Array:
        alone, length = upstream.ndim == 1, (self.query**2).sum(axis=-1)
        products = length if alone else self.query @ transposed(self.query)
        found = own_keys(self.weights, self.value, upstream * products)
        if self.beside_query is not None:  # queries grow by it, each by an amount of its own, and keep their angles
            grown = ((self.query[:, :, None] + self.beside_query) ** 2).sum(axis=-1) - length[..., None]
            power = upstream if alone else np.diagonal(upstream)
            found = found + own_keys(self.weights, self.value, power[:, None] * grown, of_pairs=True)
        return np.asarray(self.scale**2 * found.mean(axis=0))


@lru_cache(maxsize=16)
def _samples(
    key: tuple[bytes, bytes, bytes, int, int, int, float, bytes, int, int, bytes, float, float],
) -> HeadSample:
    queries, keys, width, scale, examples, windows = key[3], key[4], key[5], key[6], key[8], key[9]
    bias, sink = np.frombuffer(key[7]).reshape(-1, queries, keys), np.frombuffer(key[10])
    grams = [np.frombuffer(data).reshape(size, size) for data, size in zip(key[:3], (queries, keys, keys), strict=True)]
    roots = [gram_root(gram, len(gram)) for gram in grams[:2]]
    work = max(_LEAST_WORK, _WORK / examples)
    rows = min(max(_FEWEST_ROWS / windows, _ROWS / examples), work / (keys * (width + 3 * keys)))
    count = max(1, round(rows / queries), len(bias), len(sink))
    source = np.random.default_rng([crc32(data) for data in key[:3]])
    pairs = (count + 1) // 2
    query = roots[0] @ source.standard_normal((pairs, roots[0].shape[1], width))
    other = roots[1] @ source.standard_normal((pairs, roots[1].shape[1], width))
    if count > 1:  # pairs of opposite logits
        query, other = np.concatenate([query, query]), np.concatenate([other, -other])
    tables: list[Array | None] = []
    for square, sign in zip(key[11:], (1, -1), strict=True):
        row = source.standard_normal((pairs, queries + keys - 1, width)) * square**0.5 if square else None
        row = row if row is None or count == 1 else np.concatenate([row, sign * row])
        distance = np.arange(queries)[:, None] - np.arange(keys) + keys - 1
        tables.append(None if row is None else row[:, distance])
    lost = sink if np.isfinite(sink).any() else None
    return HeadSample(query, other, grams[2], grams[1], scale, bias, key[12], tables[0], tables[1], lost)


def _matrix(gram: Array, field: Array, example: int, examples: int) -> Array:
    """One example's Gram matrix; a number or a number per example is a common uncentred correlation. An example that is
    cut into windows counts once for each."""
    gram = np.asarray(gram, float)
    gram = gram.reshape(-1, *gram.shape[2:]) if gram.ndim == 4 else gram
    q = np.asarray(field, float)
    q = q[min(example, len(q) - 1)] if q.ndim > 1 else np.atleast_1d(q)
    if gram.ndim == 3:
        return np.ascontiguousarray(gram[min(example, len(gram) - 1)])
    rho = float(gram.reshape(-1)[min(example * gram.size // examples, gram.size - 1)])
    root = np.sqrt(np.maximum(q, 0.0))
    return np.outer(root, root) * (rho + (1 - rho) * np.eye(len(q)))


def _heads(
    q_query: Array, q_key: Array, q_value: Array, grams: tuple[Array, Array, Array], numbers: tuple[ArrayLike, ...]
) -> list[HeadSample | None]:
    """The sample of every example, None where a Gram matrix holds NaN or infinity."""
    width, scale, query_table, key_table = (float(np.max(numbers[place])) for place in (0, 1, 4, 5))
    sink = np.ascontiguousarray(np.atleast_1d(numbers[3]), float).tobytes()
    fields = [np.atleast_2d(np.asarray(field, float)) for field in (q_query, q_key, q_value)]
    lengths = [len(field) for field in fields] + [np.shape(gram)[0] for gram in grams if np.ndim(gram) == 3]
    lengths += [np.shape(gram)[0] * np.shape(gram)[1] for gram in grams if np.ndim(gram) == 4]
    bias, count = np.asarray(numbers[2], float), max(lengths)
    windows = max([np.shape(gram)[1] for gram in grams if np.ndim(gram) == 4], default=1)
    bias = bias if bias.ndim == 4 else np.zeros((1, 1, fields[0].shape[1], fields[1].shape[1]))
    out: list[HeadSample | None] = []
    for example in range(count):
        found = [_matrix(gram, field, example, count) for gram, field in zip(grams, fields, strict=True)]
        if not all(np.isfinite(gram).all() for gram in found):
            out.append(None)
            continue
        query, key, value = (gram.tobytes() for gram in found)
        added = np.ascontiguousarray(bias[example % len(bias)]).tobytes()
        sizes = len(found[0]), len(found[1]), round(width)
        out.append(_samples((query, key, value, *sizes, scale, added, count, windows, sink, query_table, key_table)))
    return out


@special("attend_mix", 12, r"\mathbb{{E}}\left[a^\top G a\right]")
def attend_mix(
    q_query: Array,
    q_key: Array,
    q_value: Array,
    query_gram: Array,
    key_gram: Array,
    value_gram: Array,
    width: Array,
    scale: Array,
    bias: Array,
    sink: Array,
    query_table: Array,
    key_table: Array,
) -> Array:
    """Second moment of what a query gathers, (E, Tq): the values' mean under a = softmax of scale * query . key.

    Grams: (E, T, T) or (E, windows, T, T), or one correlation of all pairs of tokens; with windows, the fields have a
    row for each window of each example. width: d_head; bias: (windows, heads, Tq, Tk), added to the logits; sink:
    (heads,), logits of what takes a share of each softmax and gives nothing, minus infinity for none.
    query_table, key_table: second moments of the tables of relative positions added to queries and keys, or 0.
    """
    numbers = (width, scale, bias, sink, query_table, key_table)
    heads = _heads(q_query, q_key, q_value, (query_gram, key_gram, value_gram), numbers)
    blank = np.full(np.shape(q_query)[-1], np.nan)
    return np.stack([blank if head is None else head.mix() for head in heads])


@special("attend_share", 12, r"\mathbb{{E}}\textstyle\sum_j a_j")
def attend_share(
    q_query: Array,
    q_key: Array,
    q_value: Array,
    query_gram: Array,
    key_gram: Array,
    value_gram: Array,
    width: Array,
    scale: Array,
    bias: Array,
    sink: Array,
    query_table: Array,
    key_table: Array,
) -> Array:
    """What the keys get of every query's softmax on average, (E, Tq): 1 without a sink. Arguments as for attend_mix."""
    queries = np.shape(q_query)[-1]
    if not np.isfinite(sink).any():
        return np.ones_like(np.atleast_2d(np.asarray(q_query, float)))
    numbers = (width, scale, bias, sink, query_table, key_table)
    heads = _heads(q_query, q_key, q_value, (query_gram, key_gram, value_gram), numbers)
    return np.stack([np.full(queries, np.nan) if head is None else head.share() for head in heads])


@special("attend_gradient", 15, r"\mathbb{{E}}\left[\lVert\partial L\rVert^2\right]")
def attend_gradient(
    port: Array,
    p: Array,
    gradient_gram: Array,
    q_query: Array,
    q_key: Array,
    q_value: Array,
    query_gram: Array,
    key_gram: Array,
    value_gram: Array,
    width: Array,
    scale: Array,
    bias: Array,
    sink: Array,
    query_table: Array,
    key_table: Array,
) -> Array:
    """Second moment of the gradient at the queries (port 0), keys (1) or values (2) of one head, (E, T).

    p: second moment of the gradient at the output; gradient_gram: its Gram matrix, or 0 where positions are
    independent. Other arguments as for attend_mix.
    """
    numbers = (width, scale, bias, sink, query_table, key_table)
    heads = _heads(q_query, q_key, q_value, (query_gram, key_gram, value_gram), numbers)
    which = round(float(np.max(port)))
    p = np.atleast_2d(np.asarray(p, float))
    queries = np.shape(q_query)[-1]
    size = queries if which == 0 else np.shape(q_key)[-1]
    gram = np.asarray(gradient_gram, float)
    count = max(len(heads), len(p), len(gram) if gram.ndim == 3 else prod(gram.shape[:2]) if gram.ndim == 4 else 1)
    out = []
    for example in range(count):
        head = heads[min(example, len(heads) - 1)]
        power = np.broadcast_to(p[min(example, len(p) - 1)], (queries,))
        upstream = power if not gram.any() else _matrix(gram, p, example, count)
        if head is None or not np.isfinite(upstream).all():
            out.append(np.full(size, np.nan))
        else:
            out.append((head.to_query, head.to_key, head.to_value)[which](upstream))
    return np.stack(out)


@special("added_to_all", 3, r"\left({0} + {2}\right)")
def added_to_all(gram: Array, q: Array, common: Array) -> Array:
    """A Gram matrix of tokens, or a correlation of all pairs of second moment q, when to every token a vector of second
    moment `common` is added that is the same for all."""
    gram, shared = np.asarray(gram, float), float(np.max(common))
    if gram.ndim >= 3:
        return np.asarray(gram + shared)
    size = float(np.mean(q))
    return np.asarray((gram * size + shared) / max(size + shared, 1e-300)) if shared else gram


__all__ = ["HeadSample", "added_to_all", "attend_gradient", "attend_mix", "attend_share"]
