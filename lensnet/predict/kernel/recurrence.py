"""Recurrent layers at the kernel level: all steps of all examples are one Gaussian process."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from lensnet.algebra.mixing.recurrent import Errors, Recurrence, Unrolled
from lensnet.levels.pairs import Pairs
from lensnet.predict.kernel.environment import Environment, state_operator


@state_operator("recurrent_pairs")
def recurrent_pairs(environment: Environment, kind: Any, k: Any, *layer: Any) -> Pairs:
    """Covariance of the outputs of an LSTM (kind 0) or GRU (1) at two steps of two examples.

    `layer`: w2 of the input weights times channels, of the hidden weights times units, second moments of both biases.
    """
    unrolled = unroll(environment, kind, k, *layer)
    environment.sampled = max(environment.sampled, unrolled.standard_error)
    return environment.place.made.joined(unrolled.hidden)


@state_operator("recurrent_pairs_back")
def recurrent_pairs_back(environment: Environment, kind: Any, p: Any, k: Any, *layer: Any) -> Pairs:
    """Covariance of the gradient where the input's products enter the gates, summed over the gates of one unit."""
    errors = returned(environment, unroll(environment, kind, k, *layer), p)
    return environment.place.made.joined(errors.inputs)


@state_operator("recurrent_hidden")
def recurrent_hidden(environment: Environment, kind: Any, k: Any, *layer: Any) -> Pairs:
    """Covariance of the states that the hidden weights multiply: those of the steps before."""
    return environment.place.made.joined(unroll(environment, kind, k, *layer).before)


@state_operator("recurrent_hidden_back")
def recurrent_hidden_back(environment: Environment, kind: Any, p: Any, k: Any, *layer: Any) -> Pairs:
    """As `recurrent_pairs_back`, where the products of the hidden weights enter."""
    errors = returned(environment, unroll(environment, kind, k, *layer), p)
    return environment.place.made.joined(errors.hiddens)


def unroll(environment: Environment, kind: Any, k: Any, *layer: Any) -> Unrolled:
    """Sampled units; the same at every call of one place."""
    made = Recurrence(round(float(np.max(kind))), *(float(np.max(number)) for number in layer))
    return made.run(np.array(environment.place.given.split(k)), _source(environment))


def returned(environment: Environment, unrolled: Unrolled, p: Any) -> Errors:
    source = _source(environment).spawn(1)[0]
    return unrolled.back(np.array(environment.place.made.split(p)), source)


def _source(environment: Environment) -> np.random.Generator:
    return np.random.default_rng(crc32(environment.place.node.path.encode()))
