"""What normalisations need to know: how alike the samples are that share one mean and one variance.

The samples of a norm are the examples and positions of one channel (`batch`), the positions of one channel
(`position`), or the channels of a group and all positions (`group`). n is their number, E_s the average over the sets
(channels or groups). m, q are averages over all channels at an example and position, v = q - m^2.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.measure.estimators.tokens import tokens
from lensnet.network.graph import Node
from lensnet.network.shape import Shape

Kind = Literal["batch", "position", "group"]
_TINY = 1e-12


def _sets(x: Tensor, shape: Shape, node: Node, kind: Kind) -> Tensor:
    """The tensor as (E, sets, samples); E is 1 for sets that run through the batch."""
    rows = tokens(x, shape)
    if kind == "batch":
        return rows.reshape(1, -1, shape.channels).transpose(1, 2)
    if kind == "position":
        return rows.transpose(1, 2)
    groups = int(node.parameters["groups"])
    split = rows.reshape(len(rows), shape.position_count, groups, shape.channels // groups)
    return split.transpose(1, 2).flatten(2)


def _shaped(value: Tensor, kind: Kind) -> Tensor:
    return value.reshape(()) if kind == "batch" else value


def correlation(x: Tensor, shape: Shape, node: Node, kind: Kind) -> Tensor:
    """Average centred correlation between two samples of a set, `(E,)` (a number for the batch).

    With a = E_s[(mean of the samples)^2] - (mean m)^2, b = (mean v)/n and s = (mean sqrt(v))^2 it is (a - b)/(s - b).
    """
    sets = _sets(x, shape, node, kind)
    rows = tokens(x, shape)
    mean = rows.mean(2, dtype=torch.float64)
    spread = (rows.double().square().mean(2) - mean**2).clamp_min(0.0)
    if kind == "batch":
        mean, spread = mean.reshape(1, -1), spread.reshape(1, -1)
    common = sets.mean(2, dtype=torch.float64).square().mean(1) - mean.mean(1) ** 2
    alone, most = spread.mean(1) / sets.shape[2], spread.sqrt().mean(1) ** 2
    room = most - alone
    return _shaped(torch.where(room > _TINY * most, (common - alone) / room.clamp_min(1e-300), 0.0), kind)


def dispersion(x: Tensor, shape: Shape, node: Node, kind: Kind) -> Tensor:
    """E_s[V + eps] * E_s[1/(V + eps)], V the biased variance of a set: how unequal the sets are, at least 1."""
    spread = _spread(_sets(x, shape, node, kind), node)
    return _shaped(spread.mean(1) * (1 / spread).mean(1), kind)


def gradient_correlation(g: Tensor, x: Tensor, node: Node, kind: Kind) -> Tensor:
    """Average correlation of the output's gradient g between two samples of a set: r with
    E_s[(mean g)^2]/E[g^2] = r + (1 - r)/n."""
    gradient = _sets(g, node.shape, node, kind)
    return _shaped(_excess(gradient.mean(2, dtype=torch.float64), gradient), kind)


def gradient_alignment(g: Tensor, x: Tensor, node: Node, kind: Kind) -> Tensor:
    """The same for g*xhat, xhat = (x - mean)/sqrt(V + eps): r with E_s[(mean g*xhat)^2]/E[g^2] = r + (1 - r)/n."""
    sets = _sets(x, node.shapes_in[0], node, kind)
    gradient = _sets(g, node.shape, node, kind)
    centred = sets - sets.mean(2, keepdim=True)
    along = (gradient * centred).mean(2, dtype=torch.float64) / _spread(sets, node).sqrt()
    return _shaped(_excess(along, gradient), kind)


def _spread(sets: Tensor, node: Node) -> Tensor:
    """V + eps of every set, `(E, sets)`."""
    variance = sets.double().var(2, unbiased=False)
    return (variance + float(node.parameters.get("eps", 0.0))).clamp_min(1e-300)


def _excess(averages: Tensor, samples: Tensor) -> Tensor:
    """What the mean square of `averages` has beyond that of n independent samples, as a share of the most it can be."""
    n = samples.shape[2]
    if n < 2:
        return torch.zeros(len(samples), dtype=torch.float64, device=samples.device)
    power = samples.double().square().mean((1, 2)).clamp_min(1e-300)
    return (averages.square().mean(1) / power - 1 / n) / (1 - 1 / n)


for _kind in ("batch", "position", "group"):
    for _name, _measure, _subject in (
        (f"{_kind}_correlation", correlation, "signal"),
        (f"{_kind}_dispersion", dispersion, "signal"),
        (f"gradient_{_kind}_correlation", gradient_correlation, "gradient"),
        (f"gradient_{_kind}_alignment", gradient_alignment, "gradient"),
    ):
        _bound = partial(_measure, kind=_kind)
        _bound.__doc__ = _measure.__doc__
        estimator(_name, subject=_subject)(_bound)  # type: ignore[arg-type]
