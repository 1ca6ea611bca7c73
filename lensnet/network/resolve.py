"""One placed component with the shapes that reach it: parameters become numbers, weights get their laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from lensnet.language.document import Document
from lensnet.language.formula import FormulaError, UnknownValue, evaluate_number
from lensnet.language.source import Problem, did_you_mean
from lensnet.language.symbols import SHAPE_SYMBOLS, constant_symbols
from lensnet.network.geometry import Flatten, Geometry, GeometryError, Patches, Unflatten, Window, WindowTranspose
from lensnet.network.geometry_of import make_geometry
from lensnet.network.graph import Node
from lensnet.network.initialisation import InitialisationError, weight_law
from lensnet.network.objective import Objective, missing_names, unknown_for
from lensnet.network.parameters import ParameterReader, numeric_symbols
from lensnet.network.placed import Number, Placed, Scope
from lensnet.network.refused import Refused
from lensnet.network.shape import Shape
from lensnet.network.weights import WeightLaw
from lensnet.network.wiring import FORK_SUFFIX

_LAYOUTS = {0: "vectors", 1: "tokens (one position axis)", 2: "images (two position axes)", 3: "three position axes"}
_EMBEDDINGS = ("embedding",)  # implementations that take token ids
_LAMP = "source"  # looks at nothing that goes in


class Resolver:
    """Turns placed components into nodes, given the shapes at their ports."""

    def __init__(
        self, document: Document, examples: int, objective: Objective | None = None, labelled: bool = True
    ) -> None:
        self.document = document
        self.examples = examples
        self.objective = objective
        self.reader = ParameterReader(document, labelled)
        self._alike: dict[Any, tuple[Placed, Node]] = {}

    def node(self, path: str, placed: Placed, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> Node:
        """Raises Refused with every problem of this component."""
        alike = (*_identity(placed), shapes)
        if alike in self._alike:
            return replace(self._alike[alike][1], path=path, inputs=inputs)
        try:
            node = self._node(path, placed, inputs, shapes)
        except Refused as refused:
            raise Refused([*refused.problems, *self.check(placed, inputs)]) from None
        self._alike[alike] = placed, node
        return node

    def check(self, placed: Placed, inputs: Sequence[str]) -> list[Problem]:
        """What is wrong with a component whatever the shapes that reach it."""
        scope = dict.fromkeys(SHAPE_SYMBOLS) | dict(placed.scope)
        own = scope | dict.fromkeys(constant_symbols(placed.component.spec))
        problems: list[Problem] = []
        for of in (
            lambda: self._ports(placed, inputs),
            lambda: self.reader.read(placed, scope),
            lambda: self._given(placed, own),
        ):
            try:
                of()
            except Refused as refused:
                problems += refused.problems
        return problems

    def _node(self, path: str, placed: Placed, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> Node:
        component = placed.component
        ports = self._ports(placed, inputs)
        self._check_kinds(placed, inputs, shapes)
        known = _shape_symbols(shapes) | dict(placed.scope)
        parameters = self.reader.read(placed, known)
        scope = known | numeric_symbols(component, parameters)
        self._fits(placed, parameters, scope, inputs[0], shapes[0])
        geometry = self._geometry(placed, parameters, inputs, shapes)
        scope["window_taps"] = _taps(geometry)
        shape = self._shape(placed, geometry, scope, inputs, shapes)
        scope |= {"channels_out": shape.channels, "positions_out": shape.position_count}
        weights = self._weights(placed, parameters, scope, shape)
        given = self._given(placed, scope)
        own = {name: value for name, value in parameters.items() if name in component.parameters}
        return Node(
            path, component, own, inputs, ports, shapes, shape, geometry, weights,
            given, self.examples,
        )  # fmt: skip

    def _fits(self, placed: Placed, parameters: Mapping[str, Any], scope: Scope, producer: str, shape: Shape) -> None:
        """What the component asks of its input and of its numbers together (`fits:` in its file)."""
        fits, problems = placed.component.spec.fits, []
        if fits.axes and len(shape.positions) not in fits.axes:
            given = f"{_LAYOUTS[min(len(shape.positions), 3)]}, {shape}"
            told = f"{placed.component.name} needs {_LAYOUTS[fits.axes[0]]}, but '{named(producer)}' gives {given}"
            problems.append(self.reader.problem(placed, (), told))
        for key, texts in fits.divides.items():
            for text in texts:
                whole = self._inner_number(placed, text, scope)
                if parameters[key] == 0 or whole % parameters[key]:
                    told = f"`{key}` must divide {_shown(text, whole)}, and {parameters[key]} does not"
                    problems.append(self.reader.problem(placed, (key,), told))
        for key, texts in fits.at_most.items():
            for text in texts:
                most = self._inner_number(placed, text, scope)
                if parameters[key] > most:
                    told = f"`{key}` must be at most {_shown(text, most)}, not {parameters[key]:g}"
                    problems.append(self.reader.problem(placed, (key,), told))
        if problems:
            raise Refused(problems)

    def _given(self, placed: Placed, scope: Scope) -> dict[str, float]:
        """Declared side quantities, under the names that the component's effects use."""
        needs = placed.component.needs
        names = {need.also: name for name, need in needs.items() if need.also} | {name: name for name in needs}
        names["cross_moment"] = "cross_moment"
        out: dict[str, float] = {}
        for key, value in placed.given.items():
            if key not in names:
                message = f"{placed.component.name} does not use '{key}'"
                raise self.reader.refuse(placed, ("given", key), message, did_you_mean(key, names), key_itself=True)
            out[names[key]] = float(self.reader.number(placed, ("given", key), value, scope))
        return out

    def _ports(self, placed: Placed, inputs: Sequence[str]) -> tuple[str, ...]:
        component = placed.component
        names = component.ports_in
        if component.variadic:
            if len(inputs) < 2:
                raise self.reader.refuse(
                    placed, (), f"{component.name} needs at least two inputs", "give `from: [a, b]`"
                )
            return tuple(f"{names[0]}.{index}" for index in range(len(inputs)))
        if len(inputs) != len(names):
            help = f"give `from: [{', '.join(names)}]`" if len(names) > 1 else "name one input in `from:`"
            if names == ["skip", "branch"]:
                help = "give it a `branch:` list, or `from: [skip, branch]`"
            several = "s" * (len(names) > 1)
            message = f"{component.name} has {len(names)} input{several} ({', '.join(names)}), not {len(inputs)}"
            raise self.reader.refuse(placed, (), message, help)
        return tuple(names)

    def _check_kinds(self, placed: Placed, inputs: Sequence[str], shapes: Sequence[Shape]) -> None:
        takes_ids = placed.component.implementation in _EMBEDDINGS
        for producer, shape in zip(inputs, shapes, strict=True):
            self._check_state(placed, producer, shape)
            if shape.kind == "ids" and not takes_ids and placed.component.implementation != _LAMP:
                message = f"{placed.component.name} needs numbers, but '{named(producer)}' gives token ids"
                raise self.reader.refuse(placed, (), message, "put an embedding first")
            if shape.kind != "ids" and takes_ids:
                message = f"{placed.component.name} needs token ids, but '{named(producer)}' gives {shape}"
                raise self.reader.refuse(placed, (), message, "give the network `input: {source: tokens, ...}`")

    def _check_state(self, placed: Placed, producer: str, shape: Shape) -> None:
        component = placed.component
        if component.spec.objective is not None:
            message = f"{component.name} is an objective: steps work on it, it is not one of them"
            help = f"give the network `input: {{source: {component.name}, ...}}`"
            raise self.reader.refuse(placed, (), message, help)
        if component.acts_on_state and self.objective is None:
            message = f"{component.name} is a step of an algorithm, but '{named(producer)}' gives {shape}"
            raise self.reader.refuse(placed, (), message, "give the network an objective, `input: {source: quadratic}`")
        if self.objective is not None and not component.acts_on_state:
            message = f"{component.name} needs numbers, but '{named(producer)}' gives the state of an algorithm"
            raise self.reader.refuse(placed, (), message, "on an objective stand only steps, such as gradient_descent")
        if self.objective is not None and (missing := missing_names(component, self.objective)):
            told = f"{component.name} needs {', '.join(missing)}, which {self.objective.component.name} does not have"
            raise self.reader.refuse(placed, (), told, unknown_for(component, self.objective))

    def _geometry(
        self, placed: Placed, parameters: Mapping[str, Any], inputs: Sequence[str], shapes: Sequence[Shape]
    ) -> Geometry:
        component = placed.component
        geometry = make_geometry(component, parameters)
        try:
            geometry.out_positions(shapes[0].positions)
        except GeometryError as error:
            message = f"{component.name} does not fit its input: {error}"
            raise self.reader.refuse(placed, (), message, f"'{named(inputs[0])}' gives {shapes[0]}") from None
        return geometry

    def _shape(
        self,
        placed: Placed,
        geometry: Geometry,
        scope: Scope,
        inputs: Sequence[str],
        shapes: Sequence[Shape],
    ) -> Shape:
        spec = placed.component.spec.shape
        formula = spec.channels
        mixes_channels = formula is not None and "channels_total" in formula
        for producer, shape in zip(inputs[1:], shapes[1:], strict=True):
            same = shape.positions == shapes[0].positions if mixes_channels else shape == shapes[0]
            if not same and spec.inputs != "any":
                what = "the same positions" if mixes_channels else "the same shape"
                given = f"'{named(inputs[0])}' gives {shapes[0]}, '{named(producer)}' gives {shape}"
                message = f"the inputs of {placed.component.name} need {what}: {given}"
                raise self.reader.refuse(placed, (), message, _mend(shapes[0], shape))
        positions = geometry.out_positions(shapes[0].positions)
        if spec.positions is not None:
            texts = spec.positions if isinstance(spec.positions, list) else [spec.positions]
            positions = tuple(size for text in texts if (size := int(self._inner_number(placed, text, scope))))
        if formula is not None:
            channels = self._inner_number(placed, formula, scope)
        elif isinstance(geometry, Unflatten):
            channels = shapes[0].features / prod(positions)
        else:
            channels = shapes[0].features if isinstance(geometry, Flatten) else shapes[0].channels
        if channels != int(channels) or channels < 1:
            raise self.reader.refuse(placed, (), f"{placed.component.name} would have {channels:g} output channels")
        return Shape(int(channels), positions, spec.kind or ("state" if shapes[0].kind == "state" else "real"))

    def _weights(
        self, placed: Placed, parameters: Mapping[str, Any], scope: Scope, shape: Shape
    ) -> dict[str, WeightLaw]:
        out: dict[str, WeightLaw] = {}
        for name, spec in placed.component.weights.items():
            sizes = [self._inner_number(placed, text, scope) for text in (spec.fan_in, spec.fan_out)]
            if any(size != int(size) or size < 1 for size in sizes):
                involved = ", ".join(f"{key}={value}" for key, value in parameters.items() if isinstance(value, int))
                message = (
                    f"{placed.component.name} cannot be divided like this: {involved} on {scope['channels']} channels"
                )
                raise self.reader.refuse(placed, (), message, "groups and heads must divide the channels")
            rows = shape.channels if "window_taps" in spec.fan_in else None
            try:
                out[name] = weight_law(name, parameters, int(sizes[0]), int(sizes[1]), rows)
            except InitialisationError as error:
                raise self.reader.refuse(placed, (error.parameter,), str(error), error.help) from None
        return out

    def _inner_number(self, placed: Placed, text: str, scope: Scope) -> Number:
        """A number from a formula of the component's own file."""
        try:
            return evaluate_number(text, scope)
        except UnknownValue:
            raise Refused([]) from None
        except FormulaError as error:
            raise self.reader.refuse(placed, (), f"{placed.component.name}: `{text}`: {error.message}") from None


