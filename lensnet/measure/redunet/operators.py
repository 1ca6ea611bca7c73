"""The operators E and C_j of one layer, from labelled coefficients, and what comes free with them: R and Rc.

    E   = alpha   (I + alpha   Sum_i v_i v_i^H)^-1              per frequency
    C_j = alpha_j (I + alpha_j Sum_{i in j} v_i v_i^H)^-1

A class with fewer examples than channels is handled in the space of its examples (Woodbury), a larger one in the space
of channels; always by batched Cholesky factors, whose diagonals are the rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensnet.quantities.classes import ClassGroup, class_groups, class_sizes
from lensnet.quantities.coding_rate import Rates


@dataclass
class Operators:
    """Of one layer: `expansion` E (F, c, c), `compression` C_j (k, F, c, c), `shares` gam_j (k,)."""

    expansion: Tensor
    compression: Tensor
    shares: Tensor


@dataclass
class Factors:
    """The Cholesky factors of one group of classes: of I + alpha_j Z Z^H (examples) or I + alpha_j Z^H Z (channels).

    `rows`: their coefficients (g, F, n, c), zero rows behind the end of a class. `alpha`: (g,).
    """

    group: ClassGroup
    rows: Tensor
    alpha: Tensor
    lower: Tensor

    @property
    def thin(self) -> bool:
        """Whether the factor is that of the examples."""
        return self.rows.shape[-2] < self.rows.shape[-1]


@dataclass
class Construction:
    """A layer's operators, the rates of the features that they were made from, and the factors of its classes."""

    operators: Operators
    rates: Rates
    factors: list[Factors]
    labels: Tensor


def construct(
    coefficients: Tensor, labels: Tensor, classes: int, eps2: float, weights: Tensor | None = None
) -> Construction:
    """Operators and rates of coefficients (F, m, c) with labels (m,). `weights` (F,): multiplicity of a frequency.

    Rates are averaged over frequencies: 1/(2T) Sum_t logdet (for vectors F = T = 1). Raises ValueError for a class
    without examples: its operator would be infinite.
    """
    v = coefficients
    frequencies, m, c = v.shape
    if labels.shape != (m,):
        raise ValueError(f"{m} examples have {tuple(labels.shape)} labels")
    counts = class_sizes(labels, classes)
    if 0 in counts:
        raise ValueError(f"class {counts.index(0)} has no example: every class needs one to make its operator")
    real = v.real.dtype
    weights = torch.ones(frequencies, dtype=real, device=v.device) if weights is None else weights
    weights = weights / weights.sum()
    alpha = c / (m * eps2)
    shares = torch.tensor(counts, dtype=real, device=v.device) / m
    lower = _factor(_covariance(v), torch.as_tensor(alpha, dtype=real, device=v.device))
    expansion = alpha * torch.cholesky_inverse(lower)
    total = _log_diagonal(lower) @ weights
    compression = v.new_empty(classes, frequencies, c, c)
    per_class = shares.new_empty(classes)
    factors = []
    for group in class_groups(labels, counts):
        made = _group_factors(v, group, eps2)
        compression[group.classes] = _class_operators(made)
        per_class[group.classes] = _log_diagonal(made.lower) @ weights
        factors.append(made)
    rates = Rates(total, shares @ per_class, per_class)
    return Construction(Operators(expansion, compression, shares), rates, factors, labels)


def _group_factors(v: Tensor, group: ClassGroup, eps2: float) -> Factors:
    rows = group.take(v.movedim(0, 1)).movedim(2, 1)  # (g, F, n, c)
    alpha = v.shape[-1] / (group.sizes.to(v.real.dtype) * eps2)
    thin = rows.shape[-2] < rows.shape[-1]
    gram = rows @ rows.mH if thin else _covariance(rows)
    return Factors(group, rows, alpha, _factor(gram, alpha[:, None]))


def _class_operators(made: Factors) -> Tensor:
    """C_j of a group of classes, (g, F, c, c)."""
    alpha = made.alpha[:, None, None, None]
    if not made.thin:
        return alpha * torch.cholesky_inverse(made.lower)
    half = torch.linalg.solve_triangular(made.lower, made.rows, upper=False)
    c = made.rows.shape[-1]
    identity = torch.eye(c, dtype=half.dtype, device=half.device)
    return alpha * (identity - alpha * _covariance(half))


def _covariance(rows: Tensor) -> Tensor:
    """Sum_i v_i v_i^H of rows v_i^T (..., m, c)."""
    return rows.mT @ rows.conj()


def _factor(gram: Tensor, alpha: Tensor) -> Tensor:
    """Lower Cholesky factor of I + alpha*gram. Raises ValueError where the features are not finite."""
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    lower, info = torch.linalg.cholesky_ex(identity + alpha[..., None, None] * gram)
    if bool((info != 0).any()):
        raise ValueError("the features are not finite, or too large for their number format")
    return lower


def _log_diagonal(lower: Tensor) -> Tensor:
    """1/2 logdet from the factor, per frequency: (..., F)."""
    return lower.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
