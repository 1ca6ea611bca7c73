"""Gates that choose among paths, at the kernel level: the ratings of all samples are one Gaussian family."""

from __future__ import annotations

from typing import Any

import numpy as np

from lensnet.algebra.mixing.routing import Routing
from lensnet.levels.pairs import Pairs
from lensnet.predict.kernel.environment import Environment, state_operator


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
    count, kept, whole = (round(float(np.max(number))) for number in numbers)
    return Routing.draw(np.array(environment.place.given.whole(ratings)), count, kept, bool(whole))
