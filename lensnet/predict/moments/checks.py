"""Assumptions of an effect as conditions with a margin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lensnet.levels.ladder import Level
from lensnet.levels.signal import Signal
from lensnet.network.graph import Node
from lensnet.predict.prediction import Check

GAUSSIAN = "the input is Gaussian over weight draws"
_FEWEST_TERMS = 8.0


def margin(left: Any, right: Any) -> float:
    """Slack of `left >= right`, relative to the larger side and at its worst over a field: in [-2, 2], >= 0 holds."""
    left, right = np.asarray(left, float), np.asarray(right, float)
    scale = np.maximum(np.maximum(np.abs(left), np.abs(right)), 1e-300)
    return float(np.min((left - right) / scale))


def evaluate_checks(node: Node, env: Mapping[str, Any], operators: Mapping[str, Callable[..., Any]]) -> list[Check]:
    """The component's own `assumes:` entries at these inputs."""
    out = []
    for assumption in node.component.assumptions:
        if assumption.larger is None or assumption.smaller is None:
            out.append(Check(assumption.text))
            continue
        left, right = assumption.larger.evaluate(env, operators), assumption.smaller.evaluate(env, operators)
        out.append(Check(assumption.text, margin(left, right), assumption.below))
    return out


def gaussian_check(node: Node, signal: Signal) -> Check:
    """A pointwise effect is a Gaussian expectation: the sum that feeds it needs enough terms to be one."""
    if signal.law is None:
        return Check(f"{GAUSSIAN}: nothing known makes it so", -1.0, Level.FLUCTUATION)
    if np.isinf(signal.law.terms):
        return Check(GAUSSIAN, 1.0, Level.FLUCTUATION)
    text = f"{GAUSSIAN}: a sum of {signal.law.terms:g} terms, at least {_FEWEST_TERMS:g}"
    return Check(text, margin(signal.law.terms, _FEWEST_TERMS), Level.FLUCTUATION)
