"""The prediction for a stack of steps: quantities of the algorithm after every step, from the start or locally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from lensnet.catalog.component import Component
from lensnet.catalog.objective import NOISE, OPERATORS
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.objective import Objective
from lensnet.predict.prediction import Check, Effect, Prediction, Status
from lensnet.predict.steps.move import level_of, move, own_symbols
from lensnet.predict.steps.state import Modes, State, environment, model_of, start_of
from lensnet.quantities.quantity import QUANTITIES

UNIT_ROUNDOFF = 2.0**-53
EVERY = "error_mode"


class ObservedState(Protocol):
    """A measured state, in the coordinates of the modes: see `lensnet.measure.statistics.StateStatistics`."""

    @property
    def coordinates(self) -> Mapping[str, Any]: ...
    @property
    def memory(self) -> Mapping[str, Mapping[str, Any]]: ...


def propagate_steps(
    network: Network, unit_roundoff: float = UNIT_ROUNDOFF, start: ObservedState | None = None
) -> Prediction:
    """Predict the quantities of the algorithm at the start (component `"input"`) and after every step.

    start: of one draw, where the objective says that the seed draws it; without, nothing of it is predicted.
    unit_roundoff: relative rounding error of the measurement's number format, for the assumptions that ask for it.
    """
    objective = objective_of(network)
    out = Prediction()
    if objective.drawn and start is None:
        out.effects += [effect for node in network for effect in _unknown(node, objective)]
        return out
    states = {INPUT: start_of(objective) if start is None else _state(start)}
    doubts: dict[str, tuple[Check, ...]] = {INPUT: ()}
    env = environment(objective, states[INPUT], unit_roundoff)
    envs = {INPUT: env}
    out.effects += _quantities(INPUT, objective, env, (), ())
    for node in network:
        before = node.inputs[0]
        upstream = doubts[before]
        after, checks, there = _step(node, objective, states.get(before), envs.get(before), unit_roundoff)
        if after is None or there is None:
            doubts[node.path] = (*upstream, Check(f"everything upstream holds: {node.path} is not modelled", -1.0))
            out.effects += _unknown(node, objective)
            continue
        states[node.path], envs[node.path] = after, there
        own = _quantities(node.path, objective, there, checks, upstream)
        failed = any(_fails(check) for check in own[0].checks) and not upstream
        doubts[node.path] = (_broken(node, own[0].checks),) if failed else upstream
        out.effects += own
    return out


def predict_steps_locally(
    network: Network, states: Mapping[str, ObservedState], unit_roundoff: float = UNIT_ROUNDOFF
) -> list[Effect]:
    """Every step fed with the measured state before it. `states`: by path, the start as `"input"`."""
    objective = objective_of(network)
    out: list[Effect] = []
    for node in network:
        observed = states.get(node.inputs[0])
        if observed is None:
            continue
        before = _state(observed)
        env = environment(objective, before, unit_roundoff)
        after, checks, there = _step(node, objective, before, env, unit_roundoff)
        out += _unknown(node, objective) if there is None else _quantities(node.path, objective, there, checks, ())
    return out


def averaged(predictions: Sequence[Prediction]) -> Prediction:
    """Over draws of the start: geometric means of what compares as a ratio, else means; in doubt where any is."""
    out = Prediction()
    for effects in zip(*(prediction.effects for prediction in predictions), strict=True):
        values = np.array([effect.value for effect in effects if effect.value is not None])
        doubtful = next((effect for effect in effects if effect.status != "ok"), effects[0])
        if len(values) == len(effects):
            ratio = QUANTITIES[doubtful.quantity].scale == "log" and np.all(values > 0)
            mean = np.exp(np.mean(np.log(values))) if ratio else np.mean(values)
            doubtful = replace(doubtful, field=np.array(mean))
        out.effects.append(doubtful)
    return out


def _state(observed: ObservedState) -> State:
    coordinates = {name: np.asarray(values, dtype=float) for name, values in observed.coordinates.items()}
    return State(coordinates, observed.memory)


def objective_of(network: Network) -> Objective:
    """The problem that the steps of a network work on. Raises ValueError for a network that is not one of steps."""
    if network.input.objective is None:
        raise ValueError(f"{network.name} is not a stack of steps: its input is {network.input.source}")
    return network.input.objective


def _step(
    node: Node, objective: Objective, before: State | None, env: Mapping[str, Any] | None, unit_roundoff: float
) -> tuple[State | None, tuple[Check, ...], dict[str, Any] | None]:
    """State and problem behind a node, and the assumptions of its step."""
    if before is None or env is None:
        return None, (), None
    if node.component.is_fork:
        return before, (), environment(objective, before, unit_roundoff)
    after = move(node, objective, before, env)
    if after is None or (_says_nothing(after) and not _says_nothing(before)):
        return None, (), None
    checks = _checks(node.component, own_symbols(node, env))
    if NOISE in node.component.effects(level_of(node) or ""):
        beside = node.shape.channels - objective.mode_count * len(after.coordinates)
        text = "noise stays in the modes: the iterate has no numbers beside them"
        checks = (*checks, Check(text, -1.0 if beside else None))
    return after, checks, environment(objective, after, unit_roundoff)


def _says_nothing(state: State) -> bool:
    """Where a step's formula names what the objective does not have, such as the curvature of a mode."""
    return all(np.isnan(values).all() for values in state.coordinates.values())


