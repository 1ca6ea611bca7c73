"""What is known about these algorithms in closed form, held against the prediction and against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lensnet
from lensnet.measure.steps.ensemble import measure_steps
from lensnet.measure.steps.problem import draw_problem
from lensnet.network.graph import Network
from lensnet.predict.steps.propagate import objective_of, propagate_steps
from lensnet.predict.steps.state import environment, model_of, start_of
from tests.steps.trials import steps_on

U = 2.0**-53
STEPS = 140


def curve(network: Network, quantity: str) -> np.ndarray:
    """Predicted, the start first."""
    effects = [effect for effect in propagate_steps(network).effects if effect.quantity == quantity]
    return np.array([effect.value for effect in effects])


def statuses(network: Network) -> set[str]:
    return {effect.status for effect in propagate_steps(network).effects}


def measured_curve(network: Network, quantity: str, seed: int = 0) -> np.ndarray:
    scalars = measure_steps(network, 1, seed).seeds[0].scalars
    return np.array([value for (_, name, _, _), value in scalars.items() if name == quantity])


def bowl(step: dict, dimension: int = 12, condition: float = 50, steps: int = 200, **more: object) -> Network:
    source = {"source": "quadratic", "dimension": dimension, "condition": condition, **more}
    return steps_on(source, {"repeat": steps, "name": "step", **step})


def test_every_mode_has_a_row_on_request() -> None:
    network = bowl({"component": "gradient_descent", "rate": 1.7}, 5, 20, steps=3, each_mode=True)
    factors = np.abs(1 - 1.7 * np.geomspace(1, 1 / 20, 5))
    predicted = {(e.component, e.port): e.value for e in propagate_steps(network).effects if e.quantity == "error_mode"}
    measured = measure_steps(network, 1, 3).seeds[0].scalars
    for mode in range(5):
        assert predicted["step.2", str(mode)] == pytest.approx(factors[mode] ** 3, rel=1e-12)
        assert measured["step.2", "error_mode", "forward", str(mode)] == pytest.approx(factors[mode] ** 3, rel=1e-9)
    with pytest.raises(Exception, match="100 are the most"):
        bowl({"component": "gradient_descent", "rate": 1}, 101, each_mode=True)


def network_on(step: dict, steps: int = 200, tail: bool = False, **source: object) -> Network:
    name = "two_layer_tail" if tail else "two_layer_linear"
    return steps_on({"source": name, **source}, {"repeat": steps, "name": "step", **step})


FACTORS = [
    ({"component": "gradient_descent", "rate": 1.7}, lambda lam: 1 - 1.7 * lam),
    ({"component": "levenberg_marquardt", "damping": 0.05}, lambda lam: 0.05 / (lam + 0.05)),
    ({"component": "proximal", "rate": 4.0}, lambda lam: 1 / (1 + 4 * lam)),
]


@pytest.mark.parametrize(
    ("step", "factor"), FACTORS, ids=lambda value: value.get("component") if isinstance(value, dict) else ""
)
def test_each_eigen_direction_has_its_factor(step, factor) -> None:
    network = bowl(step, steps=60)
    lam = np.geomspace(1, 1 / 50, 12)
    powers = factor(lam)[None, :] ** np.arange(61)[:, None]
    for quantity, expected in (("loss", (lam * powers**2).sum(1) / 2), ("error_norm", np.sqrt((powers**2).sum(1)))):
        np.testing.assert_allclose(curve(network, quantity), expected, rtol=1e-11)
        np.testing.assert_allclose(measured_curve(network, quantity), expected, rtol=1e-9)


@pytest.mark.parametrize("condition", [10, 100, 1000])
def test_heavy_ball_is_a_block_with_defective_ends(condition: float) -> None:
    root = np.sqrt(condition)
    rate, rho = 4 / (1 + 1 / root) ** 2, (root - 1) / (root + 1)
    network = bowl({"component": "heavy_ball", "rate": float(rate), "momentum": float(rho**2)}, 6, condition)
    lam = np.geomspace(1, 1 / condition, 6)
    blocks = np.array([[[1 + rho**2 - rate * one, -(rho**2)], [1, 0]] for one in lam])
    eigenvalues = np.linalg.eigvals(blocks[[0, -1]])
    assert np.abs(eigenvalues) == pytest.approx(rho, rel=1e-6), "both ends have one double eigenvalue"
    pair, norms = np.ones((6, 2)), [np.sqrt(6)]
    for _ in range(200):
        pair = np.einsum("mij,mj->mi", blocks, pair)
        norms.append(float(np.linalg.norm(pair[:, 0])))
    np.testing.assert_allclose(curve(network, "error_norm"), norms, rtol=1e-8)
    np.testing.assert_allclose(measured_curve(network, "error_norm"), norms, rtol=1e-8)
    k = np.arange(1, 201)
    scaled = np.array(norms[1:]) / (k * rho**k)
    assert scaled[199] / scaled[99] == pytest.approx(1, abs=0.02 if condition < 1000 else 0.1)
    naive = (norms[-1] / norms[0]) ** (1 / 200)
    assert naive > rho * 1.01, "the factor k shows in the naive rate"


def test_gradient_descent_at_its_best_step_size() -> None:
    kappa = 100.0
    errors = curve(bowl({"component": "gradient_descent", "rate": 2 * kappa / (kappa + 1)}, 20, kappa), "error_norm")
    assert errors[200] / errors[199] == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-3)


def test_saxe_curves_are_the_limit_of_small_steps() -> None:
    """Gradient flow from a balanced start, Saxe et al. 2014; Euler's error falls with the step size at first order."""
    s, start, time = 3.0, 0.3, 0.8
    wrong = []
    for rate in (8e-3, 4e-3, 2e-3, 1e-3):
        steps = round(time / rate)
        step = {"component": "gradient_descent", "rate": rate}
        left = curve(network_on(step, steps, inputs=1, outputs=1, largest=s, start=start), "error_norm")
        t = rate * np.arange(steps + 1)
        flow = s * np.exp(2 * s * t) / (np.exp(2 * s * t) - 1 + s / start**2)
        wrong.append(np.max(np.abs((s - left) - flow)) / s)
    assert wrong[3] < 0.0035
    slope = np.polyfit(np.log([8, 4, 2, 1]), np.log(wrong), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)


