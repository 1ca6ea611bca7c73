"""The items of a body: uses of components, repeats, and the reusable blocks made of them."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from lensnet.language.document import Path
from lensnet.language.fields import (
    TEXT,
    Checked,
    FormulaText,
    ItemName,
    ParameterValue,
    PathName,
    Spec,
    SymbolName,
    Text,
    describe,
    refuse,
)
from lensnet.language.source import closest

RESERVED = ("name", "component", "repeat", "from", "branch", "given", "weights_of")


def _sources(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise refuse(f"`from` is the name of an item or a list of names, not {describe(value)}")
    return tuple(names)


Sources = Annotated[
    tuple[str, ...],
    Checked(_sources, {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}),
]


class Use(Spec):
    """One component at its place. Every key of the item that is not reserved is one of its `parameters`.

    repeat: so many in a row, called `name.0`, `name.1`, ...; a formula of constants.
    weights_of: name of a component whose weights it uses instead of drawing its own.
    """

    component: ItemName
    repeat: FormulaText | None = None
    name: PathName | None = None
    sources: Sources | None = Field(default=None, alias="from")
    branch: "Body | None" = None
    given: dict[SymbolName, ParameterValue] = {}
    weights_of: Text | None = None
    parameters: dict[str, ParameterValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect_parameters(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            help = f"write {{component: {data}}}" if isinstance(data, str) else ""
            raise refuse(f"an item of a body is a mapping, not {describe(data)}", help)
        if "component" not in data:
            raise _no_component(data)
        own = {key: value for key, value in data.items() if key in RESERVED}
        return own | {"parameters": {key: value for key, value in data.items() if key not in RESERVED}}


class Repeat(Spec):
    """A body repeated: its items are `name.0.item`, `name.1.item`, ... `repeat` is a formula of constants."""

    repeat: FormulaText
    name: ItemName | None = None
    body: "Body"


def _no_component(data: dict[Any, Any]) -> Any:
    for key in data:
        guess = closest(str(key), [word for word in ("component", "repeat") if word not in data])
        if guess:
            return refuse(f"unknown key '{key}'", f"did you mean '{guess}'?", at=str(key), key=True)
    return refuse("this item names no component", "give it `component: ...` (or `repeat: ...` with a `body:`)")


def _item_kind(data: Any) -> str:
    repeats = isinstance(data, dict) and "repeat" in data and ("component" not in data or "body" in data)
    return "<repeat>" if repeats or isinstance(data, Repeat) else "<use>"


Item = Annotated[Annotated[Use, Tag("<use>")] | Annotated[Repeat, Tag("<repeat>")], Discriminator(_item_kind)]
Body = Annotated[list[Item], Field(min_length=1)]


class BlockSpec(Spec):
    """A body with a name, used like a component; `parameters` are its defaults, which a use may override."""

    body: Body
    parameters: dict[SymbolName, ParameterValue] = {}
    about: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        return {"body": data} if isinstance(data, list) else data


def walk(body: Sequence[Use | Repeat], path: Path) -> Iterator[tuple[Path, Use | Repeat]]:
    """Every item of a body and of the bodies in it, with its place in the file."""
    for index, item in enumerate(body):
        here = (*path, index)
        yield here, item
        if isinstance(item, Repeat):
            yield from walk(item.body, (*here, "body"))
        elif item.branch is not None:
            yield from walk(item.branch, (*here, "branch"))
