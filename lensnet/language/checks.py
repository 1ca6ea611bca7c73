"""Checks across the fields of one component: that its formulas name only what exists, and that ports agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lensnet.language.component_spec import (
    Assumption,
    BooleanParameter,
    ChoiceParameter,
    ComponentSpec,
    Effect,
    LinearCoherence,
)
from lensnet.language.document import Document, Path
from lensnet.language.formula import Arity, FormulaError, check_condition, check_formula
from lensnet.language.source import Problem, did_you_mean
from lensnet.language.symbols import OPERATORS, TENSOR_OPERATORS, constant_symbols, effect_symbols, forward_symbols


def component_problems(spec: ComponentSpec, document: Document, prefix: Path) -> list[Problem]:
    """What is wrong with a component whose data stands at `prefix`."""
    return _Checker(spec, document, prefix).problems()


class _Checker:
    def __init__(self, spec: ComponentSpec, document: Document, prefix: Path) -> None:
        self.spec, self.document, self.prefix = spec, document, prefix
        self.found: list[Problem] = []

    def problems(self) -> list[Problem]:
        spec = self.spec
        constants = constant_symbols(spec)
        effects = effect_symbols(spec)
        if spec.function is not None:
            self.formula(("function",), spec.function, forward_symbols(spec))
        for index, kink in enumerate(spec.kinks or ()):
            self.formula(("kinks", index), kink, constants)
        if spec.forward is not None:
            self.formula(("forward",), spec.forward, forward_symbols(spec), TENSOR_OPERATORS)
        for name, weight in spec.weights.items():
            self.formula(("weights", name, "fan_in"), weight.fan_in, constants)
            self.formula(("weights", name, "fan_out"), weight.fan_out, constants)
        self.parameters(constants)
        self.shape(constants)
        self.effects(effects)
        self.coherence(effects)
        self.assumptions(("assumes",), spec.assumes, effects)
        for name, need in spec.needs.items():
            if need.port is not None:
                self.port(("needs", name, "port"), need.port)
        return self.found

    def parameters(self, constants: Mapping[str, str]) -> None:
        for name, parameter in self.spec.parameters.items():
            path = ("parameters", name)
            if isinstance(parameter, BooleanParameter | ChoiceParameter):
                continue
            if isinstance(parameter.default, str):
                self.formula((*path, "default"), parameter.default, set(constants) - {name, parameter.symbol})
            if parameter.min is not None and parameter.max is not None and parameter.min > parameter.max:
                self.add((*path, "max"), f"max is below min ({parameter.min})")

    def shape(self, constants: Mapping[str, str]) -> None:
        shape = self.spec.shape
        if shape.channels is not None:
            self.formula(("shape", "channels"), shape.channels, constants)
        if isinstance(shape.positions, str):
            self.formula(("shape", "positions"), shape.positions, constants)
        for index, size in enumerate(shape.positions if isinstance(shape.positions, list) else ()):
            self.formula(("shape", "positions", index), size, constants)

    def effects(self, symbols: Mapping[str, str]) -> None:
        for level, quantities in self.spec.effects.items():
            for quantity, entry in quantities.items():
                path = ("effects", level, quantity)
                if isinstance(entry, Effect):
                    self.effect(path, entry, symbols)
                    continue
                for port, effect in entry.items():
                    self.port((*path, port), port, key=True)
                    self.effect((*path, port), effect, symbols)

    def effect(self, path: Path, effect: Effect, symbols: Mapping[str, str]) -> None:
        self.formula((*path, "formula"), effect.formula, symbols, OPERATORS)
        if effect.error is not None:
            self.formula((*path, "error"), effect.error, symbols, OPERATORS)
        self.assumptions((*path, "assumes"), effect.assumes, symbols)

    def coherence(self, symbols: Mapping[str, str]) -> None:
        if not isinstance(self.spec.coherence, LinearCoherence):
            return
        path, factors = ("coherence", "linear"), self.spec.coherence.linear
        if isinstance(factors, str):
            self.formula(path, factors, symbols, OPERATORS)
            return
        for port, factor in factors.items():
            self.port((*path, port), port, key=True)
            self.formula((*path, port), factor, symbols, OPERATORS)

    def assumptions(self, path: Path, assumptions: list[Assumption], symbols: Mapping[str, str]) -> None:
        for index, assumption in enumerate(assumptions):
            if assumption.check is not None:
                self.formula((*path, index, "check"), assumption.check, symbols, OPERATORS, condition=True)

    def port(self, path: Path, name: str, key: bool = False) -> None:
        names = self.spec.ports.names
        if name not in names:
            self.add(path, f"there is no input port '{name}'", did_you_mean(name, names), key)

    def formula(
        self,
        path: Path,
        text: str,
        symbols: Iterable[str],
        operators: Mapping[str, Arity] | None = None,
        condition: bool = False,
    ) -> None:
        try:
            (check_condition if condition else check_formula)(text, symbols, operators or {})
        except FormulaError as error:
            self.found.append(formula_problem(self.document, (*self.prefix, *path), error))

    def add(self, path: Path, message: str, help: str = "", key: bool = False) -> None:
        self.found.append(self.document.problem((*self.prefix, *path), message, help, key))


def formula_problem(document: Document, path: Path, error: FormulaError) -> Problem:
    """The problem of a formula at `path`; an effect may be written without its `formula:` key."""
    while path not in document.values and path:
        path = path[:-1]
    return document.problem(path, error.message, error.help, column=error.column, length=error.length)
