"""Trials with more of what a limit of the ladder names: channels, positions, examples, or a count of the component."""

from __future__ import annotations

from lensnet.catalog.catalog import catalog
from lensnet.ladder.trial import Trial
from lensnet.language.effect_spec import AXES

NARROWEST = 32
"""Channels from which on the next order in 1/width is small against the interval of a fit."""

_MADE = ("units", "filters", "channels_to")
_ALONG = ("heads", "reduced", "hidden")
_MOST_EXAMPLES = 12


def grown(trial: Trial, factor: int, axis: str = "channels") -> Trial:
    """The trial with `factor` times as much of what a component's limit names.

    An integer parameter, as the groups of a selective scan, grows with the channels of every port, so that as many of
    them belong to each as before.
    """
    if axis == "channels":
        return widened(trial, factor)
    if axis == "examples":
        return trial.at(batch=int(trial.settings.get("batch", _MOST_EXAMPLES)) * factor)
    if axis == "positions":
        first, *others = trial.settings.get("positions") or [1]
        return trial.at(positions=[int(first) * factor, *others])
    ports = {name: factor * int(count) for name, count in (trial.settings.get("port_channels") or {}).items()}
    changes = {"channels": factor * int(trial.settings["channels"]), axis: factor * size(trial, axis)}
    return trial.at(**changes, **({"port_channels": ports} if ports else {}))


def size(trial: Trial, axis: str) -> int:
    """How much the trial has of what a limit names."""
    if axis == "positions":
        return int(trial.settings["positions"][0])
    if axis not in AXES:
        return int({**_defaults(trial, axis), **trial.settings}[axis])
    keys = ("batch",) if axis == "examples" else (*_MADE, "channels")
    return int(next(trial.settings[key] for key in keys if key in trial.settings))


def widened(trial: Trial, factor: int) -> Trial:
    """The trial with `factor` times as many channels (units, filters, heads), from a narrowest output on."""
    given = {**_defaults(trial, *_ALONG), **trial.settings}
    made = [key for key in _MADE if key in trial.settings]
    base = min((int(given[key]) for key in (made or ["channels"])), default=1)
    least = 1 if given.get("kind") == "ids" else max(1, -(-NARROWEST // base))
    along = made or ["channels", *(key for key in _ALONG if key in given)]
    changes = {key: int(given[key]) * factor * least for key in along}
    if made:
        inner = ("channels", "hidden")
        changes |= {key: int(given[key]) * factor for key in inner if key in trial.settings}
    examples = min(int(given.get("batch", _MOST_EXAMPLES)), _MOST_EXAMPLES)
    return trial.at(**changes, batch=examples)


def _defaults(trial: Trial, *names: str) -> dict[str, int]:
    """Those of the named parameters that have a number by default."""
    parameters = catalog()[trial.component].parameters
    defaults = {name: str(getattr(parameters.get(name), "default", "")) for name in names}
    return {name: int(text) for name, text in defaults.items() if text.isdecimal()}
