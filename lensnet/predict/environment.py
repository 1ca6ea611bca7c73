"""The numbers that a component's formulas see: parameters, shapes, weight laws, the signals at its ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.signal import Signal
from lensnet.network.graph import Node
from lensnet.network.windows import windows_of
from lensnet.predict.constants import constants_for
from lensnet.predict.operators import operators_for

Field = NDArray[np.float64]


def static_symbols(node: Node) -> Mapping[str, float]:
    """Symbols fixed by the spec alone: parameters (by name and symbol), shape counts, weight laws."""
    known = node.known
    if "symbols" not in known:
        known["symbols"] = _static_symbols(node)
    return known["symbols"]


def fixed_symbols(node: Node) -> Mapping[str, Any]:
    """All symbols that do not depend on a signal: the static ones, and those of the place in the network."""
    known = node.known
    if "fixed symbols" not in known:
        known["fixed symbols"] = {**static_symbols(node), **constants_for(node), "examples": float(node.examples)}
    return known["fixed symbols"]


def _static_symbols(node: Node) -> dict[str, float]:
    out: dict[str, float] = {}
    specs = node.component.parameters
    for name, value in node.parameters.items():
        spec = specs[name]
        if spec.type == "choice":
            out |= {f"{name}_{choice}": float(choice == value) for choice in spec.choices}
        elif isinstance(value, bool | int | float):
            out[name] = float(value)
            if spec.symbol:
                out[spec.symbol] = float(value)
    first = node.shapes_in[0]
    out["channels"] = float(first.channels)
    out["channels_total"] = float(sum(shape.channels for shape in node.shapes_in))
    out["channels_last"] = float(node.shapes_in[-1].channels)
    out["channels_out"] = float(node.shape.channels)
    out["positions"] = float(first.position_count)
    out["positions_out"] = float(node.shape.position_count)
    out["windows"] = float(windows_of(node).count) if "window" in node.parameters else 1.0
    out["tied"] = float(node.shares is not None)
    out["ports"] = float(len(node.ports))
    for name, law in node.weights.items():
        suffix = "" if name == "weight" else f"_{name}"
        out[f"fan_in{suffix}"] = float(law.fan_in)
        out[f"fan_out{suffix}"] = float(law.fan_out)
        out[f"w2{suffix}"] = law.variance
        out[f"g{suffix}"] = law.gain
        out[f"b_0{suffix}"] = law.bias_mean
        out[f"sigma_b{suffix}"] = law.bias_std
        out[f"weight_kurtosis{suffix}"] = law.excess_kurtosis
    return out


def signal_symbols(
    node: Node, signals: Sequence[Signal], crosses: Mapping[tuple[int, int], Field] | None = None
) -> dict[str, Any]:
    """Symbols of the ports: `m`, `q`, `v` of a single port; `m_skip`, ..., `k_skip_branch` of several.

    A variadic port stacks its fields on a leading axis, and `k` stacks the pairs (0,1), (0,2), ..., (1,2), ...
    """
    out: dict[str, Any] = {}
    laws = [signal.law for signal in signals]
    out["law_known"] = float(all(law is not None for law in laws))
    out["gaussian"] = float(all(law is not None and not law.chain for law in laws))
    if node.component.variadic:
        out["m"] = _stack([s.mean for s in signals])
        out["q"] = _stack([s.second_moment for s in signals])
        out["v"] = _stack([s.variance for s in signals])
        out["port_channels"] = np.array([float(s.channels) for s in node.shapes_in]).reshape(
            -1, *([1] * signals[0].mean.ndim)
        )
        if crosses:
            out["k"] = _stack([crosses[pair] for pair in sorted(crosses)])
        return out
    first = signals[0]
    out["m"], out["q"], out["v"] = first.mean, first.second_moment, first.variance
    if len(signals) > 1:
        for port, signal in zip(node.ports, signals, strict=True):
            out[f"m_{port}"], out[f"q_{port}"], out[f"v_{port}"] = signal.mean, signal.second_moment, signal.variance
        for (a, b), value in (crosses or {}).items():
            out[f"k_{node.ports[a]}_{node.ports[b]}"] = value
    return out


def side_symbols(node: Node, signal: Signal, static: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Symbols of the side quantities that the component needs; and symbol -> name of those that nobody supplied."""
    out: dict[str, Any] = {}
    missing: dict[str, str] = {}
    active = node.component.active_needs(static)
    for name, need in node.component.needs.items():
        symbol = need.symbol or name
        if name not in active:
            out[symbol] = float(need.otherwise or 0.0)
            continue
        if name in node.given:
            out[symbol] = float(node.given[name])
        elif name in signal.side:
            out[symbol] = _as_field(signal.side[name], node, signal)
        else:
            missing[symbol] = name
            out[symbol] = np.nan if need.otherwise is None else float(need.otherwise)
    return out, missing


def with_port_sides(node: Node, signals: Sequence[Signal]) -> Signal:
    """The signal at the first port, with the side quantities that belong to other ports (a need may name its port)."""
    first = signals[0]
    away = {
        name: signals[node.ports.index(need.port)].side.get(name)
        for name, need in node.component.needs.items()
        if need.port in node.ports[1:]
    }
    return first.with_side({name: value for name, value in away.items() if value is not None}) if away else first


def _as_field(value: Any, node: Node, signal: Signal) -> Any:
    """A number per example `(E,)` broadcasts against fields `(E, *positions)`; other shapes stay as they are.

    Where the signal is one typical example, the quantity is averaged over the measured examples.
    """
    array = np.asarray(value, dtype=float)
    if array.ndim and len(signal.mean) == 1 < len(array):
        array = array.mean(axis=0, keepdims=True)
    return array.reshape(-1, *([1] * len(node.shapes_in[0].positions))) if array.ndim == 1 else array


def _stack(fields: Sequence[Field]) -> Field:
    return np.stack(np.broadcast_arrays(*fields))


def _sum_first(stacked: Field) -> Field:
    return np.sum(stacked, axis=0)


def formula_operators(node: Node, signals: Sequence[Signal]) -> Mapping[str, Any]:
    """Every operator that the formulas of a node may call: its geometry's, and sums over ports and pairs of ports."""
    return {**operators_for(node, signals), "sum_ports": _sum_first, "sum_pairs": _sum_first}


def linear_factor(node: Node, port: str, signals: Sequence[Signal]) -> Field | float:
    """The factor by which a linear component multiplies what comes in at `port`: a number or a field."""
    env: dict[str, Any] = {**fixed_symbols(node)}
    env |= side_symbols(node, with_port_sides(node, signals), env)[0] | signal_symbols(node, signals)
    env["drawn"] = 1.0
    factor: Field | float = node.component.coherence.factor(port, env, formula_operators(node, signals))
    return factor
