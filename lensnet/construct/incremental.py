"""Classes that arrive later: a ReduNet's operators hold all that is needed of the old ones.

C_j = alpha_j (I + alpha_j Z_j Z_j')^-1 gives back the covariance of its class, and E is made of the sum of all. So the
joint network is written down from the old operators and the new examples, without the old examples (Chan et al. 2022,
ReduNet: a white-box deep network from the principle of maximizing rate reduction, the section on incremental learning).
At the first layer that is exact. Deeper, the old classes' features would have moved a little differently under the
joint network; their covariances are taken as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensnet.measure.redunet.operators import Operators, construct
from lensnet.measure.redunet.step import ascent, class_norms, project, soft_gate, training_norms
from lensnet.quantities.coding_rate import Rates, half_logdet


@dataclass(frozen=True)
class Layer:
    """One layer of a ReduNet on vectors: its operators, the sizes of its classes, and the rates of what comes in."""

    operators: Operators
    sizes: tuple[int, ...]
    rates: Rates


_ONE = torch.ones(1, dtype=torch.float64)


def build_layers(x: Tensor, labels: Tensor, layers: int, eps2: float, eta: float, lam: float) -> list[Layer]:
    """A ReduNet of `layers` layers with soft gates from examples (m, d), which are scaled to length 1 first."""
    z, classes, out = project(x.double()), int(labels.max()) + 1, []
    sizes = tuple(torch.bincount(labels, minlength=classes).tolist())
    for _ in range(layers):
        made = construct(z[None], labels, classes, eps2)
        gates = soft_gate(training_norms(made, z[None], _ONE.to(z)), lam)
        out.append(Layer(made.operators, sizes, made.rates))
        z = project(z + eta * ascent(made.operators, z[None], gates)[0])
    return out


def apply_layers(layers: list[Layer], x: Tensor, eta: float, lam: float) -> tuple[Tensor, Tensor]:
    """Features (m, d) behind the last layer, and the shares (m, k) that the first layer's gate gives."""
    z, first = project(x.double()), None
    for layer in layers:
        gates = soft_gate(class_norms(layer.operators, z[None], _ONE.to(z)), lam)
        first = gates if first is None else first
        z = project(z + eta * ascent(layer.operators, z[None], gates)[0])
    assert first is not None
    return z, first


def add_classes(layers: list[Layer], x: Tensor, labels: Tensor, eps2: float, eta: float, lam: float) -> list[Layer]:
    """The network with the classes of new examples (m, d) behind the old ones; `labels` count from 0.

    The old operators C_j are kept, E is renewed.
    """
    z, classes, out = project(x.double()), int(labels.max()) + 1, []
    for layer in layers:
        made = construct(z[None], labels, classes, eps2)
        new = made.operators
        sizes = (*layer.sizes, *torch.bincount(labels, minlength=classes).tolist())
        d, m = z.shape[1], sum(sizes)
        compression = torch.cat([layer.operators.compression, new.compression])
        total = covariances(compression[:, 0], sizes, eps2).sum(0)
        alpha = d / (m * eps2)
        lower = torch.linalg.cholesky(torch.eye(d, dtype=z.dtype, device=z.device) + alpha * total)
        shares = torch.tensor(sizes, dtype=z.dtype, device=z.device) / m
        operators = Operators(alpha * torch.cholesky_inverse(lower)[None], compression, shares)
        per_class = torch.cat([layer.rates.per_class, made.rates.per_class])
        rates = Rates(half_logdet(total, alpha), shares @ per_class, per_class)
        out.append(Layer(operators, sizes, rates))
        gates = soft_gate(class_norms(operators, z[None], _ONE.to(z)), lam)
        z = project(z + eta * ascent(operators, z[None], gates)[0])
    return out


def covariances(compression: Tensor, sizes: tuple[int, ...], eps2: float) -> Tensor:
    """Z_j Z_j' of every class, (k, d, d), back from C_j: (alpha_j C_j^-1 - I)/alpha_j."""
    d = compression.shape[-1]
    alpha = d / (torch.tensor(sizes, dtype=compression.dtype, device=compression.device) * eps2)
    identity = torch.eye(d, dtype=compression.dtype, device=compression.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(compression))
    return inverse - identity / alpha[:, None, None]
