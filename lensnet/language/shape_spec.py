"""The shapes of a component: what comes out, and what must hold for it to exist at all."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from lensnet.language.fields import NUMBER_OR_FORMULA, FormulaText, Spec, SymbolName


def listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Formulas = Annotated[
    list[FormulaText],
    BeforeValidator(listed),
    WithJsonSchema({"anyOf": [*NUMBER_OR_FORMULA["anyOf"], {"type": "array", "items": NUMBER_OR_FORMULA}]}),
]
_AXES = {"enum": [0, 1, 2, 3]}
Axes = Annotated[
    list[Literal[0, 1, 2, 3]],
    BeforeValidator(listed),
    WithJsonSchema({"anyOf": [_AXES, {"type": "array", "items": _AXES}]}),
]


class ShapeSpec(Spec):
    """What the output looks like where it differs from the input: formulas of parameters and shape symbols.

    A position axis of size 0 is left out. `inputs: any`: the inputs need not have one shape.
    """

    channels: FormulaText | None = None
    positions: FormulaText | list[FormulaText] | None = None
    kind: Literal["real", "ids"] | None = None
    inputs: Literal["alike", "any"] = "alike"


class FitsSpec(Spec):
    """What the input and the parameters must be like for the component to exist at all.

    axes: how many position axes the (first) input may have: 0 for a vector, 1 for tokens, 2 for images. divides:
    parameter -> what it must divide, as heads the channels. at_most: parameter -> the most that it can be. Both are
    formulas of parameters and shape symbols, or lists of them.
    """

    axes: Axes = []
    divides: dict[SymbolName, Formulas] = {}
    at_most: dict[SymbolName, Formulas] = {}
