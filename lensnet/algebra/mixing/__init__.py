"""Special functions of the mixing components: softmax, attention, gates, mixtures of experts.

softmax_moments.py  softmax of independent Gaussian logits: every average exact, by one-dimensional integrals
top_k_moments.py    the same for the k largest logits
top_k_gates.py      what a gate makes of them, by a softmax or by sigmoids
equal_tokens.py     attention on equicorrelated Gaussian tokens
token_gram.py       attention on tokens of any Gram matrix
attention.py        the two as functions that a formula calls
dot_product.py      attention alone, from the Gram matrices of queries, keys and values
head_pairs.py        the same for several examples at once
softmax_paths.py     what all attention does with its weights, forward and backward
gate_moments.py     Gaussian averages of sigmoid, gelu and silu gates
gate_pairs.py       the same of two gates that see correlated signals
routing.py          gates that two samples share, of every kind
recurrent.py        LSTM and GRU over time
selective_scan.py   state-space models whose steps depend on the input
chebyshev.py, scatter.py   tables and averages that these share

Importing the package registers the functions with `lensnet.algebra.special`.
"""

from lensnet.algebra.mixing import (
    attention,
    dot_product,
    gate_moments,
    gate_pairs,
    recurrent,
    selective_scan,
    softmax_moments,
    top_k_gates,
    top_k_moments,
)

__all__ = [
    "attention", "dot_product", "gate_moments", "gate_pairs", "recurrent", "selective_scan", "softmax_moments",
    "top_k_gates", "top_k_moments",
]  # fmt: skip
