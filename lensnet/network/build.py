"""A validated spec becomes a network: expanded, wired, with shapes."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import FORK, Component
from lensnet.language.document import Document
from lensnet.language.network_spec import NetworkSpec
from lensnet.language.source import Problem, SpecError, did_you_mean
from lensnet.network.expand import Expander, Placed
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import INPUT, Gate, InputSource, Network, Node
from lensnet.network.input import InputError, input_source
from lensnet.network.objective import objective_source
from lensnet.network.refused import Refused
from lensnet.network.resolve import Resolver
from lensnet.network.shape import Shape
from lensnet.network.wiring import Wired, wire


def build_network(spec: NetworkSpec, document: Document, extra: Mapping[str, Component] | None = None) -> Network:
    """The network of a spec.

    `extra`: components beside those of the catalogue (defined in the file, or in files beside it). Raises SpecError
    with every problem that can be told at once: first names and wiring, then parameters and shapes.
    """
    components: Mapping[str, Component] = ChainMap(dict(extra or {}), catalog())  # type: ignore[arg-type]
    expansion = Expander(spec, document, components).run()
    if expansion.problems:
        raise SpecError(expansion.problems)
    wired, problems = wire(expansion, document)
    source, input_problems = _input(spec, document, components)
    problems += input_problems
    if problems or source is None:
        raise SpecError(problems)
    nodes = _nodes(wired, source, document, components)
    network = Network(spec.network, spec.about, source, tuple(nodes), _gates(spec, document, nodes))
    return network


def _input(
    spec: NetworkSpec, document: Document, components: Mapping[str, Component]
) -> tuple[InputSource | None, list[Problem]]:
    folder = Path(document.source.name).resolve().parent
    options = spec.input.options()
    kind = components.get(str(options["source"]))
    if kind is not None and kind.spec.objective is not None:
        given = {name: value for name, value in options.items() if name != "source"}
        try:
            return objective_source(kind, given, spec.constants, document), []
        except Refused as refused:
            return None, refused.problems
    try:
        return input_source(options, folder), []
    except InputError as error:
        message, help = error.args[0], getattr(error, "help", "")
        return None, [document.problem(("input",), message, help, key=True)]


def _nodes(
    wired: list[Wired], source: InputSource, document: Document, components: Mapping[str, Component]
) -> list[Node]:
    resolver = Resolver(document, source.batch, source.objective, source.labelled)
    shapes: dict[str, Shape] = {INPUT: source.shape}
    nodes: list[Node] = []
    problems: dict[str, Problem] = {}
    for one in wired:
        if any(producer not in shapes for producer in one.inputs):
            continue  # stands behind a component with a problem of its own
        given = tuple(shapes[producer] for producer in one.inputs)
        if one.placed is None:
            node = _fork(one, given[0], components[FORK], source.batch)
        else:
            try:
                node = replace(resolver.node(one.path, one.placed, one.inputs, given), shares=one.shares)
            except Refused as refused:
                for problem in refused.problems:
                    problems.setdefault(_once(problem), problem)
                continue
        shapes[one.path] = node.shape
        nodes.append(node)
    problems |= _sharing_problems(nodes, wired, document)
    if problems:
        raise SpecError(problems.values())
    return nodes


def _sharing_problems(nodes: list[Node], wired: list[Wired], document: Document) -> dict[str, Problem]:
    """Weights can be used again where they are drawn from the same law for the same component."""
    by_path, problems = {node.path: node for node in nodes}, {}
    for one in wired:
        if one.shares is None or one.path not in by_path or one.shares not in by_path or one.placed is None:
            continue
        mine, lent = by_path[one.path], by_path[one.shares]
        same = mine.kind == lent.kind and mine.weights == lent.weights and mine.weights and not lent.shares
        if not same:
            message = f"'{one.path}' cannot use the weights of '{one.shares}'"
            help = "both must be the same component with the same sizes and initialisation, and the other have its own"
            problem = document.problem((*one.placed.place, "weights_of"), message, help)
            problems[_once(problem)] = problem
    return problems


def _fork(one: Wired, shape: Shape, component: Component, examples: int) -> Node:
    return Node(
        one.path, component, {}, one.inputs, tuple(component.ports_in), (shape,), shape, Pointwise(), examples=examples
    )


def _once(problem: Problem) -> str:
    """A repeated body repeats its mistakes: one report for each place in the file."""
    return f"{problem.line}:{problem.column}:{problem.message.split(' (at ')[0]}"


def _gates(spec: NetworkSpec, document: Document, nodes: list[Node]) -> tuple[Gate, ...]:
    paths = [node.path for node in nodes]
    problems = []
    for index, gate in enumerate(spec.expect):
        if gate.at not in paths:
            help = did_you_mean(gate.at, paths)
            problems.append(document.problem(("expect", index, "at"), f"no component is called '{gate.at}'", help))
    if problems:
        raise SpecError(problems)
    return tuple(Gate(gate.at, gate.quantity, gate.direction, gate.low, gate.high) for gate in spec.expect)


__all__ = ["Placed", "build_network"]
