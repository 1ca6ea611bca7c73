"""What softmax averages do to Gram matrices, forward and backward, given their weights: shared by all attention.

Queries i gather y_i = sum_j a_ij v_j with a_i = softmax of the logits of query i, J_i = diag(a_i) - a_i a_i^T (with a
sink, too, whose logit nothing here changes: then a_i sums to less than one). Values
have a Gram matrix G (T, T), gradients at the outputs P. With one leading axis for samples, (S, i, j):

    values     a^T P a
    keys       sum_ik W_ik J_i G J_k        W = P times what the queries of i and k have in common
    queries    tr J_i G J_k H               H = what the keys have in common

each for two sets of queries a, b (of two examples, G between their keys), or for one token with itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def transposed(matrix: Array) -> Array:
    return np.swapaxes(matrix, -1, -2)


def diagonal(matrix: Array) -> Array:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def softmax_weights(logits: Array, causal: bool, sink: Array | None = None) -> Array:
    """a_ij over the keys j that query i sees; `sink`: a logit beside theirs, (S, 1, 1), whose share goes nowhere."""
    if causal:
        logits = np.where(np.tril(np.ones(logits.shape[-2:], bool)), logits, -np.inf)
    top = logits.max(axis=-1, keepdims=True)
    top = top if sink is None else np.maximum(top, sink)
    raw = np.exp(logits - top)
    lost = 0.0 if sink is None else np.exp(sink - top)
    return np.asarray(raw / (raw.sum(axis=-1, keepdims=True) + lost))


def columns(upstream: Array, left: Array, right: Array) -> Array:
    """sum_ik P_ik left_ij right_kj for every j; a one-dimensional P is a diagonal."""
    if upstream.ndim == 1:
        return np.asarray((upstream[:, None] * left * right).sum(axis=-2))
    return np.asarray((left * (upstream @ right)).sum(axis=-2))


def pulled_by_logits(a: Array, logits: Array) -> Array:
    """J_i l_i."""
    return np.asarray(a * (logits - (a * logits).sum(axis=-1, keepdims=True)))


def own_keys(a: Array, gram: Array, weight: Array, of_pairs: bool = False) -> Array:
    """(sum_ik W_ik J_i G J_k)_jj for every key j, (S, T); `weight` (S, T, T), or (S, T) where it is a diagonal;
    `of_pairs`: a diagonal for every key, (S, i, j)."""
    seen, own = a @ gram, diagonal(gram)
    if of_pairs or weight.ndim < a.ndim:
        gathered = (seen * a).sum(axis=-1)
        spread = (weight if of_pairs else weight[..., None]) * a**2
        return np.asarray((spread * (own[..., None, :] - 2 * seen + gathered[..., None])).sum(axis=-2))
    both = seen @ transposed(a)
    return np.asarray(own * columns(weight, a, a) - 2 * columns(weight, a * seen, a) + columns(weight * both, a, a))


def own_queries(a: Array, gram: Array, other: Array) -> Array:
    """tr J_i G J_i H for every query i, (S, T)."""
    seen, beside = a @ gram, a @ other
    mixed = ((a @ (gram * other)) * a).sum(axis=-1) - 2 * (a * seen * beside).sum(axis=-1)
    return np.asarray(mixed + (seen * a).sum(axis=-1) * (beside * a).sum(axis=-1))


def keys_of_two(a: Array, b: Array, gram: Array, weight: Array) -> Array:
    """sum_ik W_ik J_i G J_k between the keys of two examples, (S, T, T)."""
    left, right = a @ gram, gram @ transposed(b)
    onto, back = weight @ b, transposed(weight) @ a
    found = gram * (transposed(a) @ onto) - transposed(a) @ (left * onto) - transposed(back * transposed(right)) @ b
    return np.asarray(found + transposed(a) @ (weight * (left @ transposed(b))) @ b)


def queries_of_two(a: Array, b: Array, gram: Array, other: Array) -> Array:
    """tr J_i G J_k H between the queries of two examples, (S, T, T)."""
    c = transposed(b)
    left, right, beside, across = a @ gram, gram @ c, a @ other, other @ c
    found = a @ (gram * other) @ c - a @ (right * across) - (left * beside) @ c
    return np.asarray(found + (left @ c) * (beside @ c))
