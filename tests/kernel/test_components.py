"""Every kernel formula of the catalogue against brute force over weight draws, on correlated inputs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from lensnet.catalog.catalog import catalog
from lensnet.catalog.locate import data_folder
from lensnet.ladder.trial import is_layer
from lensnet.predict.kernel.backward import backward
from lensnet.predict.kernel.environment import KernelPlace
from lensnet.predict.kernel.forward import forward
from tests.kernel.brute import Tried, simulate, tried

BIAS = 0.006  # of the mean diagonal, beyond the declared error and four standard errors


def modelled(name: str) -> bool:
    """Whether a component says at the kernel level what it does (one made of components says nothing of its own)."""
    component = catalog()[name]
    return component.function is not None or "kernel" in component.effects("kernel")


def gradients_modelled(name: str) -> bool:
    """Whether every port that has a gradient at the level of moments has one at the kernel level."""
    component = catalog()[name]
    ports = [port for port in component.ports_in if component.backward_effect("moments", port)]
    back = component.port_effects("kernel", "backward_kernel")
    return component.function is not None or all(port in back or "" in back for port in ports)


TRIALS = [
    (name, trial)
    for name in catalog()
    if not catalog()[name].is_fork and modelled(name) and is_layer(catalog()[name])
    for trial in catalog()[name].spec.trials[:2]
]


def predicted(case: Tried) -> dict[str, tuple[np.ndarray, float]]:
    given, made = case.layouts
    place, states = KernelPlace(case.node, given, made), case.states()
    apart = given.first(states[0].mean) * given.second(states[0].mean)
    crosses = dict.fromkeys(combinations(range(len(states)), 2), apart)
    step = forward(place, states, crosses)
    assert step.state is not None, step.reason
    out = {"output": (np.asarray(step.state.pairs), step.error)}
    for port, back in backward(place, states, case.probe(), crosses).items():
        if back.pairs is not None:
            out[f"gradient {port}"] = np.asarray(back.pairs), back.error
    return out


@pytest.mark.parametrize(("name", "trial"), TRIALS, ids=lambda value: str(value)[:80])
def test_covariances_of_pairs(name: str, trial: dict[str, Any]) -> None:
    case = tried(name, trial)
    given, made = case.layouts
    size = case.node.examples * max(case.node.shapes_in[0].features, case.node.shape.features)
    narrow = min(shape.channels for shape in case.node.shapes_in) < 8  # a single channel has heavy tails
    most = 1000 if narrow else 100
    found, told = simulate(case, int(np.clip(250_000 / size, 16, most))), predicted(case)
    for quantity, (value, error) in told.items():
        layout = made if quantity == "output" else given
        measured, scale = found[quantity], float(np.mean(np.diag(value)))
        groups = {
            "self": layout.same,
            "positions": layout.same_example * (1 - layout.same_place),
            "examples": layout.same_place * (1 - layout.same_example),
            "both": (1 - layout.same_place) * (1 - layout.same_example),
        }
        for group, mask in groups.items():
            if not mask.any():
                continue
            mean, standard_error = measured.group(mask)
            off = mean - float(value[mask > 0].mean())
            limit = (BIAS + error) * scale + 4.5 * standard_error
            assert abs(off) <= limit, f"{quantity}, {group}: {off / scale:+.2%} (se {standard_error / scale:.2%})"
        slack = (BIAS + error) * scale + 6.5 * measured.error
        worst = np.max(np.abs(measured.mean - value) / np.maximum(slack, 1e-12))
        assert worst <= 1.0, f"{quantity}: an entry is off by {worst:.2f} of what is allowed"


def test_what_has_no_kernel_formula_says_why() -> None:
    for name, component in catalog().items():
        if is_layer(component) and not component.is_fork and component.spec.body is None:
            whole = modelled(name) and gradients_modelled(name)
            assert whole != ("kernel" in component.spec.not_modelled), name


def test_the_page_explains_only_what_has_no_formula() -> None:
    page = (data_folder("components").parent / "docs" / "effects" / "kernels.md").read_text()
    explained = {name for name in catalog() if f"`{name}`" in page.split("What has no formula")[1]}
    assert explained and not {name for name in explained if modelled(name)}
