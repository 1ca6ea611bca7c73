"""Quantities of an algorithm, measured from its iterate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lensnet.measure.steps.problem import Problem

Estimator = Callable[["Moment"], Tensor]
_ESTIMATORS: dict[str, Estimator] = {}


@dataclass(frozen=True)
class Moment:
    """One moment of a run: the problem, the iterate, and the one before the step that led here (None at the start)."""

    problem: Problem
    iterate: Tensor
    before: Tensor | None = None


def state_estimator(name: str) -> Callable[[Estimator], Estimator]:
    """Register the measurement of a quantity of an algorithm: a function of a `Moment` that gives one number."""

    def register(measure: Estimator) -> Estimator:
        if name in _ESTIMATORS:
            raise ValueError(f"two estimators are named {name!r}")
        _ESTIMATORS[name] = measure
        return measure

    return register


def state_estimators() -> dict[str, Estimator]:
    """All registered ones by the name of their quantity."""
    return dict(_ESTIMATORS)


@state_estimator("loss")
def loss(moment: Moment) -> Tensor:
    return moment.problem.loss(moment.iterate)


@state_estimator("error_norm")
def error_norm(moment: Moment) -> Tensor:
    return moment.problem.error(moment.iterate).norm()


@state_estimator("error_steepest")
def error_steepest(moment: Moment) -> Tensor:
    return moment.problem.remaining(moment.iterate)[0].abs()


@state_estimator("error_flattest")
def error_flattest(moment: Moment) -> Tensor:
    return moment.problem.remaining(moment.iterate)[-1].abs()


@state_estimator("alignment")
def alignment(moment: Moment) -> Tensor:
    """Cosine between what the step took away from the error and the error; NaN at the start."""
    if moment.before is None:
        return torch.tensor(float("nan"))
    error = moment.problem.error(moment.before)
    taken = error - moment.problem.error(moment.iterate)
    return taken @ error / (taken.norm() * error.norm())


@state_estimator("condition_number")
def condition_number(moment: Moment) -> Tensor:
    """Largest over smallest eigenvalue of J J^T, from the singular values of the Jacobian at the iterate."""
    curvatures = moment.problem.curvatures(moment.iterate)
    return curvatures[-1] / curvatures[0]
