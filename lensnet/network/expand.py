"""From the nested body of a spec to a flat list of placed components with dotted paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lensnet.catalog.component import FORK, Component
from lensnet.language.body_spec import Repeat, Use, walk
from lensnet.language.document import Document, Path
from lensnet.language.formula import FormulaError, UnknownValue, evaluate_number
from lensnet.language.network_spec import NetworkSpec
from lensnet.language.source import did_you_mean
from lensnet.network.graph import INPUT
from lensnet.network.placed import Expansion, Number, Placed, Reference, Scope, Unread

MAX_COMPONENTS = 50_000
MAX_ITEMS = 4 * MAX_COMPONENTS  # looked at, whether or not they place anything
MAX_NESTING = 24  # bodies in bodies
_TOO_MANY = f"the network has more than {MAX_COMPONENTS:,} components"


class Frame(NamedTuple):
    """Where the expansion stands: the path of the group, the numbers in scope, the bodies and blocks around."""

    scope: Scope
    prefix: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    nesting: int = 0

    def into(self, *names: str, scope: Scope | None = None, block: str = "") -> Frame:
        blocks = (*self.blocks, block) if block else self.blocks
        return Frame(self.scope if scope is None else scope, (*self.prefix, *names), blocks, self.nesting + 1)


class Expander:
    """Unrolls repeats, blocks and branches of one network file.

    wrong: places of the file that were refused already; the items there hold their places and are not told again.
    refused: components and blocks whose own definition is at fault, in the same way.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        document: Document,
        components: Mapping[str, Component],
        wrong: Iterable[Path] = (),
        refused: Iterable[str] = (),
    ) -> None:
        self.spec = spec
        self.document = document
        self.components = components
        wrong = list(wrong)
        self.out = Expansion(names_known=not any(path[-1:] == ("name",) for path in wrong))
        self._wrong = {_item_at(path) for path in wrong}
        self._refused = set(refused)
        self._items = 0
        self._taken: set[str] = set()
        self._reported: set[tuple[Path, str]] = set()

    def run(self) -> Expansion:
        start = Reference(INPUT, exact=True)
        self._body(self.spec.body, ("body",), Frame(dict(self.spec.constants)), start)
        for name, block in self.spec.blocks.items():
            for place, item in walk(block.body, ("blocks", name, "body")):
                if isinstance(item, Use) and place not in self._wrong and not self._known(item.component):
                    self._component(item.component, place)  # a block that nobody uses is looked at, too
        return self.out

    def _known(self, kind: str) -> bool:
        return kind in self.spec.blocks or kind in self._refused or kind in self.components

    def _body(self, items: Sequence[Use | Repeat], place: Path, frame: Frame, current: Reference) -> Reference:
        for index, item in enumerate(items):
            here = (*place, index)
            self._items += 1
            if self._full(here):
                return current
            if isinstance(item, Repeat):
                current = self._repeat(item, here, frame, current)
            elif item.repeat is not None:
                current = self._row(item, item.repeat, here, frame, current)
            else:
                current = self._use(item, here, frame, current)
        return current

    def _row(self, item: Use, repeat: str, place: Path, frame: Frame, current: Reference) -> Reference:
        """One component many times in a row: `name.0`, `name.1`, ..."""
        name = self._unique(item.name or item.component, frame, place, named=item.name is not None)
        count = self._count(repeat, place, frame)
        for index in range(1 if count is None else count):
            changes = {"name": str(index), "repeat": None, "sources": None if index else item.sources}
            inner = frame.into(name)._replace(scope={**frame.scope, "index": index}, nesting=frame.nesting)
            current = self._use(item.model_copy(update=changes), place, inner, current)
            if self._full((*place, "repeat")):
                break
        return self._group_end(name, place, frame, current, count)

    def _repeat(self, item: Repeat, place: Path, frame: Frame, current: Reference) -> Reference:
        name = self._unique(item.name or "block", frame, place, named=item.name is not None)
        count = self._count(item.repeat, place, frame) if place not in self._wrong else None
        if frame.nesting >= MAX_NESTING:
            self._problem(place, f"repeats and blocks are nested more than {MAX_NESTING} deep")
            return current
        for index in range(1 if count is None else count):
            inner = frame.into(name, str(index), scope={**frame.scope, "index": index})
            current = self._body(item.body, (*place, "body"), inner, current)
            self.out.outputs[".".join(inner.prefix)] = current.name
            if self._full((*place, "repeat")):
                break
        return self._group_end(name, place, frame, current, count)

    def _group_end(self, name: str, place: Path, frame: Frame, current: Reference, count: int | None) -> Reference:
        path = ".".join((*frame.prefix, name))
        if count is None:
            return self._unread(path, (current,), place)
        self.out.outputs[path] = current.name
        return current

    def _count(self, repeat: str, place: Path, frame: Frame) -> int | None:
        """How often; None when the file does not tell."""
        count = self._number((*place, "repeat"), repeat, frame.scope)
        if count is not None and (count != int(count) or not 0 <= count <= MAX_COMPONENTS):
            told = f"`repeat` is {count:g}; it must be a whole number from 0 to {MAX_COMPONENTS:,}"
            self._problem((*place, "repeat"), told)
            return None
        return None if count is None else int(count)

    def _full(self, place: Path) -> bool:
        if len(self.out.placed) < MAX_COMPONENTS and self._items < MAX_ITEMS:
            return False
        self.out.complete = False
        self._problem(place, _TOO_MANY)
        return True

    def _use(self, item: Use, place: Path, frame: Frame, current: Reference) -> Reference:
        kind = item.component
        name = self._unique(item.name or kind, frame, place, named=item.name is not None)
        path = ".".join((*frame.prefix, name))
        sources: tuple[Reference, ...] = (current,)
        if item.sources is not None:
            sources = tuple(Reference(source, frame.prefix, place=(*place, "from")) for source in item.sources)
        if place in self._wrong:
            self.out.sources_known = False
            return self._unread(path, sources, place)
        if kind in self.spec.blocks and kind not in self._refused:
            return self._block(item, name, place, frame, sources)
        component = None if kind in self._refused else self._component(kind, place)
        if component is not None and component.spec.body is not None:
            return self._composite(item, component, name, place, frame, sources)
        if item.branch is not None:
            end = self._body(item.branch, (*place, "branch"), frame.into(name), sources[0])
            sources = (*sources, end)
        if component is None:
            return self._unread(path, sources, place)
        shares = None
        if item.weights_of is not None:
            shares = Reference(item.weights_of, frame.prefix, place=(*place, "weights_of"))
        scope = frame.scope
        self.out.placed.append(Placed(path, component, item.parameters, item.given, scope, sources, place, shares))
        return Reference(path, exact=True)

    def _component(self, kind: str, place: Path) -> Component | None:
        if kind == FORK:
            help = "use a value twice by naming it in `from:`; the fork is put in where that happens"
            self._problem((*place, "component"), "a fork is never written down", help)
            return None
        if kind not in self.components:
            options = [*self.components, *self.spec.blocks]
            self._problem((*place, "component"), f"unknown component '{kind}'", did_you_mean(kind, options))
            return None
        return self.components[kind]

    def _block(self, item: Use, name: str, place: Path, frame: Frame, sources: tuple[Reference, ...]) -> Reference:
        block, at = self.spec.blocks[item.component], ("blocks", item.component)
        return self._inner(
            item, block.parameters, (*at, "parameters"), block.body, (*at, "body"), name, place, frame, sources
        )

    def _composite(
        self, item: Use, component: Component, name: str, place: Path, frame: Frame, sources: tuple[Reference, ...]
    ) -> Reference:
        """A component made of components: its body is placed under its name, with its parameters as constants."""
        defaults = {
            key: parameter.default for key, parameter in component.parameters.items() if parameter.default is not None
        }
        missing = [key for key in component.parameters if key not in defaults and key not in item.parameters]
        if missing:
            self._problem(place, f"{component.name} needs {', '.join(missing)}")
            return self._unread(".".join((*frame.prefix, name)), sources, place)
        defaults |= {key: value for key, value in item.parameters.items() if key in component.parameters}
        return self._inner(item, defaults, place, component.spec.body or [], place, name, place, frame, sources)

    def _inner(
        self,
        item: Use,
        defaults: Mapping[str, Any],
        defaults_place: Path,
        body: Sequence[Use | Repeat],
        body_place: Path,
        name: str,
        place: Path,
        frame: Frame,
        sources: tuple[Reference, ...],
    ) -> Reference:
        kind, path = item.component, ".".join((*frame.prefix, name))
        if item.weights_of is not None:
            help = "share the weights of a component inside it"
            self._problem((*place, "weights_of"), f"'{kind}' is made of components", help, key=True)
        for key in item.parameters:
            if key not in defaults:
                options = did_you_mean(key, [*defaults, "name", "from"])
                self._problem((*place, key), f"block '{kind}' has no parameter '{key}'", options, key=True)
        if kind in frame.blocks or frame.nesting >= MAX_NESTING:
            told = "uses itself" if kind in frame.blocks else "is nested too deep"
            self._problem((*place, "component"), f"block '{kind}' {told}")
            return self._unread(path, sources, place)
        if len(sources) > 1 or item.branch is not None:
            self._problem(place, f"a block has one input, but '{kind}' is given {len(sources)}")
            return self._unread(path, sources, place)
        scope = dict(frame.scope)
        for key, default in defaults.items():
            given = key in item.parameters
            at = (*place, key) if given else (*defaults_place, key)
            scope[key] = self._number(at, item.parameters[key] if given else default, frame.scope)
        end = self._body(body, body_place, frame.into(name, scope=scope, block=kind), sources[0])
        self.out.outputs[path] = end.name
        return end

    def _unread(self, path: str, sources: tuple[Reference, ...], place: Path) -> Reference:
        self.out.placed.append(Unread(path, sources, place))
        return Reference(path, exact=True)

    def _number(self, place: Path, value: Any, scope: Scope) -> Number | None:
        try:
            return evaluate_number(value, scope)
        except UnknownValue:
            return None
        except FormulaError as error:
            if (place, error.message) not in self._reported:
                self._reported.add((place, error.message))
                self.out.problems.append(self.document.formula_problem(place, error))
            return None

    def _unique(self, name: str, frame: Frame, place: Path, named: bool) -> str:
        """`name`, or `name_2`, ... when the spec gave none and it is taken; a name given twice is a mistake."""
        chosen, count = name, 1
        while ".".join((*frame.prefix, chosen)) in self._taken:
            if named:
                self._problem((*place, "name"), f"the name '{name}' is used twice here", f"call it {name}_2")
                named = False
            count += 1
            chosen = f"{name}_{count}"
        self._taken.add(".".join((*frame.prefix, chosen)))
        return chosen

    def _problem(self, place: Path, message: str, help: str = "", key: bool = False) -> None:
        if (place, message) not in self._reported:
            self._reported.add((place, message))
            self.out.problems.append(self.document.problem(place, message, help, key=key))


def _item_at(path: Path) -> Path:
    """The item of a body in which `path` lies; `path` itself elsewhere."""
    for end in range(len(path), 1, -1):
        if path[end - 2] in ("body", "branch") and isinstance(path[end - 1], int):
            return path[:end]
    return path
