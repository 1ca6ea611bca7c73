"""Coding rates of features: what they measure in a report is what they are in a training loop.

Features are rows: a tensor of shape (m, d), one example each. `eps2` is the distortion squared, and rates are in nats.
With alpha = d/(m*eps2), alpha_j = d/(m_j*eps2) and the class weights gam_j = m_j/m

    R  = 1/2 logdet(I + alpha Z'Z)                      the volume of the whole
    Rc = Sum_j gam_j/2 logdet(I + alpha_j Z_j'Z_j)      the volume of the classes
    dR = R - Rc                                         the rate reduction

(Yu et al. 2020, Learning diverse and discriminative representations via the principle of maximal coding rate
reduction, sections 2.1 and 2.2). Everything is computed in float64 by Cholesky factors of the smaller Gram matrix, is
differentiable, and runs where the features are. Classes are handled together: no matrix of memberships, no loop over
classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensnet.quantities.classes import ClassGroup, class_groups, class_sizes


@dataclass(frozen=True)
class Rates:
    """R, Rc and dR in nats, as float64 tensors without axes; `per_class`: logdet/2 of every class, shape (k,)."""

    total: Tensor
    conditional: Tensor
    per_class: Tensor

    @property
    def reduction(self) -> Tensor:
        return self.total - self.conditional


def coding_rate(features: Tensor, eps2: float = 0.5) -> Tensor:
    """R of features (..., m, d): nats, float64, one number for every leading index.

    Raises ValueError for a distortion that is not positive or features without two axes.
    """
    z = _rows(features, eps2)
    m, d = z.shape[-2:]
    return half_logdet(_smaller_gram(z), d / (max(m, 1) * eps2))


def rates(features: Tensor, labels: Tensor, eps2: float = 0.5, classes: int | None = None) -> Rates:
    """R, Rc and dR of features (m, d) with integer labels (m,); classes without examples count nothing.

    `classes`: number of classes (default: largest label + 1). Raises ValueError when the sizes do not fit.
    """
    z = _rows(features, eps2)
    if z.dim() != 2 or labels.shape != z.shape[:1]:
        raise ValueError(f"features (m, d) and labels (m,) are needed, not {tuple(z.shape)} and {tuple(labels.shape)}")
    m, d = z.shape
    counts = class_sizes(labels, classes)
    per_class = z.new_zeros(len(counts))
    for group in class_groups(labels, counts):
        alpha = d / (group.sizes.to(z) * eps2)
        value = half_logdet(_smaller_gram(group.take(z)), alpha)
        per_class = per_class.index_put((group.classes.to(z.device),), value)
    weights = torch.as_tensor(counts, dtype=z.dtype, device=z.device) / max(m, 1)
    return Rates(coding_rate(z, eps2), weights @ per_class, per_class)


def conditional_coding_rate(features: Tensor, labels: Tensor, eps2: float = 0.5) -> Tensor:
    """Rc, the average rate of the classes, weighted by their shares."""
    return rates(features, labels, eps2).conditional


def rate_reduction(features: Tensor, labels: Tensor, eps2: float = 0.5) -> Tensor:
    """dR = R - Rc: what a training loop maximises. `-rate_reduction(...)` as a loss is negative at a good solution.

    Features should have unit length: without it dR grows with their scale.
    """
    return rates(features, labels, eps2).reduction


def mcr2_loss(features: Tensor, labels: Tensor, eps2: float = 0.5, gam1: float = 1.0, gam2: float = 1.0) -> Tensor:
    """-gam2 * 1/2 logdet(I + gam1 alpha Z'Z) + Rc: the loss of Yu et al. 2020, section 3, with its two weights."""
    m, d = features.shape
    z = _rows(features, eps2)
    empirical = half_logdet(_smaller_gram(z), gam1 * d / (m * eps2))
    return rates(features, labels, eps2).conditional - gam2 * empirical


def half_logdet(gram: Tensor, alpha: Tensor | float) -> Tensor:
    """1/2 logdet(I + alpha*gram) for positive semidefinite (..., n, n) matrices; NaN where gram is not finite."""
    scale = torch.as_tensor(alpha, dtype=gram.dtype, device=gram.device)[..., None, None]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, info = torch.linalg.cholesky_ex(identity + scale * gram)
    logarithm = factor.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
    return torch.where(info == 0, logarithm, torch.nan)


def _rows(features: Tensor, eps2: float) -> Tensor:
    if not eps2 > 0:
        raise ValueError(f"eps2 is the distortion squared, a number > 0, not {eps2!r}")
    if features.dim() < 2:
        raise ValueError(f"features have the shape (examples, features), not {tuple(features.shape)}")
    return features.double()


def _smaller_gram(z: Tensor) -> Tensor:
    """Z Z' or Z'Z of rows (..., m, d), whichever is smaller: both have the same nonzero eigenvalues."""
    m, d = z.shape[-2:]
    return z @ z.mT if m < d else z.mT @ z


__all__ = [
    "ClassGroup",
    "Rates",
    "coding_rate",
    "conditional_coding_rate",
    "half_logdet",
    "mcr2_loss",
    "rate_reduction",
    "rates",
]
