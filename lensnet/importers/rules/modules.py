"""Modules whose class a component names (`matches:` in its file): the whole subtree becomes that one component."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.fx import Graph, Node

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.layout import CHANNELS
from lensnet.importers.patterns import Cluster
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.weights import initial
from lensnet.language.formula import FormulaError, evaluate_number

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@cache
def registered() -> dict[str, list[tuple[str, Component]]]:
    """Class name -> (package, component) of every component that names module classes."""
    out: dict[str, list[tuple[str, Component]]] = {}
    for name in catalog():
        component = catalog()[name]
        for place in component.spec.matches.module:
            package, _, kind = place.rpartition(".")
            out.setdefault(kind, []).append((package, component))
    return out


def component_of(kind: str) -> Component | None:
    """The component that names a class, given its full name: the class's own name exactly, its package or one above."""
    place, _, name = kind.rpartition(".")
    for package, component in registered().get(name, ()):
        if place == package or place.startswith(f"{package}."):
            return component
    return None


def module_clusters(graph: Graph, mapper: Mapper) -> Iterator[Cluster]:
    """Every call of a registered module, outermost first."""
    groups: dict[tuple[str, str], tuple[Component, set[Node]]] = {}
    for node in graph.nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        for key, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
            component = component_of(kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}")
            if component is not None:
                call = str(key).partition("@")[2]
                groups.setdefault((str(path).partition("@")[0], call), (component, set()))[1].add(node)
                break
    for (path, _), (component, members) in groups.items():
        signals = {node for node in members if mapper.is_signal(node)}
        outside = [node for node in signals if any(user not in members for user in node.users)]
        sources = list(
            dict.fromkeys(
                one
                for node in graph.nodes
                if node in members
                for one in node.all_input_nodes
                if one not in members and mapper.is_signal(one)
            )
        )
        if len(outside) == 1 and len(sources) == len(component.ports_in) and not component.variadic:
            info = {"component": component, "path": path, "sources": sources}
            yield Cluster("cluster module", outside[0], signals, sources[0], info)


@rule("cluster module")
def registered_module(mapper: Mapper, node: Node) -> Value:
    info = mapper.clusters[node].info
    component, sources = info["component"], info["sources"]
    module = mapper.captured.modules.get(info["path"])
    if module is None:
        raise Unmapped(f"no module is at {info['path']}")
    beams = [mapper.beam(source) for source in sources]
    parameters = _parameters(component, module)
    for slot, attribute in component.spec.matches.weights.items():
        parameters |= _weights(mapper, info["path"], slot, attribute)
    made = _like(beams[0], node)
    taps = list(zip(sources, beams, strict=True))
    return mapper.add(node, component.name, parameters, taps, made, name=info["path"])


def _parameters(component: Component, module: nn.Module) -> dict[str, Any]:
    numbers = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    out: dict[str, Any] = {}
    for name, text in component.spec.matches.parameters.items():
        try:
            value = evaluate_number(text, numbers)
        except FormulaError as error:
            raise Unmapped(f"{component.name}: `{text}` of {type(module).__name__}: {error.message}") from None
        whole = component.parameters[name].type == "integer"
        out[name] = int(value) if whole else float(value)
    return out


def _weights(mapper: Mapper, path: str, slot: str, attribute: str) -> dict[str, Any]:
    name = f"{path}.{attribute}" if path else attribute
    law = mapper.laws.get(name)
    if law is None:
        raise Unmapped(f"the module has no parameter {attribute}")
    bias = mapper.laws.get(name.replace("weight", "bias")) if name.endswith("weight") else None
    shape = mapper.captured.parameters[name].shape
    fan_in = 1
    for size in shape[1:]:
        fan_in *= int(size)
    return initial(law, bias, fan_in, "" if slot == "weight" else f"{slot}_")


def _like(beam: Beam, node: Node) -> Beam:
    """The output laid out as the first input, with other channels where its last axis says so."""
    sizes = sizes_of(node)
    if sizes == beam.layout.sizes:
        return beam
    if sizes[:-1] == beam.layout.sizes[:-1] and beam.layout.roles(-1) <= {CHANNELS}:
        return Beam("", beam.layout.with_axis(-1, CHANNELS, sizes[-1]), beam.positions, sizes[-1])
    raise Unmapped("a module that changes the shape of its input")