def test_a_mode_leaves_the_saddle_geometrically() -> None:
    rate, s, small, large = 0.04, 1.0, 1e-5, 1e-2
    network = network_on(
        {"component": "gradient_descent", "rate": rate}, 200, inputs=1, outputs=1, largest=s, start=small
    )
    strength = np.sqrt(s - curve(network, "error_norm"))
    reached = np.argmax(strength >= large)
    assert reached == pytest.approx(np.log(large / small) / np.log(1 + rate * s), abs=1.5)


@pytest.mark.parametrize("condition", [10, 100, 1e5])
@pytest.mark.parametrize(("outputs", "factor"), [(10, 2), (6, 1)])
def test_condition_number_at_the_balanced_solution(condition: float, outputs: int, factor: int) -> None:
    """Never kappa squared: twice kappa with more outputs than inputs, kappa with as many."""
    step = {"component": "gradient_descent", "rate": 0.1}
    network = network_on(step, 1, inputs=6, outputs=outputs, condition=condition)
    objective = objective_of(network)
    problem = draw_problem(objective, seed=5)
    solution = torch.cat([layer.reshape(-1) for layer in problem.balanced()])
    assert float(problem.loss(solution)) < 1e-28
    measured = problem.curvatures(solution)
    hessian = torch.linalg.eigvalsh(problem.hessian(solution))[-len(measured) :]
    assert float(measured[-1] / measured[0]) == pytest.approx(factor * condition, rel=1e-8)
    np.testing.assert_allclose(hessian, measured, rtol=1e-6, atol=1e-14)
    roots = np.sqrt(np.array(objective.spectrum["s"]))
    env = environment(objective, start_of(objective).moved({"a": roots, "b": roots}), U)
    predicted = model_of(objective).quantities["condition_number"].evaluate(env, _operators())
    assert float(predicted) == pytest.approx(factor * condition, rel=1e-9)


