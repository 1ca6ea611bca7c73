"""Gates that choose among paths, at the kernel level: the ratings of all samples are one Gaussian family."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lensnet.algebra.mixing.routing import MOST, Routing
from lensnet.levels.pairs import Pairs
from lensnet.predict.kernel.environment import Environment, state_operator

_MOST_OF_ONE_DRAW = 2**13
"""Ratings per sample where the covariance is that of one draw: what holds for each is averaged over the draws."""


@state_operator("routed")
def routed(environment: Environment, ratings: Any, count: Any, kept: Any, renormalised: Any) -> Pairs:
    """What two samples give to the same of `count` paths: E sum_e s_e s'_e, `ratings` being their covariance."""
    found, error = _routing(environment, ratings, count, kept, renormalised).together()
    environment.sampled = max(environment.sampled, error / max(float(np.mean(np.diagonal(found))), 1e-300))
    return found


@state_operator("routed_back")
def routed_back(environment: Environment, ratings: Any, count: Any, kept: Any, renormalised: Any) -> Pairs:
    """E tr J J'^T of the Jacobians of the shares by the ratings."""
    return _routing(environment, ratings, count, kept, renormalised).slopes()


def _routing(environment: Environment, ratings: Any, *numbers: Any) -> Routing:
    place = environment.place
    covariance = np.ascontiguousarray(place.given.whole(ratings))
    most = _MOST_OF_ONE_DRAW if place.measured else MOST
    return _drawn(covariance.tobytes(), len(covariance), *(round(float(np.max(number))) for number in numbers), most)


@lru_cache(maxsize=2)
def _drawn(covariance: bytes, size: int, count: int, kept: int, renormalised: int, most: int) -> Routing:
    """Several formulas of one place ask for the same sample."""
    return Routing.draw(np.frombuffer(covariance).reshape(size, size), count, kept, bool(renormalised), most)
