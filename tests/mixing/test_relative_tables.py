"""Tables of relative positions in attention's logits, against autograd over draws of queries, keys and tables.

What a table adds to a query differs from key to key: what the keys have in common no longer cancels in the softmax.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensnet.algebra.mixing.dot_product import added_to_all, attend_gradient, attend_mix

TOKENS, WIDTH, SCALE = 8, 16, 0.25
# (query table, key table, offset, what the keys have in common): second moments, beside a unit of a token's own
GRID = [(0.0, 0.6, 0.0, 0.0), (0.6, 0.0, 0.0, 0.0), (0.3, 0.0, 0.2, 1.0), (0.5, 0.5, 0.0, 1.0)]


def measured(query_table: float, key_table: float, offset: float, common: float, draws: int) -> torch.Tensor:
    """Mean square per draw of the output, and of the gradients at queries, keys and values, (draws, 4)."""
    source = torch.Generator().manual_seed(5)

    def rows(count: int, square: float) -> torch.Tensor:
        return square**0.5 * torch.randn(draws, count, WIDTH, generator=source)

    query, key, value = (rows(TOKENS, 1.0) for _ in range(3))
    key = key + rows(1, common)
    for tensor in (query, key, value):
        tensor.requires_grad_()
    distance = torch.arange(TOKENS)[:, None] - torch.arange(TOKENS) + TOKENS - 1
    to_query, to_key = (rows(2 * TOKENS - 1, square)[:, distance] for square in (query_table, key_table))
    asked = query + rows(1, offset)
    logits = asked @ key.mT + torch.einsum("niw,nijw->nij", asked, to_key)
    logits = logits + torch.einsum("njw,nijw->nij", key, to_query)
    output = (SCALE * logits).softmax(-1) @ value
    gradients = torch.autograd.grad((output * rows(TOKENS, 1.0)).sum(), (query, key, value))
    return torch.stack([tensor.detach().square().mean((1, 2)) for tensor in (output, *gradients)], dim=1)


@pytest.mark.parametrize("at", GRID, ids=str)
def test_tables_against_autograd(at: tuple[float, float, float, float]) -> None:
    query_table, key_table, offset, common = map(np.array, at)
    one = np.ones((1, TOKENS))
    own = np.eye(TOKENS)[None]
    fields = (one + offset, one + common, one)
    grams = (added_to_all(own, one, offset), own + common, own)
    rest = (np.array(WIDTH), np.array(SCALE), np.array(0.0), np.array(-np.inf), query_table, key_table)
    predicted = [attend_mix(*fields, *grams, *rest).mean()]
    for port in map(np.array, range(3)):
        predicted.append(attend_gradient(port, one, np.array(0.0), *fields, *grams, *rest).mean())
    seen = measured(*at, draws=20_000)
    error = (seen.std(0) / len(seen) ** 0.5).numpy()
    np.testing.assert_array_less(np.abs(seen.mean(0).numpy() - predicted), 0.012 * np.array(predicted) + 3 * error)
