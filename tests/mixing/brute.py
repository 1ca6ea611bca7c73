"""Self-attention by brute force: random weights, autograd, nothing shared with the package."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """One attention layer: T tokens of d channels, `heads` heads; `gain` of the queries (keys, values, output: 1)."""

    tokens: int
    channels: int
    heads: int = 1
    gain: float = 1.0
    correlation: float = 0.0
    causal: bool = False
    mean: float = 0.0
    query_bias: float = 0.0

    @property
    def width(self) -> int:
        return self.channels // self.heads

    @property
    def second_moment(self) -> float:
        return 1.0 + self.mean**2


@dataclass(frozen=True)
class Truth:
    """Per position: mean over draws and standard error, forward and backward."""

    output: Array
    output_error: Array
    gradient: Array
    gradient_error: Array
    whole_error: tuple[float, float]  # standard errors of the averages over positions


def truth(
    at: Setting, draws: int, batch: int = 64, tokens: Tensor | None = None, upstream: Tensor | None = None
) -> Truth:
    """Moments over weight draws; every draw has fresh Gaussian tokens unless `tokens` (T, d) are given.

    `upstream`: Cholesky factor (T, T) of the Gram matrix of the gradients from above. The input's own scatter is taken
    out by regression on its second moment, whose expectation is known.
    """
    source = torch.Generator().manual_seed(at.tokens * 7919 + at.channels + at.heads + int(100 * at.correlation))
    rows, inputs = [], []
    for _ in range(max(1, draws // batch)):
        x, y, g = _pass(at, batch, source, tokens, upstream)
        rows.append(torch.stack([y.square().mean(-1), g.square().mean(-1)], 1).double())
        inputs.append(x.square().mean((1, 2)).double())
    values, control = torch.cat(rows).numpy(), torch.cat(inputs).numpy()
    if tokens is None:
        control = control - at.second_moment
        slope = np.tensordot(control, values - values.mean(0), 1) / np.square(control).sum()
        values = values - control[:, None, None] * slope
    error = values.std(0) / math.sqrt(len(values))
    whole = values.mean(-1).std(0) / math.sqrt(len(values))
    mean = values.mean(0)
    return Truth(mean[0], error[0], mean[1], error[1], (whole[0], whole[1]))


def _pass(
    at: Setting, batch: int, source: torch.Generator, tokens: Tensor | None, upstream: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source)

    def heads(z: Tensor) -> Tensor:
        return z.view(batch, at.tokens, at.heads, at.width).transpose(1, 2)

    d = at.channels
    if tokens is None:
        shared, own = normal(batch, 1, d), normal(batch, at.tokens, d)
        x = math.sqrt(at.correlation) * shared + math.sqrt(1 - at.correlation) * own + at.mean
    else:
        x = tokens.float().expand(batch, -1, -1).clone()
    x.requires_grad_()
    query, key, value, output = (normal(batch, d, d) / math.sqrt(d) for _ in range(4))
    queries = x @ query * at.gain + at.query_bias * normal(batch, 1, d)
    logits = heads(queries) @ heads(x @ key).transpose(2, 3) / math.sqrt(at.width)
    if at.causal:
        logits = logits.masked_fill(torch.ones(at.tokens, at.tokens).triu(1).bool(), -torch.inf)
    mixed = logits.softmax(-1) @ heads(x @ value)
    y = mixed.transpose(1, 2).reshape(batch, at.tokens, d) @ output
    r = normal(batch, at.tokens, d)
    (g,) = torch.autograd.grad(y, x, r if upstream is None else upstream.float() @ r)
    return x.detach(), y.detach(), g
