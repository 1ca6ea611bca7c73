"""A derivation as JSON: the same steps, formulas as text and as LaTeX."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import isfinite
from typing import Any

from lensnet.derivation.result import Derivation, Line, Part, Table

SCHEMA = 1


def as_data(derivation: Derivation) -> dict[str, Any]:
    """Plain data; numbers that are not finite become text."""
    return {
        "schema": SCHEMA,
        "kind": derivation.kind,
        "name": derivation.name,
        "title": derivation.title,
        "formulas": {name: {"text": line.text, "latex": line.latex} for name, line in derivation.results.items()},
        "numbers": {name: _number(value) for name, value in derivation.numbers.items()},
        "fixed_points": [{key: _number(value) for key, value in asdict(p).items()} for p in derivation.fixed_points],
        "steps": [{"title": step.title, "parts": [_part(part) for part in step.parts]} for step in derivation.steps],
    }


def to_json(derivation: Derivation) -> str:
    """Strict JSON."""
    return json.dumps(as_data(derivation), indent=1, allow_nan=False) + "\n"


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Line):
        return {"formula": part.text, "latex": part.latex, "about": part.about}
    if isinstance(part, Table):
        return {"header": list(part.header), "rows": [list(row) for row in part.rows]}
    return {"text": part}


def _number(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not isfinite(value) else value
