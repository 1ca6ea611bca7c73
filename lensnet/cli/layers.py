"""The layer table of a network: what stands where, before anything is predicted or measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from lensnet.network.graph import INPUT, Network, Node
from lensnet.report.grid import Column, Grid
from lensnet.report.words import said


def layers(network: Network, width: int) -> Group:
    """One line per component, in the order of the signal, at most `width` wide."""
    grid = Grid([
        Column("component", gives=True),
        Column("kind"),
        Column("parameters", gives=True, sentence=True, style="dim"),
        Column("shape", right=True),
        Column("weights", right=True),
    ])  # fmt: skip
    options = network.input.options
    source = ", ".join(f"{name}={_value(value)}" for name, value in options.items() if _told(name, value))
    grid.add(INPUT, network.input.source, said(source), str(network.input.shape), "")
    last, total = INPUT, 0
    for node in network:
        count = weight_count(node)
        total += count
        origin = "" if node.inputs == (last,) else f"from {', '.join(node.inputs)}; "
        grid.add(node.path, node.kind, said(origin + _parameters(node)), str(node.shape), f"{count:,}" if count else "")
        last = node.path
    batch = f", batch {network.input.batch}" if network.input.batch else ""
    head = Text(said(network.name), style="bold")
    about = Text(said(network.about), style="italic dim")
    foot = Text(f"{len(network)} components, {total:,} random weights{batch}", style="bold")
    return Group(head, about, Text(""), *grid.lines(width, gap=2), Text(""), foot)


def weight_count(node: Node) -> int:
    """Random numbers that a weight draw fills: weights and biases, in the shapes that the torch layers have."""
    total = 0
    for name, law in node.weights.items():
        rows = node.shape.channels if "window_taps" in node.component.weights[name].fan_in else law.fan_out
        copies = _copies(node, name)
        total += law.fan_in * rows * copies
        if law.has_bias and node.component.weights[name].bias:
            total += rows * copies
    return total


def _copies(node: Node, weight: str) -> int:
    """Tensors of that name side by side: a table has a row per token or position, experts a matrix each."""
    given = node.parameters
    if node.kind == "embedding":
        return int(given["vocabulary"])
    if node.kind == "positional_encoding":
        return node.shape.position_count if given.get("encoding") == "learned" else 0
    if node.kind == "mixture_of_experts" and weight != "router":
        return int(given["experts"])
    return 1


def _parameters(node: Node) -> str:
    told = [f"{name}={_value(value)}" for name, value in _changed(node).items()]
    for name, law in node.weights.items():
        told.append(f"{'gain' if name == 'weight' else f'{name}_gain'}={law.gain:.3g}")
    return ", ".join(told)


def _changed(node: Node) -> Mapping[str, Any]:
    """What was given; parameters at their default are left out."""
    out = {}
    for name, value in node.parameters.items():
        spec = node.component.parameters.get(name)
        default = getattr(spec, "default", None)
        if default is not None and _value(default) in (_value(value), _value(value).split("x")[0]):
            continue
        out[name] = value
    return out


def _told(name: str, value: Any) -> bool:
    return name not in ("source", "batch") and value not in (None, (), [], False)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "x".join(map(_value, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
