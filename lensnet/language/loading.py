"""A file in, a validated spec out: read, apply `--set` overrides, evaluate constants, validate, check formulas."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Any

from lensnet.language.body_spec import Repeat, Use, walk
from lensnet.language.checks import component_problems, formula_problem
from lensnet.language.component_spec import ComponentSpec
from lensnet.language.document import Document, Path
from lensnet.language.formula import FormulaError, check_formula, evaluate_number, is_name
from lensnet.language.network_spec import NetworkSpec
from lensnet.language.overrides import apply_overrides
from lensnet.language.problems import validate
from lensnet.language.source import Problem, Source, SpecError
from lensnet.language.yaml_tree import read_yaml


def load_component_spec(path_or_source: str | FilePath | Source) -> tuple[ComponentSpec, Document]:
    """A component file. Raises SpecError with every problem in it."""
    document = read_yaml(_source(path_or_source))
    spec = validate(ComponentSpec, document, {})
    problems = component_problems(spec, document, ())
    if not spec.component:
        problems.append(document.problem((), "`component` is missing", "the component's name, the same as the file's"))
    if problems:
        raise SpecError(problems)
    return spec, document


def load_network_spec(
    path_or_source: str | FilePath | Source, overrides: Iterable[str] = ()
) -> tuple[NetworkSpec, Document]:
    """A network file, with `path=value` overrides applied. Raises SpecError with every problem in it."""
    document = read_yaml(_source(path_or_source))
    apply_overrides(document, overrides)
    constants, problems = _constants(document)
    try:
        spec = validate(NetworkSpec, document, {"constants": constants})
    except SpecError as error:
        problems += error.problems
    else:
        problems += _network_problems(spec, document)
    if problems:
        raise SpecError(problems)
    named = {name: part.model_copy(update={"component": name}) for name, part in spec.define.items()}
    return spec.model_copy(update={"constants": constants, "define": named}), document


def _source(path_or_source: str | FilePath | Source) -> Source:
    return path_or_source if isinstance(path_or_source, Source) else Source.read(path_or_source)


def _constants(document: Document) -> tuple[dict[str, int | float], list[Problem]]:
    """The constants as numbers: each may be a formula of those before it. A wrong one counts as 1 from there on."""
    given = document.data.get("constants")
    values: dict[str, int | float] = {}
    problems = []
    for name, value in given.items() if isinstance(given, dict) else ():
        if not is_name(name):
            continue  # the model refuses it
        try:
            values[name] = evaluate_number(value, values)
        except FormulaError as error:
            problems.append(formula_problem(document, ("constants", name), error))
            values[name] = 1
    return values, problems


def _network_problems(spec: NetworkSpec, document: Document) -> list[Problem]:
    """What is wrong between the parts of a network file; what needs the catalogue is checked where that is known."""
    constants = set(spec.constants)
    problems = _body_problems(spec.body, ("body",), constants, document)
    for name, block in spec.blocks.items():
        path: Path = ("blocks", name)
        inner = (*path, "body") if (*path, "body") in document.values else path
        problems += _body_problems(block.body, inner, constants | set(block.parameters), document)
        if name in spec.define:
            problems.append(document.problem(path, f"'{name}' is also defined as a component", key=True))
    for name, component in spec.define.items():
        path = ("define", name)
        problems += component_problems(component, document, path)
        if component.component not in ("", name):
            problems.append(document.problem((*path, "component"), f"this component is called '{name}' above"))
        if component.body is not None:
            names = constants | set(component.parameters)
            problems += _body_problems(component.body, (*path, "body"), names, document)
    return problems


def _body_problems(body: list[Use | Repeat], path: Path, names: set[str], document: Document) -> list[Problem]:
    problems = _name_problems(body, path, document)
    for here, item in walk(body, path):
        formulas: dict[Path, Any] = {(*here, "repeat"): item.repeat} if isinstance(item, Repeat) else {}
        if isinstance(item, Repeat):
            problems += _name_problems(item.body, (*here, "body"), document)
        else:
            problems += _name_problems(item.branch or [], (*here, "branch"), document)
            formulas |= {(*here, name): value for name, value in item.parameters.items()}
            formulas |= {(*here, "given", name): value for name, value in item.given.items()}
        for place, value in formulas.items():
            problems += _value_problems(value, place, names, document)
    return problems


def _name_problems(body: list[Use | Repeat], path: Path, document: Document) -> list[Problem]:
    """Items of one body with the same name: their paths would be the same."""
    first: dict[str, int] = {}
    problems = []
    for index, item in enumerate(body):
        if item.name is not None and item.name in first:
            line = document.place((*path, first[item.name], "name")).line
            here = (*path, index, "name")
            problems.append(
                document.problem(here, f"two items are called '{item.name}'", f"the first is on line {line}")
            )
        elif item.name is not None:
            first[item.name] = index
    return problems


def _value_problems(value: Any, path: Path, names: set[str], document: Document) -> list[Problem]:
    """A text that is more than one word is a formula of the constants. (One word may be a choice.)"""
    if isinstance(value, tuple):
        return [found for i, part in enumerate(value) for found in _value_problems(part, (*path, i), names, document)]
    if not isinstance(value, str) or (is_name(value) and path[-1] != "repeat"):
        return []
    try:
        check_formula(value, names)
    except FormulaError as error:
        return [formula_problem(document, path, error)]
    return []