def _operators():
    from lensnet.catalog.objective import OPERATORS

    return OPERATORS


def test_the_run_to_the_solution_ends_at_twice_kappa() -> None:
    kappa = 1e3
    steps = [{"component": "levenberg_marquardt", "damping": "0.1/10**index", "repeat": 10, "name": "step"}]
    network = steps_on({"source": "two_layer_linear", "condition": kappa, "start": 0.3}, *steps)
    assert curve(network, "condition_number")[-1] == pytest.approx(2 * kappa, rel=0.01)
    assert measured_curve(network, "condition_number")[-1] == pytest.approx(2 * kappa, rel=0.01)
    assert measured_curve(network, "error_flattest")[-1] < 1e-5


def test_input_covariance_multiplies_the_rates() -> None:
    """One mode of input variance c2: the error near the solution shrinks by 1 - rate*c2*2*s a step."""
    source = {"inputs": 3, "outputs": 3, "condition": 1, "input_condition": 16, "start": 0.95}
    network = network_on({"component": "gradient_descent", "rate": 0.2}, 200, **source)
    left = curve(network, "error_flattest")
    assert left[200] / left[199] == pytest.approx(1 - 0.2 * 2 / 16, rel=1e-4)
    np.testing.assert_allclose(measured_curve(network, "error_flattest"), left, rtol=1e-9)


def test_flatness_depends_on_the_balance_of_the_layers() -> None:
    """Dinh et al. 2017: rescaling the layers by a and 1/a makes the trace of the Hessian s (a^2 + a^-2)."""
    s = 1.7
    for a in (1.0, 3.0, 10.0):
        step = {"component": "gradient_descent", "rate": 0.001}
        source = {"inputs": 1, "outputs": 1, "largest": s, "start": float(np.sqrt(s)), "imbalance": a}
        problem = draw_problem(objective_of(network_on(step, 1, **source)), seed=2)
        assert float(problem.hessian(problem.start()).trace()) == pytest.approx(s * (a**2 + a**-2), rel=1e-12)


def test_the_tail_from_a_random_start_follows_the_curvature_at_its_end() -> None:
    """No prediction holds from a random start; the last steps still shrink by 1 - rate*lam_min of J J^T there."""
    rate = 0.3
    source = {"inputs": 3, "outputs": 3, "condition": 4, "start": 0.5, "misalignment": 1}
    network = network_on({"component": "gradient_descent", "rate": rate}, STEPS, **source)
    assert statuses(network) == {"out-of-regime"}
    problem = draw_problem(objective_of(network), seed=1)
    x = problem.start()
    for _ in range(STEPS):
        x = x - rate * problem.gradient(x)
    loss = measured_curve(network, "loss", seed=1)
    assert loss[-1] > 1e-25
    assert loss[-1] / loss[-2] == pytest.approx(float(1 - rate * problem.curvatures(x)[0]) ** 2, rel=0.01)


RUNS = [
    bowl({"component": "gradient_descent", "rate": 1.9}, 20, 100),
    bowl({"component": "heavy_ball", "rate": 3.3, "momentum": 0.67}, 20, 100),
    network_on({"component": "gradient_descent", "rate": 0.9}, condition=100, start=0.05),
    network_on({"component": "heavy_ball", "rate": 0.1, "momentum": 0.9}, condition=100, start=0.3),
    network_on({"component": "gradient_descent", "rate": 0.9}, tail=True, condition=100, start=1e-4),
]


@pytest.mark.parametrize(
    "network", RUNS, ids=["gd bowl", "heavy ball bowl", "gd net", "heavy ball net", "gd near solution"]
)
def test_curves_within_one_percent_over_200_steps(network: Network) -> None:
    assert statuses(network) == {"ok"}
    measured = measure_steps(network, 1, 7).seeds[0].scalars
    for quantity in ("loss", "error_norm", "error_flattest"):
        found = [value for (_, name, _, _), value in measured.items() if name == quantity]
        assert len(found) == 201
        np.testing.assert_allclose(found, curve(network, quantity), rtol=0.01)


