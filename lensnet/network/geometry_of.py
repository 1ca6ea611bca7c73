"""The geometry of a component: how its positions map, from what its file says and the parameters that it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensnet.catalog.component import Component
from lensnet.language.component_spec import PairParameter
from lensnet.network.geometry import (
    Adaptive,
    Collapse,
    Flatten,
    Geometry,
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


def make_geometry(component: Component, parameters: Mapping[str, Any]) -> Geometry:
    """The geometry of a component from its resolved parameters."""
    kind = component.spec.geometry
    if kind == "window":
        rank = _axes(component, "kernel")
        kernel = _per_axis(parameters["kernel"], rank)
        return Window(
            kernel,
            _per_axis(parameters.get("stride", 1), rank),
            _per_axis(parameters.get("padding", 0), rank),
            _per_axis(parameters.get("dilation", 1), rank),
            parameters.get("padding_mode", "zero"),
            bool(parameters.get("ceil", False)),
        )
    if kind == "window_transpose":
        rank = _axes(component, "kernel")
        return WindowTranspose(
            _per_axis(parameters["kernel"], rank),
            _per_axis(parameters.get("stride", 1), rank),
            _per_axis(parameters.get("padding", 0), rank),
            _per_axis(parameters.get("dilation", 1), rank),
            _per_axis(parameters.get("output_padding", 0), rank),
        )
    if kind == "adaptive":
        return Adaptive(_per_axis(parameters["output"], 2))
    if kind == "patches":
        patch = _per_axis(parameters["patch"], 2)
        return Patches((patch[0], patch[1]))
    if kind == "collapse":
        return Collapse()
    if kind == "strided":
        return _strided(component, parameters)
    if kind == "pick":
        return Pick(int(parameters["index"]))
    if kind == "resample":
        return Resample(_sizes(parameters), parameters["filter"], bool(parameters["corners"]))
    if kind == "stack":
        return Stack(("rows", "columns", "slices").index(parameters["along"]), int(parameters["places"]))
    if kind == "unflatten":
        return Unflatten(_sizes(parameters))
    if kind == "regrid":
        return Regrid(_sizes(parameters) if "rows" in parameters else ())
    return Flatten() if kind == "flatten" else Pointwise()


def _sizes(parameters: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(size for name in ("rows", "columns", "slices") if (size := int(parameters[name])))


def _strided(component: Component, parameters: Mapping[str, Any]) -> Strided:
    rank = _axes(component, "size")
    start, step, size = (_per_axis(parameters[name], rank) for name in ("start", "step", "size"))
    return Strided(start, step, size, parameters.get("edge", "dark"))


def _axes(component: Component, name: str) -> int:
    """How many position axes a parameter speaks of."""
    spec = component.parameters.get(name)
    return spec.axes if isinstance(spec, PairParameter) else 1


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (int(value),) * rank
