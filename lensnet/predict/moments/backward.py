"""One component backward at the level of moments: the gradient's second moment at its ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Signal
from lensnet.network.graph import Node
from lensnet.predict.environment import formula_operators
from lensnet.predict.moments.checks import average_checks, evaluate_checks, gaussian_check, status_of
from lensnet.predict.moments.forward import CrossFields, doubts, formula_environment, spread
from lensnet.predict.moments.pointwise import mean_square_slope
from lensnet.predict.moments.selection import SELECTION_ERROR
from lensnet.predict.prediction import Check, Effect


def backward(
    node: Node,
    signals: Sequence[Signal],
    gradient: Field,
    crosses: CrossFields | None = None,
    gradient_crosses: Mapping[tuple[int, int], Field | None] | None = None,
    drawn: bool = True,
    selected: Field | None = None,
) -> dict[str, Effect]:
    """Second moment of dL/dx at every port of `node`, given that at its output.

    For a fork, `gradient` stacks the gradients of its uses on a leading axis and `gradient_crosses` holds their cross
    moments. `selected`: E[g**2 f'**2]/E[g**2] of a pointwise component whose gradient a max pool selected (see
    `lensnet.predict.moments.selection`); without it gradient and slope are independent. Fields `(E, *positions)`.
    """
    if node.component.is_fork:
        return {node.ports[0]: _fork(node, gradient, gradient_crosses or {})}
    if node.component.function is not None:
        field, error = mean_square_slope(node, signals[0]) if selected is None else (selected, SELECTION_ERROR)
        here = [gaussian_check(node, signals[0]), *average_checks(node, "squared slope", field, error)]
        return {node.ports[0]: _effect(node, node.ports[0], gradient * field, error, here)}
    if not any(node.component.backward_effect(Level.MOMENTS, port) for port in node.ports):
        return {
            port: Effect(node.path, "second_moment", "backward", port, None, 0.0, (), "not-modelled")
            for port, shape in zip(node.ports, node.shapes_in, strict=True)
            if shape.kind != "ids"
        }
    env, missing = formula_environment(node, signals, crosses, drawn)
    operators = formula_operators(node, signals)
    env["p"] = gradient
    checks = evaluate_checks(node.component.assumptions, env, operators)
    out = {}
    for index, port in enumerate(node.ports):
        model = node.component.backward_effect(Level.MOMENTS, port)
        if node.shapes_in[index].kind == "ids":
            continue
        if model is None:
            out[port] = Effect(node.path, "second_moment", "backward", port, None, 0.0, (), "not-modelled")
            continue
        local = env | _port_symbols(node, signals, index) if node.component.variadic else env
        examples = np.broadcast_shapes(gradient.shape[:1], signals[index].mean.shape[:1])
        size = (*examples, *node.shapes_in[index].positions)
        field = spread(model.evaluate(local, operators), size)
        own = evaluate_checks(model.assumptions, local, operators)
        out[port] = _effect(node, port, field, model.error(env, operators), [*doubts(model, missing), *own, *checks])
    return out


def _port_symbols(node: Node, signals: Sequence[Signal], index: int) -> dict[str, Field | float]:
    """For a variadic port, the backward formula is read at one port at a time."""
    signal = signals[index]
    return {
        "m_here": signal.mean,
        "q_here": signal.second_moment,
        "v_here": signal.variance,
        "channels_here": float(node.shapes_in[index].channels),
    }


def _fork(node: Node, gradient: Field, crosses: Mapping[tuple[int, int], Field | None]) -> Effect:
    """The gradient of what forks is the sum over its uses: sum of second moments plus twice the cross moments."""
    checks = []
    total = gradient.sum(axis=0)
    for cross in crosses.values():
        if cross is None:
            checks.append(Check("the correlation between the gradients of the uses is known", -1.0, Level.KERNEL))
        else:
            total = total + 2 * cross
    return _effect(node, node.ports[0], total, 0.0, checks)


def _effect(node: Node, port: str, field: Field, error: float, checks: Sequence[Check]) -> Effect:
    return Effect(node.path, "second_moment", "backward", port, field, error, tuple(checks), status_of(checks))
