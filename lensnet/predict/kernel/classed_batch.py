"""Batch normalisation where pairs are known by class."""

from __future__ import annotations

import numpy as np

from lensnet.levels.classes import ClassedPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field, Pairs
from lensnet.predict.prediction import Check


def normalised_over_batch(state: Covariance, eps: float) -> tuple[Field, Pairs, float, Check]:
    layout: ClassedPairs = state.layout
    across = layout.mean_all(state.pairs)
    row, total = across.mean(axis=1), float(across.mean())
    own = state.second_moment
    spread = float(own.mean()) - total + eps
    pairs = (state.pairs - row.reshape(-1, 1, *layout.tail) - row.reshape(1, -1, *layout.tail) + total) / spread
    own = np.maximum(own - 2 * row.reshape(-1, *([1] * len(layout.positions))) + total, 0.0) / spread
    return own, pairs, 0.0, Check("sharp", 1.0, Level.FLUCTUATION)
