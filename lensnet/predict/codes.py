"""Positions written into channels, by waves or by turns: averages over channels, exactly (none over positions)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lensnet.network.graph import Node

Field = NDArray[np.float64]


def sinusoidal_code(length: int, channels: int, base: float = 10000.0) -> Field:
    """The code of Vaswani et al. 2017, `(length, channels)`: sin on even channels, cos on odd ones.

    Channel 2i and 2i+1 turn with frequency `base**(-2i/channels)`; an odd number of channels ends with a sine.
    """
    position = np.arange(length)[:, None]
    angle = position * base ** (-np.arange(0, channels, 2) / channels)
    code = np.zeros((length, channels))
    code[:, 0::2] = np.sin(angle)
    code[:, 1::2] = np.cos(angle[:, : channels // 2])
    return code


def code_moments(length: int, channels: int, base: float = 10000.0, amplitude: float = 1.0) -> tuple[Field, Field]:
    """Mean and second moment over channels, each `(1, length)`; the latter is amplitude**2/2 for even channels."""
    code = amplitude * sinusoidal_code(length, channels, base)
    return code.mean(axis=1)[None], (code**2).mean(axis=1)[None]


def turn_cosines(length: int, width: int, base: float = 10000.0) -> Field:
    """How alike two rotary positions turn: the cosine of the difference of their angles, averaged over the pairs of
    channels, `(length, length)`. A head of `width` channels turns its pair i by position * base**(-2i/width).
    """
    place = np.arange(length)
    apart = np.cos(place[:, None] * base ** (-np.arange(0, width, 2) / width)).mean(axis=1)
    return apart[np.abs(place[:, None] - place[None, :])]


def code_table(node: Node) -> NDArray[np.float64]:
    """Products of the positional codes of two positions, averaged over channels, `(places, places)`."""
    places = node.shape.position_count
    if node.parameters["encoding"] == "learned":
        law = node.weights["weight"]
        return law.bias_mean**2 + (law.variance + law.bias_std**2) * np.eye(places)
    options = {name: float(node.parameters[name]) for name in ("base",) if name in node.parameters}
    code = sinusoidal_code(places, node.shapes_in[0].channels, **options)
    return np.asarray(float(node.parameters.get("amplitude", 1.0)) ** 2 * code @ code.T / code.shape[1])
