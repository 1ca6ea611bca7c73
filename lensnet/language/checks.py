"""Checks across the fields of one component: that its formulas name only what exists, and that ports agree."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from lensnet.language.body_checks import body_problems
from lensnet.language.component_spec import BooleanParameter, ChoiceParameter, ComponentSpec, LinearCoherence
from lensnet.language.document import Document, Path
from lensnet.language.effect_spec import Assumption, Effect
from lensnet.language.formula import Arity, FormulaError, check_condition, check_formula
from lensnet.language.objective_spec import CurvatureSpec, ObjectiveSpec
from lensnet.language.source import Problem, closest, did_you_mean
from lensnet.language.symbols import (
    ITERATE,
    MODE_INDICES,
    NOISE,
    OPERATORS,
    PRODUCT_OPERATORS,
    SPECIAL,
    TENSOR_OPERATORS,
    constant_symbols,
    effect_symbols,
    forward_symbols,
    parameter_symbols,
)

# What declares symbols: where one of these is wrong, every formula that uses it would look wrong too.
OF_WEIGHTS = ("tangent", "tangent_input")
"""Kernel effects that are said of each weight tensor, not of each port."""
DECLARATIONS = ("ports", "parameters", "weights", "needs", "let", "objective", "memory", "uses")
INPUT = "x"  # of a pointwise function


def component_problems(
    spec: ComponentSpec, document: Document, prefix: Path, constants: Collection[str] = ()
) -> list[Problem]:
    """What is wrong with a component whose data stands at `prefix`; `constants` are those of its network file."""
    checker = _Checker(spec, document, prefix)
    checker.formulas()
    if spec.body is not None:
        names = {*constants, *checker.constants}
        checker.found += body_problems(spec.body, (*prefix, "body"), names, document)
    return checker.found


class _Checker:
    def __init__(self, spec: ComponentSpec, document: Document, prefix: Path) -> None:
        self.spec, self.document, self.prefix = spec, document, prefix
        self.constants = constant_symbols(spec)
        self.symbols = effect_symbols(spec)
        self.let = {**(spec.objective.per_mode if spec.objective else {}), **spec.let}
        self.found: list[Problem] = []

    def formulas(self) -> None:
        spec = self.spec
        if spec.function is not None:
            if spec.ports.names != [INPUT]:
                self.add(("ports", "in"), f"a pointwise function has one input, called {INPUT}")
            self.formula(("function",), spec.function, forward_symbols(spec))
        for index, kink in enumerate(spec.kinks or ()):
            self.formula(("kinks", index), kink, self.constants)
        if spec.forward is not None:
            self.formula(("forward",), spec.forward, forward_symbols(spec), TENSOR_OPERATORS)
        for name, weight in spec.weights.items():
            self.formula(("weights", name, "fan_in"), weight.fan_in, self.constants)
            self.formula(("weights", name, "fan_out"), weight.fan_out, self.constants)
        self.parameters()
        self.shape()
        self.fits()
        self.needs()
        self.abbreviations()
        self.effects()
        self.coherence()
        self.assumptions(("assumes",), spec.assumes)
        self.matches()
        if spec.objective is not None:
            self.objective(spec.objective)

    def matches(self) -> None:
        """What a module of torch gives must be something that the component has."""
        for section, kind, known in (
            ("parameters", "parameter", self.spec.parameters),
            ("weights", "weight tensor", self.spec.weights),
        ):
            for name in getattr(self.spec.matches, section):
                if name not in known:
                    told = f"{self.spec.component or 'this component'} has no {kind} '{name}'"
                    help = did_you_mean(name, known) or f"it has no {kind}s"
                    self.found.append(
                        self.document.problem((*self.prefix, "matches", section, name), told, help, key=True)
                    )

    def objective(self, objective: ObjectiveSpec) -> None:
        path: Path = ("objective",)
        numbers = set(parameter_symbols(self.spec))
        self.formula((*path, "size"), objective.size, numbers)
        listed = isinstance(objective.modes, list)
        for axis, text in enumerate(objective.axes):
            self.formula((*path, "modes", axis) if listed else (*path, "modes"), text, numbers)
        numbers |= {*MODE_INDICES[: len(objective.axes)], "modes"}
        for kind, formulas in (("spectrum", objective.spectrum), ("coordinates", objective.coordinates)):
            for name, text in formulas.items():
                self.formula((*path, kind, name), text, numbers)
                numbers.add(name)
        before: dict[str, str] = {}
        for name, text in objective.per_mode.items():
            mixed = PRODUCT_OPERATORS if objective.gradient else None
            self.formula((*path, name), text, numbers, mixed, let=before)
            before[name] = text
        for name, text in objective.gradient.items():
            self.effect_formula((*path, "gradient", name), text)
        for place in CurvatureSpec.model_fields:
            self.effect_formula((*path, "curvature", place), getattr(objective.curvature, place))
        for name, quantity in objective.quantities.items():
            self.effect((*path, "quantities", name), quantity)

    def parameters(self) -> None:
        for name, parameter in self.spec.parameters.items():
            path = ("parameters", name)
            if isinstance(parameter, BooleanParameter | ChoiceParameter):
                continue
            if isinstance(parameter.default, str):
                self.formula((*path, "default"), parameter.default, set(self.constants) - {name, parameter.symbol})
            if parameter.min is not None and parameter.max is not None and parameter.min > parameter.max:
                self.add((*path, "max"), f"max is below min ({parameter.min})")

    def shape(self) -> None:
        shape = self.spec.shape
        if shape.channels is not None:
            self.formula(("shape", "channels"), shape.channels, self.constants)
        if isinstance(shape.positions, str):
            self.formula(("shape", "positions"), shape.positions, self.constants)
        for index, size in enumerate(shape.positions if isinstance(shape.positions, list) else ()):
            self.formula(("shape", "positions", index), size, self.constants)

    def fits(self) -> None:
        fits = self.spec.fits
        for key, bounds in (("divides", fits.divides), ("at_most", fits.at_most)):
            for name, texts in bounds.items():
                if name not in self.spec.parameters:
                    help = did_you_mean(name, self.spec.parameters)
                    self.add(("fits", key, name), f"there is no parameter '{name}'", help, key=True)
                for index, text in enumerate(texts):
                    self.formula(("fits", key, name, index), text, self.constants)

    def needs(self) -> None:
        for name, need in self.spec.needs.items():
            if need.port is not None:
                self.port(("needs", name, "port"), need.port)
            if need.when is not None:
                self.formula(("needs", name, "when"), need.when, self.constants, condition=True)

    def abbreviations(self) -> None:
        before = dict(self.spec.objective.per_mode) if self.spec.objective is not None else {}
        for name, text in self.spec.let.items():
            if name in self.symbols:
                self.add(("let", name), f"'{name}' means something already: {self.symbols[name]}", key=True)
            if self.formula(("let", name), text, self.symbols, OPERATORS, let=before):
                before[name] = text
            else:
                before[name] = "0"  # so that what uses it is not called unknown

    def effects(self) -> None:
        for level, quantities in self.spec.effects.items():
            for quantity, entry in quantities.items():
                path = ("effects", level, quantity)
                if self.spec.acts_on == "state":
                    self.state_variable(path, quantity)
                if isinstance(entry, Effect):
                    self.effect(path, entry)
                    continue
                named = self.weight if quantity in OF_WEIGHTS else self.port
                for name, effect in entry.items():
                    named((*path, name), name, key=True, also=tuple(Effect.model_fields))
                    self.effect((*path, name), effect)
        stated = self.spec.effects.get("moments", {})
        if "second_moment" in stated and "mean" not in stated:
            help = "say what becomes of the mean too, as in mean: {formula: 0}"
            self.add(("effects", "moments", "second_moment"), "a second moment without a mean", help, key=True)

    def state_variable(self, path: Path, name: str) -> None:
        """A step gives the iterate (each of its coordinates), what it remembers, or a coordinate that it names."""
        known = [ITERATE, NOISE, *self.spec.memory, *self.spec.uses]
        if name not in known:
            self.add(path, f"a step has no '{name}' to give", did_you_mean(name, known), key=True)

    def effect(self, path: Path, effect: Effect) -> None:
        self.effect_formula((*path, "formula"), effect.formula)
        if effect.error is not None:
            self.effect_formula((*path, "error"), effect.error)
        if effect.floor is not None:
            self.effect_formula((*path, "floor"), effect.floor)
        self.assumptions((*path, "assumes"), effect.assumes)

    def coherence(self) -> None:
        if not isinstance(self.spec.coherence, LinearCoherence):
            return
        path, factors = ("coherence", "linear"), self.spec.coherence.linear
        if isinstance(factors, str):
            self.effect_formula(path, factors)
            return
        for port, factor in factors.items():
            self.port((*path, port), port, key=True)
            self.effect_formula((*path, port), factor)

    def assumptions(self, path: Path, assumptions: list[Assumption]) -> None:
        for index, assumption in enumerate(assumptions):
            if assumption.check is not None:
                self.effect_formula((*path, index, "check"), assumption.check, condition=True)

    def port(self, path: Path, name: str, key: bool = False, also: tuple[str, ...] = ()) -> None:
        names = self.spec.ports.names
        if name not in names:
            help = did_you_mean(name, also) if closest(name, also) else did_you_mean(name, names)
            self.add(path, f"there is no input port '{name}'", help, key)

    def weight(self, path: Path, name: str, key: bool = False, also: tuple[str, ...] = ()) -> None:
        names = list(self.spec.weights)
        if name not in names:
            help = did_you_mean(name, also) if closest(name, also) else did_you_mean(name, names)
            self.add(path, f"there is no weight '{name}'", help, key)

    def effect_formula(self, path: Path, text: str, condition: bool = False) -> None:
        self.formula(path, text, self.symbols, OPERATORS, condition, self.let)

    def formula(
        self,
        path: Path,
        text: str,
        symbols: Iterable[str],
        operators: Mapping[str, Arity] | None = None,
        condition: bool = False,
        let: Mapping[str, str] | None = None,
    ) -> bool:
        check = check_condition if condition else check_formula
        special = SPECIAL if operators is OPERATORS else None
        try:
            check(text, symbols, operators or {}, special=special, let=let)
        except FormulaError as error:
            if let and error.text != text:
                return False  # an abbreviation is wrong, which is reported at its own place
            self.found.append(self.document.formula_problem((*self.prefix, *path), error))
            return False
        return True

    def add(self, path: Path, message: str, help: str = "", key: bool = False) -> None:
        self.found.append(self.document.problem((*self.prefix, *path), message, help, key))
