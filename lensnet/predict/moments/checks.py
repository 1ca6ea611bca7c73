"""Assumptions of an effect as conditions with a margin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np

from lensnet.catalog.effects import AssumptionModel, relative_slack
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Signal
from lensnet.network.graph import Node
from lensnet.predict.moments.pointwise import function_of
from lensnet.predict.prediction import Check, Status

GAUSSIAN = "the input is Gaussian over weight draws"
_FEWEST_TERMS = 8.0
_LARGEST_ERROR = 0.05


def evaluate_checks(
    assumptions: Iterable[AssumptionModel], env: Mapping[str, Any], operators: Mapping[str, Callable[..., Any]]
) -> list[Check]:
    """The `assumes:` entries of a component, or of one of its effects, at these inputs."""
    out = []
    for assumption in assumptions:
        if assumption.comparison is None:
            out.append(Check(assumption.text))
        else:
            out.append(Check(assumption.text, assumption.comparison.margin(env, operators), assumption.below))
    return out


def status_of(checks: Iterable[Check]) -> Status:
    return "out-of-regime" if any(c.margin is not None and not c.margin >= 0 for c in checks) else "ok"


def average_checks(node: Node, what: str, field: Field, error: float) -> list[Check]:
    """Whether an average of a pointwise function exists (a root has an infinite squared slope), and is well known."""
    if np.any(np.isinf(field)):
        return [Check(f"the average {what} of {node.kind} is finite", -1.0)]
    if not error <= _LARGEST_ERROR:
        text = f"the average {what} of {node.kind} is known to {_LARGEST_ERROR:.0%}: here to {error:.0%}"
        return [Check(text, float(relative_slack(_LARGEST_ERROR, error)))]
    return []


def gaussian_check(node: Node, signal: Signal) -> Check:
    """A pointwise effect is a Gaussian expectation: the sum that feeds it needs enough terms to be one."""
    if signal.distribution is not None and signal.distribution.terms >= _FEWEST_TERMS:
        return cast(Check, signal.distribution.check())
    if signal.law is None and function_of(node).is_affine:
        return Check("an affine function acts on mean and second moment alone")
    if signal.law is None:
        return Check(f"{GAUSSIAN}: nothing known makes it so", -1.0, Level.FLUCTUATION)
    return gaussian_terms_check(signal.law.terms)


@lru_cache(maxsize=256)
def gaussian_terms_check(terms: float) -> Check:
    """The same for a sum of so many terms."""
    if np.isinf(terms):
        return Check(GAUSSIAN, 1.0, Level.FLUCTUATION)
    text = f"{GAUSSIAN}: a sum of {terms:g} terms, at least {_FEWEST_TERMS:g}"
    return Check(text, float(relative_slack(terms, _FEWEST_TERMS)), Level.FLUCTUATION)
