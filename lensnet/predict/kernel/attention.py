"""Attention at the kernel level: tokens of all examples meet in one family of sampled logits."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from lensnet.algebra.mixing.head_pairs import HeadPairs
from lensnet.algebra.mixing.token_pairs import BatchLogits
from lensnet.levels.pairs import Field, Pairs
from lensnet.network.graph import Node
from lensnet.network.windows import windows_of
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


@state_operator("attended_path")
def attended_path(
    environment: Environment, which: Any, p: Any, k: Any, logit_gain: Any, slope: Any, width: Any, channels: Any,
    causal: Any,
) -> Pairs:  # fmt: skip
    """The part of it that comes through the queries (0), the keys (1) or the values (2)."""
    sample = _sample(environment, k, logit_gain, slope, width, channels, causal, _GRADIENT_WORK / 3)
    return sample.path(round(float(np.max(which))), np.array(environment.place.made.whole(p)))


@state_operator("attend_pairs")
def attend_pairs(
    environment: Environment, query: Any, key: Any, value: Any, width: Any, scale: Any, bias: Any, sink: Any
) -> Pairs:
    """Covariance of what two queries gather, from the covariances of queries, keys and values; `bias` and `sink` as
    `logit_bias` and `logit_sink` of `lensnet.network.windows` have them."""
    found, error = _heads(environment, (query, key, value), width, scale, bias, sink, 3e9).mix()
    environment.sampled = max(environment.sampled, error)
    return found


@state_operator("attend_pairs_back")
def attend_pairs_back(
    environment: Environment, port: Any, p: Any, query: Any, key: Any, value: Any, width: Any, scale: Any, bias: Any,
    sink: Any,
) -> Pairs:  # fmt: skip
    """Covariance of the gradient at the queries (port 0), keys (1) or values (2) of one head."""
    heads = _heads(environment, (query, key, value), width, scale, bias, sink, _GRADIENT_WORK / 3)
    upstream = np.array(environment.place.made.whole(p))
    return (heads.to_queries, heads.to_keys, heads.to_values)[round(float(np.max(port)))](upstream)


def _heads(
    environment: Environment, grams: tuple[Any, Any, Any], width: Any, scale: Any, bias: Any, sink: Any, work: float
) -> HeadPairs:
    place = environment.place
    query, key, value = (np.array(port.whole(gram)) for port, gram in zip(place.ports, grams, strict=True))
    return HeadPairs.draw(
        (query, key, value), place.given.examples, round(float(np.max(width))), float(np.max(scale)),
        everywhere(place.node, bias), np.atleast_1d(np.asarray(sink, dtype=float)),
        np.random.default_rng(crc32(place.node.path.encode())), work,
    )  # fmt: skip


def everywhere(node: Node, bias: Any) -> Field:
    """What is added to the logits, of windows (windows, heads, places, places), for all positions, (heads, Tq, Tk): a
    query sees nothing outside its window."""
    ask, answer, bias = windows_of(node), windows_of(node, 1), np.asarray(bias, dtype=float)
    out = np.full((bias.shape[1], *(part.count * part.length for part in (ask, answer))), -np.inf)
    for number, (queries, keys) in enumerate(zip(ask.order, answer.order, strict=True)):
        out[:, queries[:, None], keys[None, :]] = bias[number % len(bias)]
    return out


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
