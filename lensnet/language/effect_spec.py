"""The pydantic models of an effect and of what it assumes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from lensnet.language.fields import Condition, FormulaText, Spec, Text, is_number, refuse

LevelName = Literal["moments", "kernel", "spectrum", "fluctuation"]


class Assumption(Spec):
    """What must hold for the effects. Text alone is true by construction; `check` is one comparison."""

    text: Text = ""
    check: Condition | None = None
    below: LevelName | None = None  # the level that holds where this one does not
    cites: list[Text] = []

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"text": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _says_something(self) -> Assumption:
        if not self.text and not self.check:
            raise refuse("an assumption has a `text`, a `check`, or both")
        return self


class Effect(Spec):
    """One quantity at the output (backward: at the input) as a formula of what comes in.

    error: relative error order, a formula (0: exact in the limit the level takes; 3/width: falls with width).
    floor: absolute error, a formula: what rounding leaves where the prediction falls below it, say.
    becomes: lower level -> how this follows from it, as `k -> q`.
    """

    formula: FormulaText
    error: FormulaText | None = None
    floor: FormulaText | None = None
    cites: list[Text] = []
    becomes: dict[LevelName, Text] = {}
    assumes: list[Assumption] = []
    about: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _from_formula(cls, data: Any) -> Any:
        return {"formula": data} if isinstance(data, str) or is_number(data) else data