def _identity(placed: Placed) -> tuple[Any, ...]:
    """The same for two uses of one item of the file that differ in nothing: the layers of a repeated body, whose
    `index` nobody asks for. The item must live as long as this is used."""
    texts = (*placed.parameters.values(), *placed.given.values())
    indexed = any("index" in str(text) for text in texts)
    scope = tuple((name, value) for name, value in placed.scope.items() if indexed or name != "index")
    return id(placed.component), id(placed.parameters), id(placed.given), scope


def _shown(text: str, number: Number) -> str:
    return text if text == f"{number:g}" else f"{text} = {number:g}"


def _taps(geometry: Geometry) -> int:
    if isinstance(geometry, Window | WindowTranspose):
        return prod(geometry.kernel)
    return prod(geometry.patch) if isinstance(geometry, Patches) else 1


def _shape_symbols(shapes: Sequence[Shape]) -> dict[str, Number | None]:
    return {
        "channels": shapes[0].channels,
        "channels_total": sum(shape.channels for shape in shapes),
        "channels_last": shapes[-1].channels,
        "positions": shapes[0].position_count,
        "ports": len(shapes),
    }


def _mend(first: Shape, second: Shape) -> str:
    if first.positions == second.positions:
        return f"end the branch with a component of {first.channels} output channels, or project the skip"
    return "strides and paddings of both ways must leave the same positions"


def named(producer: str) -> str:
    """A producer as the spec names it: forks are not written down."""
    return producer.removesuffix(FORK_SUFFIX)
