"""Modules whose class a component names (`matches:` in its file): the whole subtree becomes that one component."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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
from lensnet.importers.rules.initial import initial
from lensnet.language.formula import FormulaError, evaluate_number
from lensnet.language.source import did_you_mean

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


@cache
def registered() -> dict[str, list[tuple[str, Component]]]:
    """Class name -> (package, component) of every component of the catalogue that names module classes."""
    return _by_class(catalog().values())


def _by_class(components: Iterable[Component]) -> dict[str, list[tuple[str, Component]]]:
    out: dict[str, list[tuple[str, Component]]] = {}
    for component in components:
        for place in component.spec.matches.module:
            package, _, kind = place.rpartition(".")
            out.setdefault(kind, []).append((package, component))
    return out


def component_of(kind: str, own: Iterable[Component] = ()) -> Component | None:
    """The component that names a class, given its full name: the class's own name exactly, its package or one above.
    `own`: components that are asked before those of the catalogue."""
    place, _, name = kind.rpartition(".")
    for package, component in (*_by_class(own).get(name, ()), *registered().get(name, ())):
        if place == package or place.startswith(f"{package}."):
            return component
    return None


def _unused(mapper: Mapper, found: Collection[str]) -> Iterator[str]:
    """Of components that were given for this model: those whose classes it does not have, with a guess."""
    kinds = {f"{type(one).__module__}.{type(one).__qualname__}" for one in mapper.captured.modules.values()}
    for name, component in mapper.components.items():
        classes = component.spec.matches.module
        if not classes:
            yield f"component {name} names no module: give it `matches: {{module: package.Class}}`"
        elif name not in found and not any(component_of(kind, [component]) is component for kind in kinds):
            names = {kind.rpartition(".")[2]: kind for kind in kinds}
            near = did_you_mean(classes[0].rpartition(".")[2], names)
            told = next(
                (f"; did you mean {kind}?" for short, kind in names.items() if near and f"'{short}'" in near), ""
            )
            yield f"component {name}: the model has no module {classes[0]}{told}"


def module_clusters(graph: Graph, mapper: Mapper) -> Iterator[Cluster]:
    """Every call of a registered module, outermost first."""
    groups: dict[tuple[str, str], tuple[Component, set[Node]]] = {}
    for node in graph.nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        for key, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
            whole = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            component = component_of(whole, mapper.components.values())
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
        elif signals:
            mapper.notes.append(
                f"{path} is read operation by operation: {component.name} has {len(component.ports_in)} inputs and one "
                f"output, the module {len(sources)} and {len(outside)}"
            )
    mapper.notes += _unused(mapper, {component.name for component, _ in groups.values()})


@rule("cluster module")
def registered_module(mapper: Mapper, node: Node) -> Value:
    info = mapper.clusters[node].info
    component, sources = info["component"], info["sources"]
    module = mapper.captured.modules.get(info["path"])
    if module is None:
        raise Unmapped(f"no module is at {info['path']}")
    beams = [mapper.beam(source) for source in sources]
    parameters = _parameters(mapper, component, module, info["path"])
    for slot, attribute in component.spec.matches.weights.items():
        parameters |= _weights(mapper, info["path"], slot, attribute)
    made = _like(beams[0], node)
    taps = list(zip(sources, beams, strict=True))
    if component.name in mapper.components:
        mapper.define[component.name] = {
            key: value for key, value in component.document.data.items() if key != "component"
        }
    inside = [one for one in mapper.graph.nodes if one in mapper.clusters[node].members]
    owns = [source for one in inside for source in one.all_input_nodes if mapper.owner(source) is not None]
    return mapper.add(node, component.name, parameters, taps, made, name=info["path"], owns=list(dict.fromkeys(owns)))


def _parameters(mapper: Mapper, component: Component, module: nn.Module, path: str) -> dict[str, Any]:
    """From the numbers that the module has, its tensors among them: what is the same everywhere, else its rms."""
    numbers: dict[str, Any] = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        law = mapper.laws.get(f"{path}.{name}" if path else name)
        if law is not None and law.kind != "unknown":
            numbers[name] = law.mean if law.kind == "constant" else law.second_moment**0.5
    out: dict[str, Any] = {}
    for name, text in component.spec.matches.parameters.items():
        try:
            value = evaluate_number(text, numbers)
        except FormulaError as error:
            help = did_you_mean(text, numbers) or f"it has {', '.join(sorted(numbers)[:8]) or 'no numbers'}"
            told = f"{error.message} among the numbers of {type(module).__name__}; {help}"
            raise Unmapped(f"{component.name}: `{name}: {text}`: {told}") from None
        whole = component.parameters[name].type == "integer"
        out[name] = int(value) if whole else float(value)
    return out


def _weights(mapper: Mapper, path: str, slot: str, attribute: str) -> dict[str, Any]:
    name = f"{path}.{attribute}" if path else attribute
    law = mapper.laws.get(name)
    if law is None:
        near = did_you_mean(attribute, [one.removeprefix(f"{path}.") for one in mapper.laws if one.startswith(path)])
        raise Unmapped(f"`weights: {slot}`: the module has no parameter {attribute}{f'; {near}' if near else ''}")
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
