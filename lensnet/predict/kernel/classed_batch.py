"""Batch normalisation where pairs are known by class.

The length of a channel over the batch is taken as sharp, unless the channel is a random filter on the input itself.
Then it is w . phi over the patches phi of the batch, w Gaussian: in the eigenbasis of the patches' covariance, of
eigenvalues l_i, the average of w_i^2/s is the integral of exp(-t eps) prod_j (1 + 2 t l_j)^(-1/2)/(1 + 2 t l_i) over t
(as in `normalisation`, of N samples at most as many directions as a patch has numbers). The directions that carry most
of the length count less, the fine ones more, than a sharp length would have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lensnet.levels.classes import ClassedPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.pairs import Field, Pairs
from lensnet.predict.kernel.normalisation import length_weights, sharp
from lensnet.predict.kernel.patches import Patches, PatchesNearby
from lensnet.predict.prediction import Check

_SPHERE = 0.05
"""Error for each unit of relative variance of the length: a channel over its own length is no Gaussian."""
_COUNTED = 1e-3
"""Directions with less of the length than this are taken as fine as one can be."""


@dataclass(frozen=True)
class Normalised:
    """Samples with themselves (a field) and pairs behind the norm, the relative error, whether lengths are sharp, and
    what is known place by place."""

    own: Field
    pairs: Pairs
    error: float
    check: Check
    near: PatchesNearby | None = None


def normalised_over_batch(state: Covariance, eps: float, patches: Patches | None) -> Normalised:
    """The state behind batch normalisation; `patches`: what the channels are random filters of, if of the input."""
    layout: ClassedPairs = state.layout
    across = layout.mean_all(state.pairs)
    row, total = across.mean(axis=1), float(across.mean())
    pairs = state.pairs - row.reshape(-1, 1, *layout.tail) - row.reshape(1, -1, *layout.tail) + total
    own = np.maximum(state.second_moment - 2 * row.reshape(-1, *([1] * len(layout.positions))) + total, 0.0)
    power = float(own.mean())
    if patches is None or power <= 0:
        cosine = np.clip(layout.cosines(pairs, np.sqrt(own)), -1.0, 1.0)
        scatter = (
            2 * float(layout.mean_all(cosine**2 * layout.products(own, own)).mean()) / power**2 if power > 0 else 0.0
        )
        length = power + eps or 1.0
        return Normalised(own / length, pairs / length, 0.25 * scatter, sharp(scatter))
    values, vectors = patches.directions()
    weights = length_weights(values, eps)
    counted = values > _COUNTED * values.sum()
    fine = float(np.average(weights[~counted], weights=values[~counted])) if (~counted).any() else 0.0
    seen = patches.along(vectors[:, counted])
    more = weights[counted] - fine
    sizes, pairs = np.sqrt(np.abs(more)), fine * pairs
    for sign in (1.0, -1.0):
        some = [(size * one, size * one) for size, one, by in zip(sizes, seen, more, strict=True) if by * sign > 0]
        if some:
            pairs = pairs + sign * layout.correlated(some) / layout.counts
    scatter = 2 * float((values**2).sum()) / float(values.sum()) ** 2
    near = PatchesNearby(patches, vectors * np.sqrt(weights), centred=True)
    own = near.at((0,) * len(layout.positions))
    return Normalised(own, pairs, _SPHERE * scatter, sharp(scatter), near)
