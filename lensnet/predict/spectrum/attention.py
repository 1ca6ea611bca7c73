"""What one draw of queries and keys makes of attention: its values are a sample of a population that is itself drawn.

The kernel level averages over queries and keys. A network has a few heads, each with one choice of where every token
looks: given these choices a_h the neurons of the output have the covariance (1/heads) sum_h a_h G a_h^T, whose
eigenvalues are more spread than those of its average. Given the Gram matrix G of the tokens queries and keys are
Gaussian, so choices are drawn as they are, a few times with a fixed seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.covariance import Matrix
from lensnet.levels.pairs import FullPairs
from lensnet.network.graph import Node
from lensnet.quantities.rows import RowSample

Places = NDArray[np.intp]
ATTENTION = {"query", "key", "value", "output"}
LEAST_UNLIKE = 0.005
"""Below, tokens differ by the cube of how they differed before, much in some sequences and little in others, of which a
typical matrix knows nothing."""
_DRAWS = 4
_LEAST = 1e-8
"""Of the largest eigenvalue: below that nothing counts, and typical eigenvalues cannot be told."""


def unlike(gram: Matrix, sample: RowSample) -> float:
    """Share of the energy that the rows of an example do not have in common."""
    split = sample.split(gram)
    common = float(np.einsum("apaq->", split)) / len(sample.places)
    return 1 - common / max(float(np.trace(gram)), 1e-300)


def with_floor(matrix: Matrix) -> Matrix:
    """Without eigenvalues that are zero but for rounding, as those of tokens that have become one."""
    values, basis = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((basis * np.maximum(values, _LEAST * values[-1])) @ basis.T)


def looked_at(node: Node, gram: Matrix, layout: FullPairs, sample: RowSample, neurons: int | None = None) -> Matrix:
    """The covariance of the output over the sampled rows, typical for a draw of queries and keys, `(R, R)`.

    Args:
        node: a component whose weights are those of `ATTENTION`.
        gram: E x_a x_b of the tokens, `(N, N)` over `layout`.
        neurons: of which the tokens are a sample; None where `gram` is a typical sample matrix already.

    The eigenvalues, by size, are means over the draws, the eigenvectors those of the average.
    """
    rng = np.random.default_rng(0)
    rows = (np.arange(sample.examples)[:, None] * layout.places + np.array(sample.places)).ravel()
    root = _root(gram)
    found = []
    for _ in range(_DRAWS):
        tokens = root
        if neurons is not None:
            tokens = root @ rng.standard_normal((len(gram), neurons)) / np.sqrt(neurons)
        found.append(_choices(node, tokens, layout, rows, rng))
    mean = np.mean(found, axis=0)
    values = np.mean([np.linalg.eigvalsh(one) for one in found], axis=0)
    basis = np.linalg.eigh(mean)[1]
    typical = (basis * values) @ basis.T
    value, output = node.weights["value"], node.weights["output"]
    added = output.gain**2 * (value.bias_std**2 + value.bias_mean**2) + output.bias_std**2
    return np.asarray(output.gain**2 * value.gain**2 * typical + added)


def _choices(node: Node, root: Matrix, layout: FullPairs, rows: Places, rng: np.random.Generator) -> Matrix:
    """(1/heads) sum_h a_h G a_h^T over the sampled rows, for one draw of queries and keys. `root`: G = root root^T."""
    query, key = node.weights["query"], node.weights["key"]
    heads, places = int(node.parameters["heads"]), layout.places
    width = node.shape.channels // heads
    hidden = np.triu(np.full((places, places), -np.inf), 1) if node.parameters["causal"] else 0.0
    total = np.zeros((len(rows), len(rows)))
    for _ in range(heads):
        asked = query.gain * root @ rng.standard_normal((root.shape[1], width)) + query.bias_mean
        asked = asked + query.bias_std * rng.standard_normal(width)
        keys = key.gain * root @ rng.standard_normal((root.shape[1], width))
        asked, keys = (x.reshape(layout.examples, places, width) for x in (asked, keys))
        logits = asked @ keys.transpose(0, 2, 1) / np.sqrt(width) + hidden
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        seen = (weights @ root.reshape(layout.examples, places, -1)).reshape(layout.count, -1)[rows]
        total += seen @ seen.T
    return total / heads


def _root(gram: Matrix) -> Matrix:
    values, basis = np.linalg.eigh((gram + gram.T) / 2)
    return np.asarray(basis * np.sqrt(np.maximum(values, 0.0)))
