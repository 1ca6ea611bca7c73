"""The contract of every step and objective of the catalogue, parametrised over the trials in their files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensnet.catalog.catalog import catalog
from lensnet.measure.steps.ensemble import measure_steps
from lensnet.measure.steps.operations import find_operation
from lensnet.measure.steps.problem import Problem, draw_problem
from lensnet.network.graph import INPUT
from lensnet.predict.steps.propagate import objective_of, predict_steps_locally, propagate_steps
from lensnet.predict.steps.state import start_of
from tests.steps.trials import Trial, all_trials, network_of

TRIALS = all_trials()
INSIDE = [trial for trial in TRIALS if not trial.outside]
OUTSIDE = [trial for trial in TRIALS if trial.outside]
SEEDS = 2
TOLERANCE = 0.01  # the linearised network is off by its second order, everything else by rounding


def test_every_step_and_objective_is_tried() -> None:
    kinds = {name for name in catalog() if catalog()[name].acts_on_state or catalog()[name].spec.objective}
    assert kinds == {trial.component for trial in TRIALS}
    for name in kinds:
        if catalog()[name].acts_on_state:
            assert find_operation(catalog()[name].implementation, name)


@pytest.mark.parametrize("trial", INSIDE, ids=str)
def test_prediction_meets_the_measurement(trial: Trial) -> None:
    network = network_of(trial)
    drawn = objective_of(network).drawn
    for seed in measure_steps(network, SEEDS).seeds:
        through = propagate_steps(network, start=seed.states[INPUT] if drawn else None)
        predicted = {(effect.component, effect.quantity): effect for effect in through.effects}
        local = {(e.component, e.quantity): e for e in predict_steps_locally(network, seed.states)}
        assert {(path, name) for path, name, _, _ in seed.scalars} <= set(predicted)
        for (path, name, _, _), measured in seed.scalars.items():
            for effect in filter(None, (predicted[path, name], local.get((path, name)))):
                if effect.status != "ok" and path == network.nodes[-1].path:
                    continue  # converged down to rounding
                allowed = TOLERANCE * abs(effect.value) + (effect.floor or 0.0)
                assert abs(measured - effect.value) <= allowed, (path, name, measured, effect)


@pytest.mark.parametrize("trial", OUTSIDE, ids=str)
def test_the_flag_is_raised_outside_the_regime(trial: Trial) -> None:
    through = propagate_steps(network_of(trial, 4))
    assert all(effect.status == "out-of-regime" for effect in through.effects if effect.component == "step.3")


@pytest.mark.parametrize("name", catalog().objectives())
def test_the_two_sides_of_an_objective_are_one_problem(name: str) -> None:
    """Start, gradient and Hessian in the coordinates of the modes, from the formulas and from torch."""
    trial = next(trial for trial in INSIDE if trial.source["source"] == name)
    objective = objective_of(network_of(trial, 1))
    problem = draw_problem(objective, seed=3)
    x = problem.start()
    start = start_of(objective).coordinates
    near = {"two_layer_tail": 2e-2, "two_layer_random": np.inf}.get(name, 1e-12)
    for coordinate, values in problem.coordinates(x).items():
        assert np.abs(values.numpy()) == pytest.approx(np.abs(start[coordinate]), rel=near)
    if objective.drawn:
        assert float(x.square().mean().sqrt()) == pytest.approx(start["w"][0], rel=4 / np.sqrt(2 * len(x)))
    assert x.shape == (network_of(trial, 1).input.shape.channels,)
    gradient, step = problem.gradient(x), torch.randn(len(x), dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    slope = (problem.loss(x + 1e-6 * step) - problem.loss(x - 1e-6 * step)) / 2e-6
    assert float(gradient @ step) == pytest.approx(float(slope), rel=1e-5, abs=1e-9)
    by_autograd = Problem.jacobian(problem, x)
    torch.testing.assert_close(problem.jacobian(x), by_autograd, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(problem.hessian(x), Problem.hessian(problem, x), rtol=1e-10, atol=1e-12)
    assert float(problem.residual(x).square().sum() / 2) == pytest.approx(float(problem.loss(x)), rel=1e-12)
