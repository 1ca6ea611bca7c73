"""Attention at the kernel level: tokens of all examples meet in one family of sampled logits."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from lensnet.algebra.mixing.token_pairs import BatchLogits
from lensnet.levels.pairs import Pairs
from lensnet.predict.kernel.environment import Environment, state_operator

_GRADIENT_WORK = 1.5e9


@state_operator("attended")
def attended(
    environment: Environment, k: Any, logit_gain: Any, slope: Any, width: Any, channels: Any, causal: Any
) -> Pairs:
    """Covariance of what two queries gather: E[a_1^T K a_2] over the logits of both."""
    sample = _sample(environment, k, logit_gain, slope, width, channels, causal, 3e9)
    found, error = sample.mix()
    environment.sampled = max(environment.sampled, error)
    return found


@state_operator("attended_back")
def attended_back(
    environment: Environment, p: Any, k: Any, logit_gain: Any, slope: Any, width: Any, channels: Any, causal: Any
) -> Pairs:
    """Covariance of the gradient below through values, queries and keys, from that above."""
    sample = _sample(environment, k, logit_gain, slope, width, channels, causal, _GRADIENT_WORK / 3)
    return sample.gradient(np.array(environment.place.made.whole(p)))


def _sample(
    environment: Environment, k: Any, logit_gain: Any, slope: Any, width: Any, channels: Any, causal: Any, work: float
) -> BatchLogits:
    layout = environment.place.given
    gain, steep = np.asarray(logit_gain, dtype=float), float(np.max(slope))
    power = layout.first(environment.states[0].second_moment)
    bias = max(0.0, float(np.mean(gain - steep * power)))
    return BatchLogits.draw(
        np.array(layout.whole(k)), (layout.examples, layout.places), steep, bias, round(float(np.max(width))),
        round(float(np.max(channels))), bool(np.max(causal)), not environment.place.measured,
        np.random.default_rng(crc32(environment.place.node.path.encode())), work,
    )  # fmt: skip
