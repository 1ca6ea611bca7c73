"""A stack of steps, run once for every seed, which draws the problem, its start, and what the steps draw themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lensnet.measure.device import choose_device, choose_dtype, quiet_state
from lensnet.measure.draw import generator
from lensnet.measure.ensemble import OnSeed, Progress
from lensnet.measure.errors import MeasureError
from lensnet.measure.statistics import Measurement, SeedStatistics, StateStatistics
from lensnet.measure.steps.estimators import Estimator, Moment, state_estimators
from lensnet.measure.steps.operations import ITERATE, find_operation
from lensnet.measure.steps.problem import Problem, draw_problem
from lensnet.network.graph import INPUT, Network, Node

State = Mapping[str, Tensor]


def measure_steps(
    network: Network,
    seeds: int = 8,
    first_seed: int = 0,
    device: str = "auto",
    dtype: str = "float64",
    keep_seeds: bool = True,
    on_seed: OnSeed | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Run the steps of a network on `seeds` draws of its objective.

    After every step the objective's quantities are measured, and the state is read in the coordinates of its modes.
    Options and Ctrl-C as for `lensnet.measure.ensemble.measure`. Raises `ImplementationError` for a step, objective or
    quantity without a torch side, `MeasureError` where torch refuses a step (a singular system, say).
    """
    where, number = choose_device(device), choose_dtype(dtype)
    result = Measurement([], str(where), dtype, 0)
    objective = network.input.objective
    if objective is None:
        raise MeasureError(f"{network.name} is not a stack of steps: its input is {network.input.source}")
    estimators = _estimators(objective.quantities)
    if progress is not None:
        progress.start(seeds)
    finished = 0
    with quiet_state(where), torch.no_grad():
        try:
            for seed in range(first_seed, first_seed + seeds):
                done = _run(network, draw_problem(objective, seed, where, number), seed, estimators)
                finished += 1
                if keep_seeds:
                    result.seeds.append(done)
                if on_seed is not None:
                    on_seed(done)
                if progress is not None:
                    progress.advance(1)
        except KeyboardInterrupt:
            result.interrupted = True
            result.notes.append(f"interrupted: {finished} of {seeds} draws were finished")
    return result


def _estimators(names: Sequence[str]) -> dict[str, Estimator]:
    known = state_estimators()
    missing = [name for name in names if name not in known]
    if missing:
        raise MeasureError(f"nothing measures {', '.join(missing)}: register a state estimator of that name")
    return {name: known[name] for name in names}


def _run(network: Network, problem: Problem, seed: int, estimators: Mapping[str, Estimator]) -> SeedStatistics:
    out = SeedStatistics(seed)
    states: dict[str, State] = {INPUT: {ITERATE: problem.start()}}
    _record(out, INPUT, problem, states[INPUT], None, estimators)
    uses = {node.path: len(network.consumers(node.path)) for node in network}
    for node in network:
        before = states[node.inputs[0]]
        states[node.path] = after = before if node.component.is_fork else _step(node, problem, before, seed)
        _record(out, node.path, problem, after, before[ITERATE], estimators)
        if uses.get(node.inputs[0]) == 1:
            del states[node.inputs[0]]  # its only user is done
    return out


def _step(node: Node, problem: Problem, before: State, seed: int) -> State:
    step = find_operation(node.component.implementation, node.path)
    zeros = {name: torch.zeros_like(before[ITERATE]) for name in node.component.spec.memory if name not in before}
    try:
        changed = step(problem, {**zeros, **before}, generator=generator(seed, node.path, "step"), **node.parameters)
    except RuntimeError as error:
        raise MeasureError(f"{node.path}: {error}") from error
    return {**before, **changed}


def _record(
    out: SeedStatistics,
    path: str,
    problem: Problem,
    state: State,
    before: Tensor | None,
    estimators: Mapping[str, Estimator],
) -> None:
    x = state[ITERATE]
    memory = {name: _arrays(problem.tangent(x, value)) for name, value in state.items() if name != ITERATE}
    out.states[path] = StateStatistics(_arrays(problem.coordinates(x)), memory)
    moment = Moment(problem, x, before)
    for name, measure in estimators.items():
        value = float(measure(moment))
        if not np.isnan(value) or before is not None:
            out.scalars[path, name, "forward", None] = value
    if problem.objective.each_mode:
        for mode, value in enumerate(problem.remaining(x).abs().tolist()):
            if not np.isnan(value):
                out.scalars[path, "error_mode", "forward", str(mode)] = value
    if not bool(torch.isfinite(x).all()):
        out.nonfinite.append(path)


def _arrays(values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().double().cpu().numpy() for name, value in values.items()}