def test_what_the_bowl_leaves_out_falls_with_the_distance() -> None:
    """Near the solution of the two-layer net the relative error of the prediction is of first order in the distance."""
    distances, wrong = (8e-4, 4e-4, 2e-4, 1e-4), []
    for start in distances:
        network = network_on({"component": "gradient_descent", "rate": 0.5}, 20, tail=True, condition=10, start=start)
        errors = [measured_curve(network, "loss", seed) / curve(network, "loss") - 1 for seed in range(3)]
        wrong.append(np.sqrt(np.mean(np.square(errors))))
    slope = np.polyfit(np.log(distances), np.log(wrong), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1)
    assert statuses(network_on({"component": "gradient_descent", "rate": 0.5}, 2, tail=True, start=0.02)) == {
        "out-of-regime"
    }


def test_random_weights_leave_the_origin_along_the_strongest_direction() -> None:
    """From small weights 1 + rate*s a step in each layer, so that of the product in between grows with its square; a
    run is predicted from where it starts, within 1 % over 200 steps."""
    rate, step = 0.2, {"component": "gradient_descent", "rate": 0.2}
    network = steps_on(
        {"source": "two_layer_random", "condition": 50, "start": 1e-4}, {"repeat": 200, "name": "s", **step}
    )
    assert {effect.value for effect in propagate_steps(network).effects} == {None}, (
        "who knows no start predicts nothing"
    )
    seed = measure_steps(network, 1, 4).seeds[0]
    found = propagate_steps(network, start=seed.states["input"]).effects
    for quantity in ("loss", "error_norm", "error_flattest", "condition_number"):
        predicted = [effect.value for effect in found if effect.quantity == quantity]
        measured = [value for (_, name, _, _), value in seed.scalars.items() if name == quantity]
        np.testing.assert_allclose(measured, predicted, rtol=0.01)
    left = np.array([effect.value for effect in found if effect.quantity == "error_steepest"])
    early = np.arange(15, 25)  # what grows stands above the rest, and is still small
    assert (1 - left[early]).max() < 0.01
    assert np.polyfit(early, np.log(1 - left[early]), 1)[0] == pytest.approx(2 * np.log(1 + rate), rel=0.01)


def test_a_step_without_a_formula_there_is_not_predicted(tmp_path: Path) -> None:
    """The Levenberg-Marquardt step divides by the curvature of a mode, and random layers have no modes."""
    spec = tmp_path / "n.yaml"
    step = "{repeat: 2, name: step, component: levenberg_marquardt, damping: 0.1}"
    spec.write_text(f"network: n\ninput: {{source: two_layer_random}}\nbody:\n  - {step}\n")
    rows = lensnet.load(spec).run(seeds=2).rows
    assert rows and all(row.verdict in ("not-modelled", "out-of-regime") for row in rows)


LIMITS = [
    ({"component": "gradient_descent"}, 2.0),
    ({"component": "heavy_ball", "momentum": 0.6}, 3.2),
]


@pytest.mark.parametrize(("step", "limit"), LIMITS, ids=["gradient_descent", "heavy_ball"])
def test_the_flag_stands_where_the_iteration_turns_unstable(step: dict, limit: float) -> None:
    inside, outside = (bowl({**step, "rate": limit * factor}, 5, 3) for factor in (0.98, 1.02))
    assert statuses(inside) == {"ok"}
    assert measured_curve(inside, "loss")[-1] < 1e-2
    effects = propagate_steps(outside).effects
    assert {effect.status for effect in effects if effect.component != "input"} == {"out-of-regime"}
    assert measured_curve(outside, "loss")[-1] > 1e2


def test_a_rate_that_is_too_large_for_the_solution_is_flagged_at_the_first_step() -> None:
    network = network_on({"component": "gradient_descent", "rate": 1.1}, 3, start=0.05)
    first = next(effect for effect in propagate_steps(network).effects if effect.component == "step.0")
    assert first.status == "out-of-regime"
