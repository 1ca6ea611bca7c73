"""A component says how its levels follow from each other, and the ladder holds it to that."""

from __future__ import annotations

from pathlib import Path

import pytest

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.catalog.derivation import Derivation
from lensnet.catalog.locate import data_folder
from lensnet.derivation.api import derive
from lensnet.ladder import rates
from lensnet.ladder.check import check_component
from lensnet.ladder.rates import rate_test
from lensnet.ladder.trial import Trial
from lensnet.language.loading import load_component_spec
from lensnet.language.source import SpecError
from lensnet.levels.ladder import Level


def declared(tmp_path: Path, name: str, text: str) -> Component:
    """The component of the catalogue with `derives_from`."""
    (file,) = data_folder("components").rglob(f"{name}.yaml")
    body = file.read_text()
    copy = tmp_path / f"{name}.yaml"
    copy.write_text(f"{body}\nderives_from: {text}\n")
    spec, document = load_component_spec(copy)
    return Component(spec, document, "declared here")


def test_without_a_word_every_component_follows_the_same_way() -> None:
    steps = catalog()["relu"].derivations
    assert [(level, step.below, step.rate, step.declared) for level, step in steps.items()] == [
        ("moments", "kernel", "1/n", False),
        ("kernel", "spectrum", "1/sqrt(n)", False),
        ("spectrum", "fluctuation", "1/n", False),
    ]


@pytest.mark.parametrize(("order", "holds"), [("1/n", True), ("1/sqrt(n)", True), ("1/n**2", False)])
def test_a_declared_order_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, holds: bool) -> None:
    """The scatter of a dense layer falls as 1/n: weaker claims hold, stronger ones fail, formulas and rates."""
    component = declared(tmp_path, "linear", f"{{spectrum: {{order: {order}}}}}")
    monkeypatch.setitem(catalog()._read, "linear", component)
    rung = check_component("linear", rates=False)
    (step,) = [step for step in rung.steps if step.below is Level.FLUCTUATION]
    assert (step.how == "verified") == holds and step.derivation.declared
    (rate, *_) = rate_test(Trial("linear", {"channels": 32, "units": 32}), draws=24)
    assert rate.holds == holds


@pytest.mark.parametrize(("name", "holds"), [("relu", True), ("token_mean", False)])
def test_a_declared_limit_says_what_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, holds: bool
) -> None:
    """Independent tokens: what is done to each averages over their number; of their mean one draw stays a draw."""
    component = declared(tmp_path, name, "{spectrum: {limit: positions -> oo}}")
    monkeypatch.setitem(catalog()._read, name, component)
    (rate, *_) = rates._rates(Trial(name, {"channels": 8, "positions": [8], "batch": 4}), 32, (1, 2, 4), None)
    assert rate.widths == (8, 16, 32)
    assert rate.averages_itself == holds


@pytest.mark.parametrize(("limit", "holds"), [("groups", True), ("channels", False)])
def test_a_count_of_the_component_may_be_what_grows(monkeypatch: pytest.MonkeyPatch, limit: str, holds: bool) -> None:
    """Channels of one group read with the same c what the same b wrote: <c, b> is one number for all of them, whose
    square scatters by 2 + 6/states, so only the number of groups averages."""
    component = catalog()["selective_scan"]
    derivations = {**component.derivations, "spectrum": Derivation("spectrum", "fluctuation", f"{limit} -> oo", 1.0)}
    monkeypatch.setitem(component.__dict__, "derivations", derivations)
    settings = {"channels": 64, "groups": 8 if holds else 2, "positions": [1], "skip": 0, "step_bias": 5, "batch": 4}
    (rate, *_) = rates._rates(Trial("selective_scan", settings), 32, (1, 2, 4), None)
    assert rate.widths == ((8, 16, 32) if holds else (64, 128, 256))
    assert rate.averages_itself == holds
    if holds:  # with 8 states, 8 channels and steps of N(5, 1): (3 + 6/8) (1 + 2.45/8) - 1, and 3**2 * 2/8 of an input
        # that makes x, b and c alike larger or smaller
        assert rate.variances[-1] * 32 == pytest.approx(6.15, rel=0.4)


def test_the_chain_may_leave_a_level_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{moments: {level: fluctuation, limit: channels -> oo}}"
    monkeypatch.setitem(catalog()._read, "tanh", declared(tmp_path, "tanh", text))
    steps = check_component("tanh", rates=False).steps
    assert {(step.below, step.above) for step in steps} == {
        (Level.FLUCTUATION, Level.MOMENTS),
        (Level.SPECTRUM, Level.KERNEL),
        (Level.FLUCTUATION, Level.SPECTRUM),
    }
    assert all(step.how == "verified" for step in steps)
    assert "moments: from fluctuation when channels -> oo" in str(derive("tanh"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{moments: {level: spectrum}}", "moments does not follow from spectrum"),
        ("{fluctuation: {order: 1/n}}", "nothing lies below"),
        ("{spectrum: {limit: width -> oo}}", "no limit that can be taken"),
        ("{spectrum: {limit: groups -> oo}}", "no limit that can be taken"),
        ("{kernel: {limit: same sample}}", "no two samples"),
        ("{kernel: {order: n}}", "no order"),
        ("{kernel: {order: 1/n**0}}", "no order"),
        ("{kernel: {orders: 1/n}}", "unknown key"),
    ],
)
def test_what_cannot_be_checked_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        declared(tmp_path, "relu", text)
    assert message in str(error.value) and "relu.yaml:" in str(error.value)
