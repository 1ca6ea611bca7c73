"""Effects that a component declares for quantities of its own, below the moments: a step's gain, a layer's rates.

Their formulas see the parameters, the shapes and the side quantities that the component needs, all of them numbers of
the whole batch. From the network's input, a quantity `x_before` that the component in front has just predicted as
`x_after` (or under the name of the quantity itself) is taken from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field
from lensnet.network.graph import Network, Node
from lensnet.predict.environment import static_symbols
from lensnet.predict.prediction import Check, Effect

Sides = Mapping[tuple[str, str, str], Field]
CARRIED = {"total_before": "total_rate", "reduction_before": "rate_reduction"}
"""Needs that are outputs of the component in front: need -> quantity."""


def own_effects(network: Network, sides: Sides, through: bool) -> list[Effect]:
    """`sides`: measured at the ports. `through`: what a component in front predicts goes in, not what was measured."""
    out: list[Effect] = []
    known: dict[tuple[str, str], float] = {}
    doubtful: dict[str, tuple[Check, ...]] = {}
    for node in network:
        if not has_own(node):
            continue
        carried = _carried(node, known) if through else {}
        effects = _effects(
            node, _environment(node, sides, carried), doubtful.get(node.inputs[0], ()) if carried else ()
        )
        for effect in effects:
            if effect.value is not None:
                known[node.path, effect.quantity] = effect.value
        if effects and effects[0].status == "out-of-regime":
            reason = f"everything upstream holds: {node.path} is out of its regime"
            doubtful[node.path] = doubtful.get(node.inputs[0], ()) or (Check(reason, -1.0),)
        out += effects
    return out


def has_own(node: Node) -> bool:
    return (
        bool(node.component.effects(Level.SPECTRUM)) and not node.component.effects(Level.SPECTRUM).keys() <= _GENERAL
    )


def own_quantities(network: Network) -> set[str]:
    """Names of the quantities that components of the network bring themselves."""
    return {quantity for node in network if has_own(node) for quantity in node.component.effects(Level.SPECTRUM)}


_GENERAL = {"rank", "stable_rank", "effective_rank", "participation_ratio", "coding_rate"}


def _carried(node: Node, known: Mapping[tuple[str, str], float]) -> dict[str, float]:
    found = {need: known.get((node.inputs[0], quantity)) for need, quantity in CARRIED.items()}
    return {need: value for need, value in found.items() if value is not None}


def _environment(node: Node, sides: Sides, carried: Mapping[str, float]) -> dict[str, Any]:
    env: dict[str, Any] = {**static_symbols(node), "examples": float(node.examples)}
    for name, need in node.component.needs.items():
        value = carried.get(name, sides.get((node.path, node.ports[0], name)))
        env[need.symbol or name] = np.nan if value is None else np.asarray(value, dtype=float)
    return env


def _effects(node: Node, env: Mapping[str, Any], doubts: tuple[Check, ...]) -> list[Effect]:
    out = []
    for quantity, model in node.component.effects(Level.SPECTRUM).items():
        value = np.asarray(model.evaluate(env, {}), dtype=float)
        if not np.isfinite(value).all():
            continue
        checks = [
            Check(a.text, None if a.comparison is None else a.comparison.margin(env, {}), a.below)
            for a in node.component.effect_assumptions(Level.SPECTRUM, quantity)
        ]
        checks += doubts
        failed = any(check.margin is not None and not check.margin >= 0 for check in checks)
        out.append(
            Effect(
                node.path, quantity, "forward", None, value.reshape(1), model.error(env, {}), tuple(checks),
                "out-of-regime" if failed else "ok", level=Level.SPECTRUM,
            )
        )  # fmt: skip
    return out