def _checks(component: Component, env: Mapping[str, Any]) -> tuple[Check, ...]:
    out = []
    for given in component.assumptions:
        with np.errstate(all="ignore"):
            margin = None if given.comparison is None else given.comparison.margin(env, OPERATORS)
        out.append(Check(given.text, margin, given.below))
    return tuple(out)


def _quantities(
    path: str, objective: Objective, env: Mapping[str, Any], checks: tuple[Check, ...], upstream: tuple[Check, ...]
) -> list[Effect]:
    """The objective's quantities at one state; those without a value here (no step before) are left out."""
    every = (*checks, *_checks(objective.component, env), *upstream)
    status: Status = "out-of-regime" if any(_fails(check) for check in every) else "ok"
    out = []
    for name, model in model_of(objective).quantities.items():
        with np.errstate(all="ignore"):
            draws = np.ravel(model.evaluate(env, OPERATORS))
            value, averaging = float(np.mean(draws)), _of_averaging(draws)
        if not np.isnan(value) or path != INPUT:
            error, floor = model.error(env, OPERATORS) + averaging, model.floor(env, OPERATORS)
            out.append(
                Effect(
                    path, name, "forward", None, np.array(value), error, every, status,
                    level=QUANTITIES[name].level, floor=floor,
                )
            )  # fmt: skip
    return out + _each_mode(path, objective, env, every, status) if objective.each_mode else out


def _each_mode(
    path: str, objective: Objective, env: Mapping[str, Any], checks: tuple[Check, ...], status: Status
) -> list[Effect]:
    """The error of every mode, by its number. As far above rounding as that of the flattest direction is."""
    model = model_of(objective)
    with np.errstate(all="ignore"):
        draws = np.atleast_2d(model.remaining(env))
    last = model.quantities.get("error_flattest")
    floor = None if last is None else last.floor(env, OPERATORS)
    return [
        Effect(
            path, EVERY, "forward", str(mode), np.array(np.mean(values)), _of_averaging(values), checks, status,
            level=QUANTITIES[EVERY].level, floor=floor,
        )
        for mode, values in enumerate(draws.T) if np.isfinite(values).all()
    ]  # fmt: skip


def _of_averaging(draws: Modes) -> float:
    """Two standard errors of an average over the draws of a noisy state, relative to it."""
    if len(draws) == 1 or not np.mean(draws):
        return 0.0
    return float(2 * np.std(draws) / np.sqrt(len(draws)) / abs(np.mean(draws)))


def _unknown(node: Node, objective: Objective) -> list[Effect]:
    return [
        Effect(node.path, name, "forward", None, None, 0.0, (), "not-modelled", level=QUANTITIES[name].level)
        for name in model_of(objective).quantities
    ]


def _fails(check: Check) -> bool:
    return check.margin is not None and not check.margin >= 0


def _broken(node: Node, checks: tuple[Check, ...]) -> Check:
    below = next((check.below for check in checks if _fails(check) and check.below), None)
    return Check(f"everything upstream holds: {node.path} is out of its regime", -1.0, below)
