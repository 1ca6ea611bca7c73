"""A validated spec becomes a network: expanded, wired, with shapes."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import NamedTuple

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import FORK, Component
from lensnet.catalog.neighbours import components_of_file
from lensnet.language.document import Document
from lensnet.language.document import Path as DataPath
from lensnet.language.loading import NetworkReading, read_network_spec
from lensnet.language.network_spec import NetworkSpec
from lensnet.language.source import Problem, Source, SpecError, did_you_mean
from lensnet.network.expand import Expander
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import INPUT, Gate, InputSource, Network, Node
from lensnet.network.input import InputError, input_source
from lensnet.network.objective import objective_source
from lensnet.network.placed import Placed, Unread
from lensnet.network.refused import Refused
from lensnet.network.resolve import Resolver
from lensnet.network.shape import Shape
from lensnet.network.wiring import Wired, wire


class LoadedNetwork(NamedTuple):
    """A network, and the components beside those of the catalogue that it was made with."""

    network: Network
    components: dict[str, Component]


def load_network(path_or_source: str | Path | Source, overrides: Iterable[str] = ()) -> LoadedNetwork:
    """The network of a file, with `path=value` overrides applied.

    Raises SpecError with every problem of the file: of each part, and, where that part can be read without those that
    are at fault, of its names, parameters, wiring and shapes.
    """
    reading = read_network_spec(path_or_source, list(overrides), catalog().objectives())
    if reading.spec is None or ("body",) in reading.wrong:
        raise SpecError(reading.problems)
    own = components_of_file(reading.spec, reading.document)
    refused = own.refused | _refused(reading, "define") | _refused(reading, "blocks")
    told = [*reading.problems, *own.problems]
    return LoadedNetwork(
        _Builder(reading.spec, reading.document, own.found, told, reading.wrong, refused).network(), own.found
    )


def build_network(spec: NetworkSpec, document: Document, extra: Mapping[str, Component] | None = None) -> Network:
    """The network of a sound spec; `extra`: components beside those of the catalogue. Raises SpecError."""
    return _Builder(spec, document, extra or {}).network()


def _refused(reading: NetworkReading, section: str) -> set[str]:
    """Names in a section (`define`, `blocks`) that are at fault; an item of a block stands for itself, in the block."""
    given = reading.document.data.get(section)
    inner = {path for path in reading.wrong if section == "blocks" and path[2:3] == ("body",)}
    wrong = {path[:2] for path in reading.wrong if path[:1] == (section,) and path not in inner}
    names = [name for name in given if isinstance(name, str)] if isinstance(given, dict) else []
    return {name for name in names if (section, name) in wrong or (section,) in wrong}


class _Builder:
    """One pass over a spec that goes on past what is wrong.

    told: problems known before; at their places nothing more is said. wrong, refused: as for Expander.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        document: Document,
        extra: Mapping[str, Component],
        told: Iterable[Problem] = (),
        wrong: Iterable[DataPath] = (),
        refused: Iterable[str] = (),
    ) -> None:
        self.spec, self.document = spec, document
        self.components: Mapping[str, Component] = ChainMap(dict(extra), catalog())  # type: ignore[arg-type]
        self.told = list(told)
        self.wrong, self.refused = list(wrong), refused
        self.found: dict[str, Problem] = {}

    def network(self) -> Network:
        expansion = Expander(self.spec, self.document, self.components, self.wrong, self.refused).run()
        self.add(expansion.problems)
        if not expansion.complete:
            raise SpecError([*self.told, *self.found.values()])  # what is left of it tells nothing
        wired, problems = wire(expansion, self.document)
        self.add(problems)
        source = self.input()
        nodes = self.nodes(wired, source)
        self.sharing(nodes, wired)
        unread = [placed.path for placed in expansion.placed if isinstance(placed, Unread)]
        gates = self.gates(wired, unread)
        places = {(problem.line, problem.column) for problem in self.told}
        new = [problem for problem in self.found.values() if (problem.line, problem.column) not in places]
        if self.told or new or source is None:
            raise SpecError([*self.told, *new])
        return Network(self.spec.network, self.spec.about, source, tuple(nodes), gates)

    def add(self, problems: Iterable[Problem]) -> None:
        """A repeated body repeats its mistakes, with other numbers in them: each is kept once for its place."""
        for problem in problems:
            told = re.sub(r"[0-9.]+", "", problem.message.split(" (at ")[0])
            self.found.setdefault(f"{problem.line}:{problem.column}:{told}", problem)

    def input(self) -> InputSource | None:
        if any(path[:1] == ("input",) for path in self.wrong):
            return None
        folder = Path(self.document.source.name).resolve().parent
        options = self.spec.input.options()
        kind = self.components.get(str(options["source"]))
        try:
            if kind is not None and kind.spec.objective is not None:
                given = {name: value for name, value in options.items() if name != "source"}
                return objective_source(kind, given, self.spec.constants, self.document)
            return input_source(options, folder)
        except Refused as refused:
            self.add(refused.problems)
        except InputError as error:
            self.add([self.document.problem(("input",), error.message, error.help, key=True)])
        return None

    def nodes(self, wired: list[Wired], source: InputSource | None) -> list[Node]:
        """Every component whose inputs have shapes; of the others, what is wrong with them whatever the shapes."""
        resolver = Resolver(self.document, 1)
        shapes: dict[str, Shape] = {}
        if source is not None:
            resolver = Resolver(self.document, source.batch, source.objective, source.labelled)
            shapes[INPUT] = source.shape
        nodes: list[Node] = []
        for one in wired:
            given = tuple(shapes[producer] for producer in one.inputs if producer in shapes)
            reached = len(given) == len(one.inputs)
            if one.placed is None and reached:
                node = _fork(one, given[0], self.components[FORK], resolver.examples)
            elif isinstance(one.placed, Placed) and reached:
                try:
                    node = resolver.node(one.path, one.placed, one.inputs, given)
                    node = replace(node, shares=one.shares) if one.shares else node
                except Refused as refused:
                    self.add(refused.problems)
                    continue
            else:
                if isinstance(one.placed, Placed):
                    self.add(resolver.check(one.placed, one.inputs))
                continue
            shapes[one.path] = node.shape
            nodes.append(node)
        return nodes

    def sharing(self, nodes: list[Node], wired: list[Wired]) -> None:
        """Weights can be used again where they are drawn from the same law for the same component."""
        by_path = {node.path: node for node in nodes}
        for one in wired:
            if one.shares is None or one.path not in by_path or one.shares not in by_path or one.placed is None:
                continue
            mine, lent = by_path[one.path], by_path[one.shares]
            same = mine.kind == lent.kind and mine.weights == lent.weights and mine.weights
            if lent.shares or not (same or _tied(mine, lent)):
                message = f"'{one.path}' cannot use the weights of '{one.shares}'"
                help = (
                    "both must be the same component with the same sizes and initialisation, and the other have its own"
                )
                if mine.component.spec.ties:
                    help = (
                        f"it must be a component of the kind {mine.component.spec.ties}, drawn alike, with "
                        f"{mine.shape.channels} rows of length {mine.shapes_in[0].channels}"
                    )
                self.add([self.document.problem((*one.placed.place, "weights_of"), message, help)])

    def gates(self, wired: list[Wired], unread: list[str]) -> tuple[Gate, ...]:
        paths = [one.path for one in wired]
        kinds = {one.path: one.placed.component for one in wired if isinstance(one.placed, Placed)}
        for index, gate in enumerate(self.spec.expect):
            if gate.at in kinds and gate.quantity not in (known := kinds[gate.at].quantities):
                message, help = f"no quantity is called '{gate.quantity}'", did_you_mean(gate.quantity, known)
                self.add([self.document.problem(("expect", index, "quantity"), message, help)])
            if gate.at not in paths and not any(f"{gate.at}.".startswith(f"{path}.") for path in unread):
                message, help = f"no component is called '{gate.at}'", did_you_mean(gate.at, paths)
                self.add([self.document.problem(("expect", index, "at"), message, help)])
        return tuple(Gate(gate.at, gate.quantity, gate.direction, gate.low, gate.high) for gate in self.spec.expect)


def _tied(mine: Node, lent: Node) -> bool:
    """Whether the matrix of one component is the table of another: the same numbers in the same places."""
    if mine.component.spec.ties != lent.kind:
        return False
    (matrix,), (table,) = mine.weights.values(), lent.weights.values()
    rows = int(str(lent.parameters["vocabulary"]))
    alike = matrix.distribution == table.distribution and isclose(matrix.variance, table.variance, rel_tol=1e-6)
    return alike and (rows, lent.shape.channels) == (mine.shape.channels, mine.shapes_in[0].channels)


def _fork(one: Wired, shape: Shape, component: Component, examples: int) -> Node:
    return Node(
        one.path, component, {}, one.inputs, tuple(component.ports_in), (shape,), shape, Pointwise(), examples=examples
    )
