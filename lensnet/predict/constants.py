"""Numbers and fields that formulas know from the place of a component in the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lensnet.network.geometry import Flatten, Pointwise, Window
from lensnet.network.graph import Node
from lensnet.network.windows import logit_bias, logit_sink
from lensnet.predict.codes import code_moments
from lensnet.predict.operators import Field, field_operators


def constants_for(node: Node) -> Mapping[str, Field | float]:
    """Symbols that only the place in the network knows.

    Fields `(1, *positions_out)`: `window_count`, taps inside the input; `window_divisor`, what an average over the
    window divides by. Numbers: `window_taps`; `window_largest`, most taps inside the input that a window has;
    `window_overlap`, most windows that share one input. For a component that adds a position code (parameter
    `encoding`), `code_mean` and `code_second_moment` of that code, fields `(1, *positions)`.
    """
    operators = field_operators(node)
    out: dict[str, Field | float] = {"window_taps": operators.window_taps}
    if isinstance(node.geometry, Pointwise | Flatten):
        out |= {"window_count": 1.0, "window_divisor": 1.0, "window_largest": 1.0, "window_overlap": 1.0}
    else:
        count = operators.counting().window_count
        whole = isinstance(node.geometry, Window) and node.geometry.mode != "ignore"
        out["window_count"] = count
        out["window_divisor"] = np.full_like(count, operators.window_taps) if whole else count
        out["window_largest"] = float(count.max())
        out["window_overlap"] = float(operators.counting().scatter(np.ones((1, *operators.positions_out))).max())
    if {"window", "bias_std"} <= set(node.parameters):
        out["logit_bias"], out["logit_sink"] = (made(node, most_heads=8) for made in (logit_bias, logit_sink))
    if "encoding" in node.parameters:
        out["code_mean"], out["code_second_moment"] = _code(node)
    return out


def _code(node: Node) -> tuple[Field, Field]:
    shape = node.shapes_in[0]
    if node.parameters["encoding"] == "learned":
        law = node.weights["weight"]
        ones = np.ones((1, *shape.positions))
        return law.bias_mean * ones, (law.variance + law.bias_mean**2 + law.bias_std**2) * ones
    options = {name: float(node.parameters[name]) for name in ("base", "amplitude") if name in node.parameters}
    mean, second = code_moments(shape.position_count, shape.channels, **options)
    return mean.reshape(1, *shape.positions), second.reshape(1, *shape.positions)
