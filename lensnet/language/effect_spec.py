"""The pydantic models of an effect and of what it assumes."""

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from lensnet.language.fields import Condition, FormulaText, Spec, Text, is_number, refuse

LevelName = Literal["moments", "kernel", "spectrum", "fluctuation"]


AXES = ("channels", "positions", "examples")
"""What may grow without bound in a limit, besides a count among the parameters of the component."""
_SAME_SAMPLE = "same sample"
_ORDER = re.compile(r"1/(?:sqrt\(n\)|n(?:\*\*(\d{1,2}(?:\.\d{1,3})?|\d{1,2}/\d{1,2}))?)")


def limit_axis(limit: str) -> str | None:
    """What grows in `channels -> oo`; None for `same sample`."""
    return None if limit == _SAME_SAMPLE else limit.partition("->")[0].strip()


def limits(counts: Sequence[str] = ()) -> str:
    """How a limit is written; `counts`: parameters of the component that may grow."""
    return f"write {_SAME_SAMPLE}, or one of {', '.join(f'{name} -> oo' for name in (*AXES, *counts))}"


def order_exponent(order: str) -> float:
    """p of `1/n**p`."""
    found = _ORDER.fullmatch(order.replace(" ", ""))
    assert found is not None  # the model has checked it
    if "sqrt" in order:
        return 0.5
    above, _, below = (found.group(1) or "1").partition("/")
    return float(above) / float(below or 1)


class DerivesFrom(Spec):
    """How the formulas of a level follow from a lower level; what is left out is as everywhere.

    level: the lower level. limit: `same sample`, or `channels -> oo`, `positions -> oo`, `examples -> oo`, or an
    integer parameter of the component, as `groups -> oo`: as many channels to each as before.
    order: how fast the two meet: `1/n`, `1/sqrt(n)`, `1/n**2`, n what grows; the ladder holds the component to it.
    """

    level: LevelName | None = None
    limit: Text | None = None
    order: Text | None = None

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        if self.limit is not None and self.limit != _SAME_SAMPLE:
            axis, arrow, end = self.limit.partition("->")
            if not arrow or end.strip() != "oo" or not axis.strip():
                raise refuse(f"'{self.limit}' is no limit that can be taken", limits(), at="limit")
        if self.order is not None and not (
            (found := _ORDER.fullmatch(self.order.replace(" ", ""))) and (found.group(1) or "1").strip("0./")
        ):
            raise refuse(f"'{self.order}' is no order", "write 1/n, 1/sqrt(n) or 1/n**2, n what grows", at="order")
        return self


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
    def _says_something(self) -> Self:
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
