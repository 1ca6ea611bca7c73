"""One definition for prediction and measurement: every quantity that is asked for can be measured."""

from __future__ import annotations

from lensnet.catalog.catalog import catalog
from lensnet.measure.estimators.registry import estimators
from lensnet.quantities.quantity import QUANTITIES


def test_every_need_of_the_catalogue_has_a_definition_and_an_estimator() -> None:
    for name in catalog():
        for quantity in (*catalog()[name].needs, *catalog()[name].observes):
            assert quantity in QUANTITIES, f"{name} needs {quantity}"
            assert quantity in estimators(), f"{name} needs {quantity}"


def test_every_estimator_measures_a_defined_quantity() -> None:
    assert set(estimators()) <= set(QUANTITIES)
