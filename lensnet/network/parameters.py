"""Parameters of a placed component as plain values: numbers evaluated, choices and bounds checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensnet.catalog.component import Component
from lensnet.language.component_spec import ChoiceParameter
from lensnet.language.document import Document, Path
from lensnet.language.formula import FormulaError, UnknownValue, evaluate_number
from lensnet.language.source import Problem, did_you_mean
from lensnet.network.graph import LABELLED
from lensnet.network.initialisation import SCHEMES, init_parameter_names
from lensnet.network.placed import Number, Placed, Scope
from lensnet.network.refused import Refused


class ParameterReader:
    """Reads what an item gives its component. Every method raises Refused with the problems it found.

    A value that hangs on a number which nobody knows (None in its scope) is refused without a problem of its own.
    """

    def __init__(self, document: Document, labelled: bool = True) -> None:
        self.document = document
        self.labelled = labelled

    def read(self, placed: Placed, scope: Scope) -> dict[str, Any]:
        component = placed.component
        init: dict[str, str] = {}
        for weight in component.weights:
            init |= init_parameter_names(weight)
        problems: list[Problem] = []
        known = [*component.parameters, *init]
        for key in placed.parameters:
            if key not in component.parameters and key not in init:
                options = did_you_mean(key, [*known, "name", "from", "branch", "given", "weights_of"])
                problems.append(
                    self.problem(placed, (key,), f"{component.name} has no parameter '{key}'", options, True)
                )
        out: dict[str, Any] = {}
        values: dict[str, Number | None] = dict(scope)  # and the parameters so far
        complete = True
        for key, spec in component.parameters.items():
            given = key in placed.parameters
            value = placed.parameters[key] if given else spec.default
            if value is None:
                about = f" ({spec.about})" if spec.about else ""
                problems.append(self.problem(placed, (), f"{component.name} needs `{key}`{about}"))
                continue
            try:
                value = out[value] if not given and value in out else value  # a default that names another parameter
                out[key] = self._value(placed, key, spec, value, values)
                values |= _plain({key: out[key]})
            except Refused as refused:
                problems += refused.problems
                complete, values[key] = False, None
        for key, name in init.items():
            if key in placed.parameters:
                try:
                    out[key] = self._init_value(placed, key, name, placed.parameters[key], scope)
                except Refused as refused:
                    problems += refused.problems
                    complete = False
        if problems or not complete:
            raise Refused(problems)
        return out

    def _value(self, placed: Placed, key: str, spec: Any, value: Any, scope: Scope) -> Any:
        if spec.type == "boolean":
            if not isinstance(value, bool):
                raise self.refuse(placed, (key,), f"`{key}` is true or false, not {value!r}")
            return value
        if spec.type == "choice":
            if value not in spec.choices:
                raise self.refuse(
                    placed, (key,), f"`{key}` cannot be {value!r}", did_you_mean(str(value), spec.choices)
                )
            if value in spec.labelled and not self.labelled:
                message = f"`{key}: {value}` of {placed.component.name} needs the classes of the examples, "
                message += "and the input has no labels"
                raise self.refuse(
                    placed, (key,), message, f"inputs with labels: {', '.join(LABELLED)}, file with `labels`"
                )
            return value
        if spec.type in ("pair", "triple", "axes"):
            parts = value if isinstance(value, tuple | list) else (value,) * spec.axes
            if len(parts) > spec.axes or (len(parts) < spec.axes and spec.type != "axes"):
                wanted = "one for each axis" if spec.type == "axes" else f"a {spec.type}"
                message = f"`{key}` is one number or {wanted}, not {len(parts)} numbers"
                raise self.refuse(placed, (key,), message)
            return tuple(self._bounded(placed, key, spec, part, scope, integer=True) for part in parts)
        if isinstance(value, tuple | list):
            raise self.refuse(placed, (key,), f"`{key}` is one number, not a list")
        return self._bounded(placed, key, spec, value, scope, integer=spec.type == "integer")

    def _bounded(self, placed: Placed, key: str, spec: Any, value: Any, scope: Scope, integer: bool) -> Number:
        if isinstance(value, bool):
            raise self.refuse(placed, (key,), f"`{key}` is a number, not {str(value).lower()}")
        number = self.number(placed, (key,), value, scope)
        shown = f"{number:g}" if isinstance(number, float) else f"{number}"
        shown = shown if str(value) == shown else f"{value} = {shown}"
        if integer and number != int(number):
            raise self.refuse(placed, (key,), f"`{key}` is a whole number, not {shown}")
        if spec.min is not None and number < spec.min:
            raise self.refuse(placed, (key,), f"`{key}` must be at least {spec.min:g}, not {shown}")
        if spec.max is not None and number > spec.max:
            raise self.refuse(placed, (key,), f"`{key}` must be at most {spec.max:g}, not {shown}")
        return int(number) if integer else number

    def _init_value(self, placed: Placed, key: str, name: str, value: Any, scope: Scope) -> Any:
        if name == "init":
            if value not in SCHEMES:
                raise self.refuse(
                    placed, (key,), f"no initialisation is called {value!r}", did_you_mean(str(value), SCHEMES)
                )
            return value
        if isinstance(value, bool | tuple | list):
            raise self.refuse(placed, (key,), f"`{key}` is a number")
        return self.number(placed, (key,), value, scope)

    def number(self, placed: Placed, key: Path, value: Any, scope: Scope) -> Number:
        try:
            return evaluate_number(value, scope)
        except UnknownValue:
            raise Refused([]) from None
        except FormulaError as error:
            raise Refused([self.document.formula_problem((*placed.place, *key), error)]) from None

    def refuse(self, placed: Placed, key: Path, message: str, help: str = "", key_itself: bool = False) -> Refused:
        return Refused([self.problem(placed, key, message, help, key_itself)])

    def problem(self, placed: Placed, key: Path, message: str, help: str = "", key_itself: bool = False) -> Problem:
        where = f" (at {placed.path})" if "." in placed.path else ""
        return self.document.problem((*placed.place, *key), message + where, help, key=key_itself)


def _plain(parameters: Mapping[str, Any]) -> dict[str, Number]:
    return {k: v for k, v in parameters.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def numeric_symbols(component: Component, parameters: Mapping[str, Any]) -> dict[str, Number]:
    """Parameters as numbers, by name and symbol; a choice becomes a flag `name_choice` that is 1 or 0."""
    out: dict[str, Number] = {}
    for name, value in parameters.items():
        spec = component.parameters.get(name)
        if isinstance(spec, ChoiceParameter):
            out |= {f"{name}_{choice}": int(choice == value) for choice in spec.choices}
        elif isinstance(value, int | float):
            out[name] = int(value) if isinstance(value, bool) else value
            if spec is not None and spec.symbol:
                out[spec.symbol] = out[name]
    return out
