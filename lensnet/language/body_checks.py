"""Checks of a body: names that are taken twice, formulas that cannot be read, repeats of an unknown number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lensnet.language.body_spec import Repeat, Use, walk
from lensnet.language.document import Document, Path
from lensnet.language.formula import FormulaError, check_formula, read_formula
from lensnet.language.source import Problem

LOOP_INDEX = "index"  # of a repeat, in the formulas of its body


def body_problems(body: Sequence[Use | Repeat], path: Path, names: set[str], document: Document) -> list[Problem]:
    """What is wrong with the items at `path`, where formulas may use the constants `names`."""
    names = names | {LOOP_INDEX}
    problems = _name_problems(body, path, document)
    for here, item in walk(body, path):
        if isinstance(item, Repeat):
            problems += _name_problems(item.body, (*here, "body"), document)
            problems += formula_problems(item.repeat, (*here, "repeat"), names, document)
        else:
            problems += _name_problems(item.branch or [], (*here, "branch"), document)
            if item.repeat is not None:
                problems += formula_problems(item.repeat, (*here, "repeat"), names, document)
            for name, value in item.parameters.items():
                problems += formula_problems(value, (*here, name), None, document)
            for name, value in item.given.items():
                problems += formula_problems(value, (*here, "given", name), None, document)
    return problems


def formula_problems(value: Any, path: Path, names: set[str] | None, document: Document) -> list[Problem]:
    """A text is a formula. Which names it may use is known here (`names`), or only where the component is (None)."""
    if isinstance(value, tuple):
        parts = enumerate(value)
        return [found for index, part in parts for found in formula_problems(part, (*path, index), names, document)]
    if not isinstance(value, str):
        return []
    try:
        read_formula(value) if names is None else check_formula(value, names)
    except FormulaError as error:
        return [document.formula_problem(path, error)]
    return []


def _name_problems(body: Sequence[Use | Repeat], path: Path, document: Document) -> list[Problem]:
    """Items of one body with the same name: their paths would be the same."""
    first: dict[str, int] = {}
    problems = []
    for index, item in enumerate(body):
        if item.name is None:
            continue
        if item.name in first:
            line = document.place((*path, first[item.name], "name")).line
            message, help = f"two items are called '{item.name}'", f"the first is on line {line}"
            problems.append(document.problem((*path, index, "name"), message, help))
        first.setdefault(item.name, index)
    return problems
