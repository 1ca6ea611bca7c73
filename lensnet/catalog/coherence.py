"""What a component's output keeps of a correlation that its input had with another signal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lensnet.catalog.effects import CompiledFormula


@dataclass(frozen=True)
class Coherence:
    """`fresh`: nothing (independent zero-mean weights); `linear`: a factor of it; `pointwise`: the mean slope of the
    function; `part`: what those channels have of it, and nothing with parts of other channels; `unknown`: cannot be
    said."""

    kind: Literal["fresh", "linear", "pointwise", "part", "unknown"]
    factors: Mapping[str, CompiledFormula]

    def factor_formula(self, port: str) -> CompiledFormula:
        return self.factors.get(port.split(".")[0]) or self.factors[""]

    def factor(self, port: str, env: Mapping[str, Any], operators: Mapping[str, Any]) -> Any:
        """The factor on what comes in at `port`, a number or a field `(E, *positions)`."""
        return self.factor_formula(port).evaluate(env, operators)
