"""What a component's geometry does to a field over positions: the position operators that formulas may call.

A field has shape `(E, *positions)`: one number per example and position, already averaged over channels. For every
geometry

    gather(x)        sum over the window of each output position (zero outside, wrapping round, or nothing there)
    scatter(y)       its exact adjoint, back onto the input positions: <gather(x), y> = <x, scatter(y)>
    gather_squares, scatter_squares     the same with every weight of a tap squared, where taps have weights
    window_count     gather(1): how many real taps each output position has
    window_taps      how many taps the window has, real or not
    mean_positions   average over all positions of an example
    mean_batch       average over the examples and positions of the batch
    sum_positions    sum over all positions of an example: one number per example
    everywhere       copies what belongs to an example (or an output without positions) onto all input positions

A convolution with independent zero-mean weights acts on second moments exactly as `channels * w2 * gather`, backward as
`channels_out * w2 * scatter`; so the loss of signal at zero-padded edges, layer after layer, is no formula of its own:
it is the repeated application of the tap-averaging operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import prod

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.signal import Signal
from lensnet.network.geometry import (
    Adaptive,
    Collapse,
    Flatten,
    Patches,
    Pick,
    Pointwise,
    Regrid,
    Resample,
    Stack,
    Strided,
    Unflatten,
    Window,
    WindowTranspose,
)
from lensnet.network.graph import Node
from lensnet.network.resampling import weights
from lensnet.network.windows import windows_of
from lensnet.predict.contraction import contraction_operators
from lensnet.predict.neighbour_response import NeighbourResponse
from lensnet.predict.taps import AxisTaps, BinTaps, StridedTaps, TransposedTaps, WeightedTaps, WindowTaps
from lensnet.predict.window_maximum import WindowMaximum, maximum_gradient, window_maximum

Field = NDArray[np.float64]
Operator = Callable[[Field], Field]


class FieldOperators:
    """The position operators of one component at one place: input positions, output positions, and a geometry."""

    def __init__(self, geometry: object, positions: tuple[int, ...], positions_out: tuple[int, ...]) -> None:
        self.geometry = geometry
        self.positions = positions
        self.positions_out = positions_out
        self._axes = _axis_taps(geometry, positions, positions_out)

    def gather(self, field: Field) -> Field:
        """Sum over the taps of every output position: `(E, *positions)` -> `(E, *positions_out)`."""
        field = self._spread(field, self.positions)
        if isinstance(self.geometry, Collapse | Flatten):
            return field.sum(axis=tuple(range(1, field.ndim)))
        if isinstance(self.geometry, Pick):
            return field[:, self.geometry.place]
        if isinstance(self.geometry, Regrid):
            return field.reshape(len(field), *self.positions_out)
        if isinstance(self.geometry, Stack):
            return field.sum(axis=1 + self.geometry.axis)
        if isinstance(self.geometry, Unflatten):
            return self._spread(field, self.positions_out)
        gathered = reduce(lambda x, at: at[1].gather(x, at[0] + 1), enumerate(self._axes), field)
        return gathered.reshape(len(field), -1) if isinstance(self.geometry, Patches) else gathered

    def scatter(self, field: Field) -> Field:
        """Adjoint of `gather`: `(E, *positions_out)` -> `(E, *positions)`."""
        field = self._spread(field, self.positions_out)
        if isinstance(self.geometry, Collapse | Flatten):
            return self.everywhere(field)
        if isinstance(self.geometry, Pick):
            out = np.zeros((len(field), *self.positions))
            out[:, self.geometry.place] = field
            return out
        if isinstance(self.geometry, Regrid):
            return field.reshape(len(field), *self.positions)
        if isinstance(self.geometry, Stack):
            wide = np.expand_dims(field, 1 + self.geometry.axis)
            return np.broadcast_to(wide, (len(field), *self.positions)).copy()
        if isinstance(self.geometry, Unflatten):
            return field.sum(axis=tuple(range(1, field.ndim)))
        if isinstance(self.geometry, Patches):
            a, b = self.geometry.patch
            field = field.reshape(len(field), self.positions[0] // a, self.positions[1] // b)
        return reduce(lambda y, at: at[1].scatter(y, at[0] + 1), enumerate(self._axes), field)

    def squared(self) -> FieldOperators:
        """The same with every weight of a tap squared."""
        return self._weighing(np.square)

    def counting(self) -> FieldOperators:
        """The same with weight 1 for every tap that has one."""
        return self._weighing(lambda weights: (weights != 0.0).astype(float))

    def _weighing(self, change: Operator) -> FieldOperators:
        if not isinstance(self.geometry, Resample):
            return self
        out = FieldOperators(self.geometry, self.positions, self.positions_out)
        out._axes = [WeightedTaps(change(taps.weights)) for taps in self._axes if isinstance(taps, WeightedTaps)]
        return out

    def mean_positions(self, field: Field) -> Field:
        """Average over positions, of the input or the output; the axes stay (with length 1) unless the component
        removes them."""
        keep = not isinstance(self.geometry, Collapse | Flatten)
        field = np.atleast_1d(np.asarray(field, dtype=float))
        if field.ndim == 1 and self.positions:
            field = field.reshape(-1, *([1] * len(self.positions)))
        return np.asarray(field.mean(axis=tuple(range(1, field.ndim)), keepdims=keep))

    def mean_along(self, field: Field, axis: float) -> Field:
        """Average over one axis of the input positions, or over all for a number below 0, at every position."""
        field, place = self._spread(field, self.positions), round(float(np.max(axis)))
        axes = tuple(range(1, field.ndim)) if place < 0 else (1 + place,)
        return np.broadcast_to(field.mean(axis=axes, keepdims=True), field.shape)

    def mean_batch(self, field: Field) -> Field:
        """Average over examples and positions, all axes kept with length 1."""
        return np.asarray(field, dtype=float).mean(keepdims=True)

    def sum_positions(self, field: Field) -> Field:
        """Sum over the positions of every example: one number per example, (E,)."""
        field = self._spread(field, self.positions)
        return np.asarray(field.sum(axis=tuple(range(1, field.ndim))))

    def everywhere(self, field: Field) -> Field:
        """Copies a number per example onto every input position: the adjoint of a sum over positions."""
        field = np.atleast_1d(np.asarray(field, dtype=float))
        flat = field.reshape(field.shape[:1] + (1,) * len(self.positions))
        return np.broadcast_to(flat, (len(field), *self.positions)).copy()

    @property
    def window_count(self) -> Field:
        """Taps that lie inside the input, `(1, *positions_out)`."""
        return self.gather(np.ones((1, *self.positions)))

    @property
    def window_taps(self) -> float:
        """Taps of a window, inside the input or not; for unequal windows the average."""
        match self.geometry:
            case Window(kernel=kernel) | WindowTranspose(kernel=kernel):
                return float(prod(kernel))
            case Pointwise():
                return 1.0
            case Patches(patch=patch):
                return float(prod(patch))
            case _:
                return float(np.mean(self.window_count))

    def _spread(self, field: Field, positions: tuple[int, ...]) -> Field:
        """A field that is the same at all positions may be given with axes of length 1 (or as one number)."""
        field = np.asarray(field, dtype=float)
        if field.ndim == 0:
            field = field.reshape(1)
        if field.ndim == 1 and positions:
            field = field.reshape(-1, *([1] * len(positions)))
        return np.broadcast_to(field, (len(field), *positions))


def field_operators(node: Node) -> FieldOperators:
    """The operators of a component at its place in a network (merges: of the first port)."""
    return FieldOperators(node.geometry, node.shapes_in[0].positions, node.shape.positions)


def operators_for(node: Node, signals: Sequence[Signal] = ()) -> Mapping[str, Callable[..., Field]]:
    """The functions of fields that the formulas of this node may call, by name.

    `signals`: those at its ports, for the functions that need the law of the signal beside its moments (maximum over a
    window, response to neighbouring channels).
    """
    fixed = _fixed_operators(node)
    if signals and isinstance(node.geometry, Window):
        return {**fixed, **_maximum_operators(node.geometry, field_operators(node), signals[0])}
    if signals and {"size", "alpha", "offset"} <= set(node.parameters):
        return {**fixed, **_response_operators(node, signals[0])}
    return fixed


def _fixed_operators(node: Node) -> Mapping[str, Callable[..., Field]]:
    """Those that depend on no signal."""
    known = node.known
    if "operators" not in known:
        operators = field_operators(node)
        known["operators"] = {
            "gather": operators.gather,
            "scatter": operators.scatter,
            "gather_squares": operators.squared().gather,
            "scatter_squares": operators.squared().scatter,
            "mean_positions": operators.mean_positions,
            "mean_along": operators.mean_along,
            "mean_batch": operators.mean_batch,
            "everywhere": operators.everywhere,
            "sum_positions": operators.sum_positions,
            **(window_operators(node) if "window" in node.parameters else {}),
            **(contraction_operators(node) if "left_over" in node.parameters else {}),
        }
    return known["operators"]


def _maximum_operators(window: Window, operators: FieldOperators, signal: Signal) -> dict[str, Callable[..., Field]]:
    """`window_max_mean(products)`, `window_max_second_moment(products)`, `window_max_backward(products, p)`."""

    def maximum(products: Field | float) -> WindowMaximum:
        return window_maximum(window, operators.positions, signal, products)

    def backward(products: Field | float, gradient: Field) -> Field:
        largest = maximum(products)
        return maximum_gradient(largest.taps, largest.result.wins, np.asarray(gradient, dtype=float))

    return {
        "window_max_mean": lambda products: maximum(products).result.mean,
        "window_max_second_moment": lambda products: maximum(products).result.second_moment,
        "window_max_backward": backward,
    }


def window_operators(node: Node) -> dict[str, Callable[..., Field]]:
    """`in_windows(port, field)`: (E, *positions) -> (E windows, places of one), row by row; `from_windows(port, rows)`:
    its inverse; `window_mean(field)`: what the queries of a window see on average, from a field at the last port."""
    windows = [windows_of(node, port) for port in range(len(node.ports))]

    def split(port: float, field: Field) -> Field:
        at, field = windows[round(float(np.max(port)))], np.asarray(field, dtype=float)
        field = field.reshape(-1, *field.shape[1:] or (1,) * len(at.positions))
        flat = np.broadcast_to(field, (len(field), *at.positions)).reshape(len(field), -1)
        return flat[:, at.order].reshape(-1, at.length)

    def joined(port: float, rows: Field) -> Field:
        at = windows[round(float(np.max(port)))]
        return rows.reshape(-1, at.count * at.length)[:, at.inverse].reshape(-1, *at.positions)

    def average(field: Field) -> Field:
        alike = split(len(windows) - 1, field).mean(axis=1, keepdims=True)
        return joined(0, np.broadcast_to(alike, (len(alike), windows[0].length)))

    return {"in_windows": split, "from_windows": joined, "window_mean": average}


def _response_operators(node: Node, signal: Signal) -> dict[str, Callable[..., Field]]:
    """`response(order, power)` and `response_pair(power)`: see `NeighbourResponse`."""
    size, alpha, offset = (node.parameters[name] for name in ("size", "alpha", "offset"))
    neighbours = NeighbourResponse(signal, node.shapes_in[0].channels, int(size), float(alpha), float(offset))
    return {
        "response": lambda order, power: neighbours.moment(float(order), float(power)),
        "response_pair": lambda power: neighbours.pair(float(power)),
    }


def _axis_taps(geometry: object, positions: tuple[int, ...], positions_out: tuple[int, ...]) -> list[AxisTaps]:
    match geometry:
        case Window(kernel, stride, padding, dilation, mode):
            sizes = zip(positions, positions_out, kernel, stride, padding, dilation, strict=True)
            return [WindowTaps(n, o, k, s, p, d, mode) for n, o, k, s, p, d in sizes]
        case WindowTranspose(kernel, stride, padding, dilation, _):
            sizes = zip(positions_out, positions, kernel, stride, padding, dilation, strict=True)
            return [TransposedTaps(WindowTaps(n, o, k, s, p, d)) for n, o, k, s, p, d in sizes]
        case Strided():
            return [StridedTaps(size, tuple(geometry.places(axis, size))) for axis, size in enumerate(positions)]
        case Resample(filter=filter, corners=corners):
            sizes = zip(positions, positions_out, strict=True)
            return [WeightedTaps(weights(filter, n, o, corners)) for n, o in sizes]
        case Adaptive():
            return [BinTaps(n, o) for n, o in zip(positions, positions_out, strict=True)]
        case Patches(patch):
            return [WindowTaps(n, n // a, a, a, 0, 1) for n, a in zip(positions, patch, strict=True)]
        case _:
            return []
