"""The kinds of value that fields of a spec hold: names, numbers, formulas. Each refuses with one clear sentence.

Validators raise PydanticCustomError; its context carries `help`, and for a formula the `column` and `length` of the
part to blame, which problems.py turns into a place in the file.

Modules with models do not postpone their annotations: pydantic would evaluate the text of each, once for every model
that inherits it.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError, core_schema

from lensnet.language.formula import FormulaError, evaluate_number, is_name, read_formula
from lensnet.language.formula_bounds import COMPARE
from lensnet.language.source import shorten
from lensnet.language.yaml_tree import kind_of

ITEM_NAME = r"[^\W\d_][\w-]{0,63}"
# The name of an item may be a whole path (`layers.0.attention`); `@1` marks the second use of one module.
PATH_NAME = ITEM_NAME + r"(\.[\w-]{1,64}){0,40}(@\d{1,6})?"


class Spec(BaseModel):
    """Base of every part of a spec: unknown keys are refused, values are never converted."""

    # defer_build: a model is compiled when first used, so that `lensnet --help` does not wait for it
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _note_mapping(cls, data: Any, info: ValidationInfo) -> Any:
        """Remembers which model read which mapping, so that an unknown key in it gets the right suggestions."""
        if info.context is not None and isinstance(data, dict):
            info.context.setdefault("models", {})[id(data)] = cls
        return data


class Checked:
    """Annotates a type whose values `check` alone judges, from (value, info) to what the model holds; `schema` is its
    JSON schema.

    `PlainValidator` does the same, but builds the schema of the type itself twice, for a serialisation that no spec
    needs; with 170 such fields that is a tenth of the time of `lensnet lint`.
    """

    def __init__(self, check: Callable[..., Any], schema: Mapping[str, Any], with_info: bool = False) -> None:
        self.check, self.schema, self.with_info = check, schema, with_info

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        if self.with_info:
            return core_schema.with_info_plain_validator_function(self.check)
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return dict(self.schema)


def refuse(message: str, help: str = "", **context: Any) -> PydanticCustomError:
    """An error for a validator to raise."""
    return PydanticCustomError("spec", "{message}", {"message": message, "help": help, **context})


def refuse_formula(error: FormulaError) -> PydanticCustomError:
    return refuse(error.message, error.help, column=error.column, length=error.length)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any) -> int | float:
    if not is_number(value):
        raise refuse(f"a number is needed here, not {describe(value)}")
    return value


def describe(value: Any) -> str:
    """A value for a message: its kind, and itself where it is short."""
    if isinstance(value, str):
        return f"the text '{shorten(value, 40)}'"
    return str(value).lower() if isinstance(value, bool) else kind_of(value)


def _formula(value: Any) -> str:
    """A formula's text; a plain number is one. Its symbols are checked where they are known."""
    if is_number(value):
        return str(value)
    if not isinstance(value, str):
        raise refuse(f"a formula or a number is needed here, not {describe(value)}")
    try:
        term = read_formula(value)
        if term.kind in COMPARE:
            raise term.error("a comparison is not a value", "use where(condition, a, b)")
    except FormulaError as error:
        raise refuse_formula(error) from None
    return value


def _condition(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(f"a comparison is needed here, not {describe(value)}", "for example fan_in >= 16")
    try:
        term = read_formula(value)
        if term.kind not in COMPARE:
            raise term.error("a comparison is needed here", "for example fan_in >= 16")
    except FormulaError as error:
        raise refuse_formula(error) from None
    return value


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value) or value == "pi":
        raise refuse(f"{describe(value)} cannot name a symbol", "use letters, digits and _, beginning with a letter")
    return value


def _item_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(ITEM_NAME, value):
        raise refuse(
            f"{describe(value)} cannot be a name", "use letters, digits, - and _, beginning with a letter; no dots"
        )
    return value


def _path_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(PATH_NAME, value):
        raise refuse(f"{describe(value)} cannot be a name", "use letters, digits, - and _, beginning with a letter")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(f"text is needed here, not {describe(value)}", "quote it if it is meant as text")
    return value


def _parameter(value: Any) -> Any:
    """What an item gives a parameter: a number, true/false, a word or formula, or a short list of these."""
    if isinstance(value, list):
        if not value or len(value) > 64:
            raise refuse("a list of 1 to 64 values is needed here")
        if any(isinstance(part, list | dict) or part is None for part in value):
            raise refuse("a list here holds plain numbers or formulas")
        return tuple(value)
    if isinstance(value, dict) or value is None:
        raise refuse(f"a parameter is a number, a word, a formula or a list, not {describe(value)}")
    return value


def evaluated(value: Any, info: ValidationInfo, integer: bool, least: float = -math.inf, most: float = math.inf) -> Any:
    """A number or a formula of the constants (`info.context["constants"]`), within bounds."""
    constants: Mapping[str, int | float] = (info.context or {}).get("constants", {})
    kind = "an integer" if integer else "a number"
    if not is_number(value) and not isinstance(value, str):
        raise refuse(f"{kind} is needed here, not {describe(value)}")
    try:
        number = evaluate_number(value, constants)
    except FormulaError as error:
        raise refuse_formula(error) from None
    shown = f"{number}" if number == value else f"{shorten(value)} = {number}"
    if integer and number != int(number):
        raise refuse(f"an integer is needed here, not {shown}")
    if not least <= number <= most:
        bound = f"at least {least:g}" if number < least else f"at most {most:g}"
        raise refuse(f"this must be {bound}, not {shown}")
    return int(number) if integer else number


def _evaluated_as(integer: bool, least: float = -math.inf, most: float = math.inf) -> Callable[..., Any]:
    def check(value: Any, info: ValidationInfo) -> Any:
        return evaluated(value, info, integer, least, most)

    return check


NUMBER_OR_FORMULA = {"anyOf": [{"type": "number"}, {"type": "string"}]}

TEXT = {"type": "string"}


def _of_constants(integer: bool, least: float = -math.inf, most: float = math.inf) -> Checked:
    return Checked(_evaluated_as(integer, least, most), NUMBER_OR_FORMULA, with_info=True)


Number = Annotated[int | float, Checked(_number, {"type": "number"})]
Text = Annotated[str, Checked(_text, TEXT)]
FormulaText = Annotated[str, Checked(_formula, NUMBER_OR_FORMULA)]
Condition = Annotated[str, Checked(_condition, TEXT)]
SymbolName = Annotated[str, Checked(_symbol, TEXT)]
ItemName = Annotated[str, Checked(_item_name, {**TEXT, "pattern": f"^{ITEM_NAME}$"})]
PathName = Annotated[str, Checked(_path_name, {**TEXT, "pattern": f"^{PATH_NAME}$"})]
ParameterValue = Annotated[
    Any,
    Checked(_parameter, {"type": ["number", "string", "boolean", "array"], "items": {"type": ["number", "string"]}}),
]
Count = Annotated[int, _of_constants(True, 1, 1e9)]
Natural = Annotated[int, _of_constants(True, 0, 1e9)]
Share = Annotated[float, _of_constants(False, 0, 1)]
Real = Annotated[float, _of_constants(False)]
Positive = Annotated[float, _of_constants(False, 0)]
Correlation = Annotated[float, _of_constants(False, -1, 1)]
