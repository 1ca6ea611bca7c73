"""One step: from the state before it to the state after it, by the effects of its component."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from lensnet.catalog.effects import EffectModel
from lensnet.catalog.objective import ITERATE, NOISE, OPERATORS, PROBLEM_SYMBOLS
from lensnet.network.graph import Node
from lensnet.network.objective import Objective
from lensnet.predict.environment import static_symbols
from lensnet.predict.steps.state import Modes, State, model_of

AFTER = "g_after"
DRAWS = 1024
"""Of a noisy state, whose quantities are averages over them."""
_MOST_ITERATIONS = 60
_SETTLED = 1e-14


def level_of(node: Node) -> str | None:
    """The level at which a step has effects; None when nothing is said."""
    return next(iter(node.component.spec.effects), None)


def move(node: Node, objective: Objective, state: State, env: Mapping[str, Any]) -> State | None:
    """The state after `node`; None when its component has no effects. `env`: the problem at `state`."""
    level = level_of(node)
    if level is None:
        return None
    effects = node.component.effects(level)
    own = {**dict.fromkeys(node.component.spec.memory, 0.0), **own_symbols(node, env)}
    gradient = model_of(objective).gradient(env)
    with np.errstate(all="ignore"):
        memory = dict(state.memory)
        for name in node.component.spec.memory:
            if name in effects:
                memory[name] = {
                    coordinate: _value(effects[name], own | _here(state, gradient, coordinate), state, coordinate)
                    for coordinate in state.coordinates
                }
        new = {name: _value(effects[name], own, state, name) for name in state.coordinates if name in effects}
        if ITERATE in effects:
            new |= _iterate(effects[ITERATE], own, gradient, objective, state, env)
    after = State({**state.coordinates, **new}, memory, model_of(objective).error(env))
    return _noisy(effects[NOISE], own, gradient, state, after, node.path) if NOISE in effects else after


def _noisy(
    effect: EffectModel, own: Mapping[str, Any], gradient: Mapping[str, Modes], state: State, after: State, path: str
) -> State:
    """What the step adds of its own drawing, in `DRAWS` draws of opposite pairs, the same in every prediction."""
    source = np.random.default_rng(int.from_bytes(blake2b(path.encode(), digest_size=8).digest()))
    moved = {}
    for name, value in after.coordinates.items():
        size = _value(effect, {**own, **_here(state, gradient, name)}, state, name)
        half = source.standard_normal((DRAWS // 2, value.shape[-1]))
        half /= np.sqrt(np.mean(half**2, axis=0))  # so that what is quadratic in this noise has its exact mean
        moved[name] = value + size * np.concatenate([half, -half])
    return after.moved(moved)


def own_symbols(node: Node, env: Mapping[str, Any]) -> dict[str, Any]:
    """The step's parameters, what its effects may know of the problem, and the names that it asks for."""
    known = [*PROBLEM_SYMBOLS, *node.component.spec.uses]
    return {**{name: env[name] for name in known if name in env}, **static_symbols(node)}


def _here(state: State, gradient: Mapping[str, Modes], coordinate: str) -> dict[str, Any]:
    memory = {name: state.remembered(name, coordinate) for name in state.memory}
    return {**memory, "z": state.coordinates[coordinate], "g": gradient[coordinate]}


def _value(effect: EffectModel, env: Mapping[str, Any], state: State, coordinate: str) -> Modes:
    """One number for every mode (and draw) of a coordinate."""
    value = np.asarray(effect.evaluate(env, OPERATORS), dtype=float)
    return np.broadcast_to(value, np.broadcast_shapes(value.shape, state.coordinates[coordinate].shape)).copy()


def _iterate(
    effect: EffectModel,
    own: Mapping[str, Any],
    gradient: Mapping[str, Modes],
    objective: Objective,
    state: State,
    env: Mapping[str, Any],
) -> dict[str, Modes]:
    """Every coordinate by the same formula; with `g_after` in it, an equation solved by Newton's method.

    The formula is linear in `g_after`: z' = base + slope*g(z'), so the Jacobian is 1 - slope*(d g/d z').
    """
    envs = {name: {**own, **_here(state, gradient, name)} for name in state.coordinates}
    if AFTER not in effect.formula.uses:
        return {name: _value(effect, envs[name], state, name) for name in state.coordinates}
    base = {name: _value(effect, {**envs[name], AFTER: 0.0}, state, name) for name in envs}
    slope = {name: _value(effect, {**envs[name], AFTER: 1.0}, state, name) - base[name] for name in envs}
    return _solved(base, slope, objective, state, env)


def _solved(
    base: Mapping[str, Modes], slope: Mapping[str, Modes], objective: Objective, state: State, env: Mapping[str, Any]
) -> dict[str, Modes]:
    names, model = list(base), model_of(objective)
    z = dict(state.coordinates)
    identity = np.eye(len(names))
    for _ in range(_MOST_ITERATIONS):
        there = {**env, **z}
        gradient, hessian = model.gradient(there), model.hessian(there)
        miss = np.stack([z[name] - base[name] - slope[name] * gradient[name] for name in names], axis=-1)
        slopes = np.stack([slope[name] for name in names], axis=-1)
        change = np.linalg.solve(identity - slopes[..., None] * hessian, miss[..., None])[..., 0]
        z = {name: z[name] - change[..., index] for index, name in enumerate(names)}
        if np.all(np.abs(change) <= _SETTLED * (1e-300 + np.abs(np.stack(list(z.values()), axis=-1)))):
            break
    return z
