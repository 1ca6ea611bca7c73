"""From the nested body of a spec to a flat list of placed components with dotted paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lensnet.catalog.component import FORK, Component
from lensnet.language.body_spec import Repeat, Use
from lensnet.language.document import Document
from lensnet.language.formula import FormulaError, evaluate_number
from lensnet.language.network_spec import NetworkSpec
from lensnet.language.source import Problem, did_you_mean
from lensnet.network.graph import INPUT

Path = tuple[str | int, ...]
Number = int | float

MAX_COMPONENTS = 50_000
_TOO_MANY = f"the network has more than {MAX_COMPONENTS:,} components"
_MAX_NESTING = 24  # blocks in blocks; a block that uses itself ends here


@dataclass(frozen=True)
class Reference:
    """A producer as the spec names it: an exact path, or a name to be looked up from the inside out of `prefix`."""

    name: str
    prefix: tuple[str, ...] = ()
    exact: bool = False
    place: Path = ()


@dataclass(frozen=True)
class Placed:
    """One component at its path, before parameters are evaluated and shapes are known."""

    path: str
    component: Component
    parameters: Mapping[str, Any]
    given: Mapping[str, Any]
    scope: Mapping[str, Number]
    sources: tuple[Reference, ...]
    place: Path
    shares: Reference | None = None


@dataclass
class Expansion:
    """The flat result: components in the order written, and the output path of every group (repeat, block)."""

    placed: list[Placed] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class Expander:
    """Unrolls repeats, blocks and branches of one network file."""

    def __init__(self, spec: NetworkSpec, document: Document, components: Mapping[str, Component]) -> None:
        self.spec = spec
        self.document = document
        self.components = components
        self.out = Expansion()
        self._taken: set[str] = set()
        self._reported: set[tuple[Path, str]] = set()

    def run(self) -> Expansion:
        start = Reference(INPUT, exact=True)
        self._body(self.spec.body, ("body",), (), dict(self.spec.constants), start, 0)
        return self.out

    def _body(
        self,
        items: Sequence[Use | Repeat],
        place: Path,
        prefix: tuple[str, ...],
        scope: Mapping[str, Number],
        current: Reference,
        nesting: int,
    ) -> Reference:
        for index, item in enumerate(items):
            here = (*place, index)
            if len(self.out.placed) >= MAX_COMPONENTS:
                self._problem(here, _TOO_MANY)
                return current
            if isinstance(item, Repeat):
                current = self._repeat(item, here, prefix, scope, current, nesting)
            elif item.repeat is not None:
                current = self._row(item, item.repeat, here, prefix, scope, current, nesting)
            else:
                current = self._use(item, here, prefix, scope, current, nesting)
        return current

    def _row(
        self,
        item: Use,
        repeat: str,
        place: Path,
        prefix: tuple[str, ...],
        scope: Mapping[str, Number],
        current: Reference,
        nesting: int,
    ) -> Reference:
        """One component many times in a row: `name.0`, `name.1`, ..."""
        count = self._count(repeat, place, scope)
        if count is None:
            return current
        name = self._unique(item.name or item.component, prefix, place, named=item.name is not None)
        for index in range(count):
            changes = {"name": str(index), "repeat": None, "sources": None if index else item.sources}
            one = item.model_copy(update=changes)
            current = self._use(one, place, (*prefix, name), {**scope, "index": index}, current, nesting)
            if self.out.problems or self._full(place):
                break
        self.out.outputs[".".join((*prefix, name))] = current.name
        return current

    def _count(self, repeat: str, place: Path, scope: Mapping[str, Number]) -> int | None:
        count = self._number((*place, "repeat"), repeat, scope)
        if count is not None and (count != int(count) or not 0 <= count <= MAX_COMPONENTS):
            told = f"`repeat` is {count:g}; it must be a whole number from 0 to {MAX_COMPONENTS:,}"
            self._problem((*place, "repeat"), told)
            return None
        return None if count is None else int(count)

    def _full(self, place: Path) -> bool:
        if len(self.out.placed) < MAX_COMPONENTS:
            return False
        self._problem((*place, "repeat"), _TOO_MANY)
        return True

    def _repeat(
        self,
        item: Repeat,
        place: Path,
        prefix: tuple[str, ...],
        scope: Mapping[str, Number],
        current: Reference,
        nesting: int,
    ) -> Reference:
        count = self._count(item.repeat, place, scope)
        if count is None:
            return current
        name = self._unique(item.name or "block", prefix, place, named=item.name is not None)
        for index in range(count):
            inner = (*prefix, name, str(index))
            current = self._body(item.body, (*place, "body"), inner, {**scope, "index": index}, current, nesting + 1)
            self.out.outputs[".".join(inner)] = current.name
            if self.out.problems and index == 0:
                break  # the same mistakes would only be found again
            if self._full(place):
                break
        self.out.outputs[".".join((*prefix, name))] = current.name
        return current

    def _use(
        self,
        item: Use,
        place: Path,
        prefix: tuple[str, ...],
        scope: Mapping[str, Number],
        current: Reference,
        nesting: int,
    ) -> Reference:
        kind = item.component
        name = self._unique(item.name or kind, prefix, place, named=item.name is not None)
        sources = self._sources(item, place, prefix, current)
        if kind in self.spec.blocks:
            return self._block(item, name, place, prefix, scope, sources, nesting)
        if kind not in self.components:
            options = [*self.components, *self.spec.blocks]
            self._problem((*place, "component"), f"unknown component '{kind}'", did_you_mean(kind, options))
            return current
        if kind == FORK:
            help = "use a value twice by naming it in `from:`; the fork is put in where that happens"
            self._problem((*place, "component"), "a fork is never written down", help)
        component = self.components[kind]
        path = ".".join((*prefix, name))
        if component.spec.body is not None:
            return self._composite(item, component, name, place, prefix, scope, sources, nesting)
        if item.branch is not None:
            end = self._body(item.branch, (*place, "branch"), (*prefix, name), scope, sources[0], nesting + 1)
            sources = (*sources, end)
        shares = None
        if item.weights_of is not None:
            shares = Reference(item.weights_of, prefix, place=(*place, "weights_of"))
        self.out.placed.append(Placed(path, component, item.parameters, item.given, scope, sources, place, shares))
        return Reference(path, exact=True)

    def _sources(self, item: Use, place: Path, prefix: tuple[str, ...], current: Reference) -> tuple[Reference, ...]:
        if item.sources is None:
            return (current,)
        return tuple(Reference(name, prefix, place=(*place, "from")) for name in item.sources)

    def _block(
        self,
        item: Use,
        name: str,
        place: Path,
        prefix: tuple[str, ...],
        scope: Mapping[str, Number],
        sources: tuple[Reference, ...],
        nesting: int,
    ) -> Reference:
        block = self.spec.blocks[item.component]
        defaults = ("blocks", item.component, "parameters")
        return self._inner(
            item,
            block.parameters,
            defaults,
            block.body,
            ("blocks", item.component, "body"),
            name,
            place,
            prefix,
            scope,
            sources,
            nesting,
        )

    def _composite(
        self,
        item: Use,
        component: Component,
        name: str,
        place: Path,
        prefix: tuple[str, ...],
        scope: Mapping[str, Number],
        sources: tuple[Reference, ...],
        nesting: int,
    ) -> Reference:
        """A component made of components: its body is placed under its name, with its parameters as constants."""
        defaults = {
            key: parameter.default for key, parameter in component.parameters.items() if parameter.default is not None
        }
        missing = [key for key in component.parameters if key not in defaults and key not in item.parameters]
        if missing:
            self._problem(place, f"{component.name} needs {', '.join(missing)}")
            return sources[0]
        defaults |= {key: value for key, value in item.parameters.items() if key in component.parameters}
        body = component.spec.body or []
        return self._inner(item, defaults, place, body, place, name, place, prefix, scope, sources, nesting)

    def _inner(
        self,
        item: Use,
        defaults: Mapping[str, Any],
        defaults_place: Path,
        body: Sequence[Use | Repeat],
        body_place: Path,
        name: str,
        place: Path,
        prefix: tuple[str, ...],
        scope: Mapping[str, Number],
        sources: tuple[Reference, ...],
        nesting: int,
    ) -> Reference:
        if item.weights_of is not None:
            help = "share the weights of a component inside it"
            self._problem((*place, "weights_of"), f"'{item.component}' is made of components", help, key=True)
        if nesting >= _MAX_NESTING:
            self._problem((*place, "component"), f"block '{item.component}' is nested too deep: does it use itself?")
            return sources[0]
        if len(sources) > 1 or item.branch is not None:
            self._problem(place, f"a block has one input, but '{item.component}' is given {len(sources)}")
            return sources[0]
        inner = dict(scope)
        for key in item.parameters:
            if key not in defaults:
                options = did_you_mean(key, [*defaults, "name", "from"])
                self._problem((*place, key), f"block '{item.component}' has no parameter '{key}'", options, key=True)
        for key, default in defaults.items():
            given = key in item.parameters
            value = item.parameters[key] if given else default
            at = (*place, key) if given else (*defaults_place, key)
            number = self._number(at, value, scope)
            if number is not None:
                inner[key] = number
        path = (*prefix, name)
        end = self._body(body, body_place, path, inner, sources[0], nesting + 1)
        self.out.outputs[".".join(path)] = end.name
        return end

    def _number(self, place: Path, value: Any, scope: Mapping[str, Number]) -> Number | None:
        try:
            return evaluate_number(value, scope)
        except FormulaError as error:
            self.out.problems.append(
                self.document.problem(place, error.message, error.help, column=error.column, length=error.length)
            )
            return None

    def _unique(self, name: str, prefix: tuple[str, ...], place: Path, named: bool) -> str:
        """`name`, or `name_2`, ... when the spec gave none and it is taken; a name given twice is a mistake."""
        chosen, count = name, 1
        while ".".join((*prefix, chosen)) in self._taken:
            if named:
                self._problem((*place, "name"), f"the name '{name}' is used twice here", f"call it {name}_2")
                named = False
            count += 1
            chosen = f"{name}_{count}"
        self._taken.add(".".join((*prefix, chosen)))
        return chosen

    def _problem(self, place: Path, message: str, help: str = "", key: bool = False) -> None:
        if (place, message) not in self._reported:
            self._reported.add((place, message))
            self.out.problems.append(self.document.problem(place, message, help, key=key))
