"""Sinks of attention: a logit per head whose share of the softmax goes nowhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensnet.algebra.mixing.dot_product import attend_gradient, attend_mix, attend_share

TOKENS, WIDTH, SCALE = 8, 16, 0.25
FIELD, OWN = np.ones((1, TOKENS)), np.eye(TOKENS)[None]
NONE = np.array(0.0)


def rest(scale: float, sinks: list[float]) -> tuple[np.ndarray, ...]:
    return np.array(WIDTH), np.array(scale), NONE, np.log(np.array(sinks)), NONE, NONE


@pytest.mark.parametrize("sink", [0.5, 2.0, 8.0])
def test_without_logits_a_sink_takes_its_weight(sink: float) -> None:
    """All n keys weigh 1 and the sink z: shares 1/(n + z), exactly."""
    left = TOKENS / (TOKENS + sink)
    rows = (*(FIELD,) * 3, *(OWN,) * 3, *rest(0.0, [sink]))
    np.testing.assert_allclose(attend_share(*rows), left, rtol=1e-12)
    np.testing.assert_allclose(attend_mix(*rows), left**2 / TOKENS, rtol=1e-12)


@pytest.mark.parametrize("sinks", [[3.0], [0.5, 8.0]], ids=str)
def test_sinks_against_autograd(sinks: list[float]) -> None:
    source, draws = torch.Generator().manual_seed(5), 20_000
    query, key, value, above = (torch.randn(draws, TOKENS, WIDTH, generator=source) for _ in range(4))
    for tensor in (query, key, value):
        tensor.requires_grad_()
    lost = torch.tensor(sinks).log().repeat(draws // len(sinks))[:, None, None].expand(draws, TOKENS, 1)
    weights = torch.cat([lost, SCALE * query @ key.mT], -1).softmax(-1)[..., 1:]
    output = weights @ value
    gradients = torch.autograd.grad((output * above).sum(), (query, key, value))
    seen = torch.stack([one.detach().square().mean((1, 2)) for one in (output, *gradients)], dim=1)
    seen = torch.cat([seen, weights.detach().sum(-1).mean(-1, keepdim=True)], 1)
    rows = (*(FIELD,) * 3, *(OWN,) * 3, *rest(SCALE, sinks))
    predicted = [attend_mix(*rows).mean()]
    predicted += [attend_gradient(np.array(port), FIELD, NONE, *rows).mean() for port in range(3)]
    predicted.append(attend_share(*rows).mean())
    error = (seen.std(0) / len(seen) ** 0.5).numpy()
    np.testing.assert_array_less(np.abs(seen.mean(0).numpy() - predicted), 0.012 * np.array(predicted) + 3 * error)
