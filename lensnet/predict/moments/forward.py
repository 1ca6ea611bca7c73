"""One component forward at the level of moments: signals in, signal and effects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lensnet.catalog.effects import EffectModel
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Signal
from lensnet.network.graph import Node
from lensnet.predict.environment import fixed_symbols, formula_operators, side_symbols, signal_symbols, with_port_sides
from lensnet.predict.moments.beyond_law import behind_norm
from lensnet.predict.moments.checks import average_checks, evaluate_checks, gaussian_check, status_of
from lensnet.predict.moments.law import law_after
from lensnet.predict.moments.pointwise import pointwise_moments
from lensnet.predict.prediction import Check, Effect

CrossFields = Mapping[tuple[int, int], Field | None]


def forward(
    node: Node, signals: Sequence[Signal], crosses: CrossFields | None = None, drawn: bool = True
) -> tuple[Signal, list[Effect]]:
    """Predict mean and second moment at the output of `node` from the signals at its ports.

    `crosses`: E[a b] for every pair of ports that meet, None where unknown (the row is then out of regime). `drawn`:
    the signals are expectations over weight draws; False when they are the statistics of one draw.
    """
    checks: list[Check] = []
    own: dict[str, list[Check]] = {}  # of one effect
    if node.component.function is not None:
        mean, second, error = pointwise_moments(node, signals[0])
        checks += [gaussian_check(node, signals[0]), *average_checks(node, "square", second, 0.0)]
    else:
        models = node.component.effects(Level.MOMENTS)
        if "second_moment" not in models:
            return _not_modelled(node, signals)
        env, missing = formula_environment(node, signals, crosses, drawn)
        checks += doubts(models["second_moment"], missing)
        operators = formula_operators(node, signals)
        size = field_shape(node, signals)
        second = spread(models["second_moment"].evaluate(env, operators), size)
        mean = spread(models["mean"].evaluate(env, operators), size)
        error = models["second_moment"].error(env, operators)
        checks += evaluate_checks(node.component.assumptions, env, operators)
        for quantity in ("mean", "second_moment"):
            own[quantity] = evaluate_checks(models[quantity].assumptions, env, operators)
    law = law_after(node, signals, mean, second)
    effects = []
    for quantity, field in (("mean", mean), ("second_moment", second)):
        known = (*own.get(quantity, ()), *checks)
        effects.append(Effect(node.path, quantity, "forward", None, field, error, known, status_of(known)))
    beyond = behind_norm(node, signals[0].side, mean, second, law)
    return Signal(mean, second, law, distribution=beyond), effects


def formula_environment(
    node: Node, signals: Sequence[Signal], crosses: CrossFields | None, drawn: bool = True
) -> tuple[dict[str, Any], dict[str, Check]]:
    """Everything that the formulas of a component may name; and symbol -> failed check for what nobody knows."""
    missing: dict[str, Check] = {}
    known: dict[tuple[int, int], Field] = {}
    for (a, b), value in (crosses or {}).items():
        if value is None:
            symbol = "k" if node.component.variadic else f"k_{node.ports[a]}_{node.ports[b]}"
            text = f"the correlation between {node.ports[a]} and {node.ports[b]} is known"
            missing[symbol] = Check(text, -1.0, Level.KERNEL)
            value = signals[a].mean * signals[b].mean
        known[a, b] = value
    env: dict[str, Any] = {**fixed_symbols(node), **signal_symbols(node, signals, known), "drawn": float(drawn)}
    if node.component.needs:
        side, unknown = side_symbols(node, with_port_sides(node, signals), fixed_symbols(node))
        for symbol, name in unknown.items():
            missing[symbol] = Check(f"the {name.replace('_', ' ')} is declared or measured", -1.0, Level.KERNEL)
        env |= side
    return env, missing


def doubts(model: EffectModel, missing: Mapping[str, Check]) -> list[Check]:
    """The failed checks for those unknowns that a formula really uses."""
    return [check for symbol, check in missing.items() if symbol in model.formula.uses]


def spread(value: Any, shape: tuple[int, ...]) -> Field:
    """A value of a formula as a field of this shape."""
    return value if np.shape(value) == shape else np.broadcast_to(value, shape)


def field_shape(node: Node, signals: Sequence[Signal]) -> tuple[int, ...]:
    """Shape of the output fields: `(E, *positions)`."""
    examples = max((signal.mean.shape[0] for signal in signals), default=1)
    return (examples, *node.shape.positions)


def _not_modelled(node: Node, signals: Sequence[Signal]) -> tuple[Signal, list[Effect]]:
    """Nothing is claimed: the signal goes on as NaN, and only a measurement can fill it in."""
    blank = np.full(field_shape(node, signals), np.nan)
    effects = [
        Effect(node.path, quantity, "forward", None, None, 0.0, (), "not-modelled")
        for quantity in ("mean", "second_moment")
    ]
    return Signal(blank, blank), effects
