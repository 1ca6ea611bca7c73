"""What passes through a stack of steps: the iterate in the coordinates of its objective's modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.catalog.objective import ObjectiveModel
from lensnet.network.objective import Objective

Modes = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """Coordinates of the iterate by name, one number for every mode, and what the steps remember of each.

    `memory[name][coordinate]`: zero until a step has written it. `error_before`: the error of every mode one step ago.
    """

    coordinates: Mapping[str, Modes]
    memory: Mapping[str, Mapping[str, Modes]] = field(default_factory=dict)
    error_before: Modes | None = None

    def remembered(self, name: str, coordinate: str) -> Modes:
        given = self.memory.get(name, {})
        return given.get(coordinate, np.zeros_like(self.coordinates[coordinate]))

    def moved(self, coordinates: Mapping[str, Modes]) -> State:
        return replace(self, coordinates={**self.coordinates, **coordinates})


def model_of(objective: Objective) -> ObjectiveModel:
    model = objective.component.objective
    assert model is not None  # the source of a network of steps is an objective
    return model


def start_of(objective: Objective) -> State:
    """The state at the network's input, as declared."""
    return State({name: np.array(values) for name, values in objective.start.items()})


def environment(objective: Objective, state: State, unit_roundoff: float) -> dict[str, Any]:
    """Everything that an objective's quantities may name at a state: see PROBLEM_SYMBOLS."""
    model = model_of(objective)
    env: dict[str, Any] = {**objective.numbers, **{k: np.array(v) for k, v in objective.spectrum.items()}}
    env |= state.coordinates
    with np.errstate(all="ignore"):
        curvature = model.curvature(env)
        if np.all(np.isfinite(curvature)):
            env["lam"] = curvature
        env |= model.extremes(env)
    env["unit_roundoff"] = unit_roundoff
    error = model.error(env)
    if error is not None:
        env["error_before"] = error if state.error_before is None else state.error_before
    return env
