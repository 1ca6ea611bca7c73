"""The trials in the files of steps and objectives, as small networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lensnet.catalog.catalog import catalog
from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.network.build import build_network
from lensnet.network.graph import Network

STEPS = 30


@dataclass(frozen=True)
class Trial:
    """Steps on an objective; `outside`: the prediction must raise its flag."""

    component: str
    source: Mapping[str, Any]
    step: Mapping[str, Any]
    outside: bool = False

    def __str__(self) -> str:
        told = ", ".join(f"{key} {value}" for key, value in {**self.source, **self.step}.items())
        return f"{self.component}: {told}"


def all_trials() -> list[Trial]:
    return list(_trials())


def _trials() -> Iterator[Trial]:
    for name in catalog():
        component = catalog()[name]
        for settings in component.spec.trials:
            own = {key: value for key, value in settings.items() if key not in ("objective", "steps", "outside")}
            outside = bool(settings.get("outside"))
            if component.spec.objective is not None:
                yield Trial(name, {"source": name, **own}, settings["steps"], outside)
            elif component.acts_on_state:
                yield Trial(name, settings["objective"], {"component": name, **own}, outside)


def network_of(trial: Trial, steps: int = STEPS) -> Network:
    return steps_on(trial.source, {"repeat": steps, "name": "step", **trial.step})


def steps_on(
    source: Mapping[str, Any], *body: Mapping[str, Any], constants: Mapping[str, Any] | None = None
) -> Network:
    """A network of steps from plain data."""
    spec = {
        "network": "trial",
        "constants": dict(constants or {}),
        "input": dict(source),
        "body": list(map(dict, body)),
    }
    text = yaml.safe_dump(spec, sort_keys=False)
    loaded, document = load_network_spec(Source("trial", text), (), catalog().objectives())
    return build_network(loaded, document)
