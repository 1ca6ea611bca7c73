"""Trials: a component alone on a Gaussian input, as its own file declares them.

The contract tests, the truth table and the ladder's rate tests all measure components on these networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import yaml

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import FORK, Component
from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.network.build import build_network
from lensnet.network.graph import Network

# What a trial says about the input; every other key is a parameter of the component.
INPUT_KEYS = (
    "channels", "positions", "kind", "batch", "ports", "port_channels", "mean", "second_moment", "given",
    "correlation", "position_correlation", "outside",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A component with parameters, and the input it is tried on. `outside`: the effect must raise its flag here."""

    component: str
    settings: Mapping[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        return {key: value for key, value in self.settings.items() if key not in INPUT_KEYS}

    @property
    def outside(self) -> bool:
        return bool(self.settings.get("outside", False))

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.settings.items())

    def at(self, **changes: Any) -> Trial:
        return replace(self, settings={**self.settings, **changes})


def trials(component: Component) -> list[Trial]:
    """The trials of a component's own file; none for steps and objectives, whose trials are no signals."""
    return [Trial(component.name, settings) for settings in component.spec.trials if is_layer(component)]


def all_trials() -> list[Trial]:
    return [trial for name in catalog() for trial in trials(catalog()[name])]


def is_layer(component: Component) -> bool:
    """Whether it acts on a signal; steps of algorithms and their objectives have trials of another kind."""
    return not component.acts_on_state and component.spec.objective is None


def network_of(trial: Trial) -> Network:
    """A network that brings the asked input to the component, which stands last and is called `tried`."""
    s = trial.settings
    mean, second = float(s.get("mean", 0.0)), float(s.get("second_moment", s.get("mean", 0.0) ** 2 + 1.0))
    batch = int(s.get("batch", 48))
    tried: dict[str, Any] = {"name": "tried", "component": trial.component, **trial.parameters}
    if s.get("kind") == "ids":
        source = {"source": "tokens", "length": s["positions"][0], "vocabulary": s["channels"], "batch": batch}
        return _build({"network": "trial", "input": source, "body": [tried]})
    component = catalog()[trial.component]
    source = {"source": "gaussian", "channels": s["channels"], "batch": batch}
    if component.is_fork:
        return _forked(source, s["channels"], mean, second)
    source |= {key: s[key] for key in ("positions", "correlation", "position_correlation") if s.get(key)}
    units = port_channels(component, s)
    if len(units) == 1:
        source |= {"mean": mean, "std": sqrt(max(second - mean**2, 0.0))}
        return _build({"network": "trial", "input": source, "body": [tried]})
    return _build({"network": "trial", "input": source, "body": [*_meeting(s, units, mean, second), tried]}, len(units))


def port_channels(component: Component, settings: Mapping[str, Any]) -> list[int]:
    """Channels at each port: `channels` everywhere but at those that `port_channels: {PORT: count}` names."""
    if component.variadic:
        return [settings["channels"]] * int(settings.get("ports", 2))
    narrow = settings.get("port_channels") or {}
    return [narrow.get(port, settings["channels"]) for port in component.ports_in]


def _meeting(s: Mapping[str, Any], units: Sequence[int], mean: float, second: float) -> list[dict[str, Any]]:
    """Signals `port0`, ... of the asked moments; with `given: {cross_moment}` the second is partly the first."""
    std = sqrt(max(second - mean**2, 0.0))
    body: list[dict[str, Any]] = []
    for index, count in enumerate(units):
        made = {"component": "linear", "units": count, "gain": std, "bias": mean, "from": "input"}
        body.append({"name": f"port{index}", **made})
    cross = (s.get("given") or {}).get("cross_moment")
    if cross is not None:
        correlation = (cross - mean**2) / std**2
        body[1] = {"name": "other", "component": "linear", "units": units[1], "gain": std, "from": "input"}
        own = {"name": "own", "component": "scale", "factor": sqrt(1 - correlation**2), "from": "other"}
        body += [own, {"name": "port1", "component": "residual", "skip_scale": correlation, "from": ["port0", "own"]}]
    return body


def _forked(source: dict[str, Any], units: int, mean: float, second: float) -> Network:
    """A value used three times: by two dense layers and as it is."""
    dense = {"component": "linear", "units": units, "gain": 0.8, "from": "value"}
    start = {"name": "value", "component": "linear", "units": units, "gain": sqrt(second - mean**2), "bias": mean}
    body = [start, {"name": "a", **dense}, {"name": "b", **dense}, {"component": "sum", "from": ["value", "a", "b"]}]
    return _build({"network": "trial", "input": source, "body": body})


def _build(spec: dict[str, Any], ports: int = 1) -> Network:
    if ports > 1:
        spec["body"][-1]["from"] = [f"port{index}" for index in range(ports)]
    text = yaml.safe_dump(spec, sort_keys=False)
    loaded, document = load_network_spec(Source("trial", text))
    return build_network(loaded, document)


def path_of(trial: Trial) -> str:
    """Where the tried component stands in `network_of(trial)`; of one made of components, the last of them."""
    if catalog()[trial.component].spec.body is not None:
        return network_of(trial).nodes[-1].path
    return "value.fork" if trial.component == FORK else "tried"


def grid(component: Component, means: tuple[float, ...] = (0.0, 0.3, -1.0)) -> Iterator[Trial]:
    """The component's own trials, each also at other input means where the input is a number and not an id."""
    for trial in trials(component):
        yield trial
        if trial.settings.get("kind") == "ids" or trial.settings.get("given") or trial.outside:
            continue
        variance = trial.settings.get("second_moment", 1.0 + trial.settings.get("mean", 0.0) ** 2)
        variance -= trial.settings.get("mean", 0.0) ** 2
        for mean in means:
            if mean != trial.settings.get("mean", 0.0):
                yield trial.at(mean=mean, second_moment=variance + mean**2)
