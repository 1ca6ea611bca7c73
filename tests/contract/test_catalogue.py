"""The contract that every component of the catalogue keeps, parametrised over the catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.catalog.catalog import catalog
from lensnet.measure.module import to_module
from lensnet.measure.sources import load_batch
from lensnet.network.refused import Refused
from lensnet.network.shape import Shape
from lensnet.predict.moments.propagate import propagate
from lensnet.predicting import input_signal
from tests.effects.monte_carlo import place
from tests.truth.trial import Trial, all_trials, figures, network_of, path_of

TRIALS = all_trials()
INSIDE = [trial for trial in TRIALS if not trial.outside]
OUTSIDE = [trial for trial in TRIALS if trial.outside]
# A formula may be off by 3 % in its regime, or by what it declares; the rest is the noise of finitely many draws.
TOLERANCE = 0.03
NOISE = 4.0
BATCHES = (4, 12)  # more when the fewer are too noisy


def name_of(trial: Trial) -> str:
    return f"{trial.component}: {trial}"


@pytest.mark.parametrize("name", sorted(catalog()))
def test_a_component_is_complete(name: str) -> None:
    component = catalog()[name]
    assert component.title and component.optics, "a title and an optical counterpart"
    assert len(component.intuition) > 80, "one paragraph that teaches"
    assert component.spec.trials, "trials for this battery"
    cited = {
        key for effects in component.spec.effects.values() for e in effects.values() for key in getattr(e, "cites", [])
    }
    assert cited <= set(component.references), "every citation is spelled out"


@pytest.mark.parametrize("trial", TRIALS, ids=name_of)
def test_the_layer_has_the_shape_that_the_network_says(trial: Trial) -> None:
    network = network_of(trial)
    module = to_module(network)
    batch = load_batch(network.input)
    assert tuple(module(batch).shape) == network.nodes[-1].shape.tensor_shape(len(batch))


@pytest.mark.parametrize(
    "name", [name for name, kind in sorted(catalog().items()) if kind.spec.fits.axes or kind.spec.fits.divides]
)
def test_what_does_not_fit_is_refused_before_anything_is_built(name: str) -> None:
    """One position axis too many, one channel too many: the component says so, at its place in the file."""
    trial = next(trial for trial in TRIALS if trial.component == name)
    node = network_of(trial)[path_of(trial)]
    given = {key: value for key, value in node.parameters.items() if key in node.component.parameters}
    fits = node.component.spec.fits
    if fits.axes:
        shapes = [Shape(shape.channels, (*shape.positions, *(1,) * max(fits.axes))) for shape in node.shapes_in]
        with pytest.raises(Refused) as caught:
            place(name, shapes, **given)
        assert any(f"{name} needs" in problem.message for problem in caught.value.problems)
    for key, wholes in fits.divides.items():
        if wholes == ["channels"]:
            with pytest.raises(Refused) as caught:
                place(name, node.shapes_in, **{**given, key: node.shapes_in[0].channels + 1})
            assert any(f"`{key}` must divide" in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize("trial", INSIDE, ids=name_of)
def test_predictions_are_possible_moments(trial: Trial) -> None:
    network = network_of(trial)
    prediction = propagate(network, input_signal(network))
    signal = prediction.signals[path_of(trial)]
    if np.isnan(signal.second_moment).all():
        pytest.skip("not modelled")
    assert np.all(signal.second_moment >= signal.mean**2 - 1e-9 * (1 + signal.second_moment))
    for key, gradient in prediction.gradients.items():
        assert np.all(gradient >= 0), key


@pytest.mark.parametrize("trial", INSIDE, ids=name_of)
def test_prediction_meets_monte_carlo_truth(trial: Trial) -> None:
    if not catalog()[trial.component].spec.effects and catalog()[trial.component].implementation.startswith("opaque"):
        pytest.skip("claims nothing")
    found = figures(trial, BATCHES[0])
    if any(figure.standard_error > TOLERANCE / 2 for figure in found):
        found = figures(trial, BATCHES[1], BATCHES[0], found)
    checked = 0
    for figure in found:
        assert figure.in_regime, f"{figure.quantity} {figure.direction}: flagged inside its regime"
        allowed = max(TOLERANCE, figure.declared) + NOISE * figure.standard_error
        assert figure.standard_error < TOLERANCE, "this trial is too noisy to test anything: give it more channels"
        assert abs(figure.error) <= allowed, (
            f"{figure.quantity} {figure.direction} {figure.port or ''}: predicted {np.mean(figure.predicted):.5g}, "
            f"measured {np.mean(figure.measured):.5g}, off by {figure.error:+.2%} +- {figure.standard_error:.2%}"
        )
        checked += 1
    assert checked, "nothing was predicted"


@pytest.mark.parametrize("trial", OUTSIDE, ids=name_of)
def test_the_regime_flag_is_raised_outside_the_regime(trial: Trial) -> None:
    assert any(not figure.in_regime for figure in figures(trial, 1))
