"""A component: one YAML file, read once, with its formulas ready to be evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lensnet.language.component_spec import ComponentSpec, LinearCoherence, Need
from lensnet.language.document import Document
from lensnet.language.effect_spec import Assumption, Effect
from lensnet.language.source import did_you_mean
from lensnet.language.symbols import effect_symbols
from lensnet.quantities.quantity import QUANTITIES

if TYPE_CHECKING:
    from lensnet.catalog.coherence import Coherence
    from lensnet.catalog.derivation import Derivation
    from lensnet.catalog.effects import AssumptionModel, Comparison, CompiledFormula, EffectModel
    from lensnet.catalog.objective import ObjectiveModel

FORK = "fork"
_COMPARISON = re.compile(r"<=|>=|<|>")


class Component:
    """One kind of component. Everything about it comes from `spec`; formulas are compiled when first asked for.

    `family` is the folder it lies in (`"defined here"` for a component of one network file).
    """

    def __init__(self, spec: ComponentSpec, document: Document, family: str, name: str | None = None) -> None:
        self.spec = spec
        self.document = document
        self.family = family
        self.name = name or spec.component
        self.title = spec.title or self.name
        self.optics = spec.optics
        self.intuition = spec.intuition
        self.references: Mapping[str, str] = spec.references

        named: list[tuple[str, ...]] = [("needs", quantity) for quantity in spec.needs]
        if spec.objective is not None:
            named += [("objective", "quantities", quantity) for quantity in spec.objective.quantities]
        for place in named:
            if place[-1] not in QUANTITIES:
                help = did_you_mean(place[-1], QUANTITIES)
                raise document.error(place, f"no quantity is called '{place[-1]}'", help, key=True)

    def __repr__(self) -> str:
        return f"Component({self.name})"

    @property
    def implementation(self) -> str:
        """Name of the torch implementation."""
        if self.spec.implementation:
            return self.spec.implementation
        if self.spec.function is not None:
            return "pointwise"
        return "forward" if self.spec.forward is not None else self.name

    @property
    def ports_in(self) -> list[str]:
        return self.spec.ports.names

    @property
    def variadic(self) -> bool:
        return self.spec.ports.variadic

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Name -> parameter spec (type, bounds, default, symbol, about)."""
        return self.spec.parameters

    @property
    def weights(self) -> Mapping[str, Any]:
        return self.spec.weights

    @property
    def needs(self) -> Mapping[str, Need]:
        """Side quantities of an input port that the effects use."""
        return self.spec.needs

    @cached_property
    def uses_cross_moments(self) -> bool:
        """Whether the effects need E[a b] of the signals that meet at the ports."""
        if len(self.ports_in) == 1 and not self.variadic or self.is_fork:
            return False
        texts = [
            effect.formula
            for effects in self.spec.effects.values()
            for entry in effects.values()
            for effect in ([entry] if isinstance(entry, Effect) else entry.values())
        ]
        return any("sum_pairs" in text or "k_" in text for text in (*texts, *self.spec.let.values()))

    @property
    def function(self) -> str | None:
        """The formula of a pointwise component in its input `x`."""
        return self.spec.function

    @property
    def forward(self) -> str | None:
        """The tensor expression of a user-made mixing component."""
        return self.spec.forward

    @property
    def is_fork(self) -> bool:
        return self.name == FORK

    @property
    def acts_on_state(self) -> bool:
        """Whether it is a step of an algorithm, whose signal is the iterate."""
        return self.spec.acts_on == "state"

    @cached_property
    def objective(self) -> ObjectiveModel | None:
        """The modes and quantities of a problem for such steps; None for every other component."""
        if self.spec.objective is None:
            return None
        from lensnet.catalog.objective import ObjectiveModel

        return ObjectiveModel(self.spec, self.spec.objective)

    @cached_property
    def derivations(self) -> Mapping[str, Derivation]:
        """From which lower level every level follows, by which limit, at which order."""
        from lensnet.catalog.derivation import derivations

        return {str(level): derivation for level, derivation in derivations(self.spec.derives_from).items()}

    @property
    def homogeneous(self) -> bool:
        return self.spec.homogeneous

    @property
    def scale_invariant(self) -> bool:
        return self.spec.scale_invariant

    @property
    def law(self) -> str | None:
        """What becomes of a Gaussian: kept, scaled, broken, or None (follows from the coherence)."""
        return self.spec.law

    @cached_property
    def symbols(self) -> frozenset[str]:
        """Everything that the effects may name."""
        return frozenset(effect_symbols(self.spec))

    @cached_property
    def coherence(self) -> Coherence:
        from lensnet.catalog.coherence import Coherence

        given = self.spec.coherence
        if isinstance(given, LinearCoherence):
            factors = given.linear if isinstance(given.linear, dict) else {"": given.linear}
            return Coherence("linear", {port: self._formula(text) for port, text in factors.items()})
        if given.kind == "unknown" and self.function is not None:
            return Coherence("pointwise", {})
        return Coherence(given.kind, {})

    @cached_property
    def _models(self) -> dict[tuple[str, str, str], EffectModel]:
        from lensnet.catalog.effects import EffectModel

        out: dict[tuple[str, str, str], EffectModel] = {}
        for level, effects in self.spec.effects.items():
            for quantity, entry in effects.items():
                by_port = {"": entry} if isinstance(entry, Effect) else entry
                for port, effect in by_port.items():
                    out[level, quantity, port] = EffectModel(
                        quantity,
                        self._formula(effect.formula),
                        None if effect.error in (None, "0") else self._formula(effect.error),
                        tuple(effect.cites),
                        effect.about,
                        tuple(self._assumption(given) for given in effect.assumes),
                    )
        return out

    @cached_property
    def predicted_quantities(self) -> frozenset[str]:
        """Names of the quantities that its effects predict, at any level."""
        return frozenset(quantity for effects in self.spec.effects.values() for quantity in effects)

    @property
    def quantities(self) -> frozenset[str]:
        """Names of everything that can be asked for at its output."""
        return self.predicted_quantities.union(QUANTITIES, self.observes)

    @property
    def observes(self) -> list[str]:
        """Names of the quantities of its own that are measured without a prediction."""
        return self.spec.observes

    def effects(self, level: str) -> dict[str, EffectModel]:
        """Forward effects of a level: quantity -> model."""
        return {
            quantity: model
            for (at, quantity, port), model in self._models.items()
            if at == level and not port and not quantity.startswith("backward_")
        }

    def backward_effect(self, level: str, port: str) -> EffectModel | None:
        """The gradient's second moment at one port, None when not modelled."""
        models = self._models
        key = port.split(".")[0]
        return models.get((level, "backward_second_moment", key)) or models.get((level, "backward_second_moment", ""))

    def port_effects(self, level: str, quantity: str) -> dict[str, EffectModel]:
        """One quantity of a level by port; the port "" stands for all that have no formula of their own."""
        return {port: model for (at, name, port), model in self._models.items() if (at, name) == (level, quantity)}

    @cached_property
    def assumptions(self) -> list[AssumptionModel]:
        return [self._assumption(given) for given in self.spec.assumes]

    def _assumption(self, given: Assumption) -> AssumptionModel:
        from lensnet.catalog.effects import AssumptionModel

        return AssumptionModel(given.text or given.check or "", self._comparison(given.check), given.below)

    def effect_assumptions(self, level: str, quantity: str) -> list[AssumptionModel]:
        """What one effect assumes beyond the component's own assumptions."""
        key = (str(level), quantity)
        if key not in self._assumed:
            from lensnet.catalog.effects import AssumptionModel

            entry = self.spec.effects.get(level, {}).get(quantity)  # type: ignore[call-overload]
            self._assumed[key] = [
                AssumptionModel(given.text or given.check or "", self._comparison(given.check), given.below)
                for given in (entry.assumes if isinstance(entry, Effect) else ())
            ]
        return self._assumed[key]

    @cached_property
    def _assumed(self) -> dict[tuple[str, str], list[AssumptionModel]]:
        return {}

    @cached_property
    def _conditions(self) -> dict[str, Comparison | None]:
        return {name: self._comparison(need.when) for name, need in self.needs.items()}

    def active_needs(self, env: Mapping[str, Any]) -> dict[str, Need]:
        """The side quantities that matter at these parameters and shapes (a need may state `when`)."""
        conditions = self._conditions
        return {
            name: need
            for name, need in self.needs.items()
            if (condition := conditions[name]) is None or condition.holds(env)
        }

    def _comparison(self, text: str | None) -> Comparison | None:
        if text is None:
            return None
        from lensnet.catalog.effects import Comparison

        sign = _COMPARISON.search(text)
        assert sign is not None  # the language layer has checked that it is one comparison
        left, right = self._formula(text[: sign.start()]), self._formula(text[sign.end() :])
        larger, smaller = (left, right) if sign.group()[0] == ">" else (right, left)
        return Comparison(larger, smaller, strict=len(sign.group()) == 1)

    def _formula(self, text: str) -> CompiledFormula:
        from lensnet.catalog.effects import CompiledFormula

        let = self.spec.let if self.spec.objective is None else {**self.spec.objective.per_mode, **self.spec.let}
        return CompiledFormula(str(text).strip(), self.symbols, tuple(let.items()))
