"""A file in, a validated spec out: read, apply `--set` overrides, evaluate constants, validate, check formulas."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from lensnet.language.body_checks import body_problems, formula_problems
from lensnet.language.checks import DECLARATIONS, component_problems
from lensnet.language.component_spec import ComponentSpec
from lensnet.language.document import Document, Path
from lensnet.language.formula import FormulaError, UnknownValue, evaluate_number, is_name
from lensnet.language.network_spec import NetworkSpec
from lensnet.language.overrides import apply_overrides
from lensnet.language.problems import validate
from lensnet.language.source import Problem, Source, SpecError
from lensnet.language.yaml_tree import read_yaml


def load_component_spec(path_or_source: str | FilePath | Source) -> tuple[ComponentSpec, Document]:
    """A component file. Raises SpecError with every problem in it."""
    document = read_yaml(_source(path_or_source))
    found = validate(ComponentSpec, document, {})
    problems = list(found.problems)
    if found.spec is not None and _declares(found.wrong, ()):
        problems += component_problems(found.spec, document, ())
    if "component" not in document.data:
        problems.append(document.problem((), "`component` is missing", "the component's name, the same as the file's"))
    if problems or found.spec is None:
        raise SpecError(problems)
    return found.spec, document


class NetworkReading(NamedTuple):
    """A network file as far as it can be read: what is left of it without its wrong parts, and what those are.

    spec: None where nothing is left. wrong: places of what was taken out, or is not to be relied on.
    """

    document: Document
    spec: NetworkSpec | None
    problems: list[Problem]
    wrong: list[Path]


def read_network_spec(
    path_or_source: str | FilePath | Source, overrides: Iterable[str] = (), objectives: Collection[str] = ()
) -> NetworkReading:
    """A network file, with `path=value` overrides applied. Raises SpecError for a text that is no YAML.

    objectives: names that the input's source may have besides those of batches of data. In the spec, a constant whose
    formula is wrong is None.
    """
    document = read_yaml(_source(path_or_source))
    apply_overrides(document, overrides)
    constants, problems = _constants(document)
    ComponentSpec.model_rebuild()  # compiled once: the network, which may define components, then takes it over
    known = {*objectives, *_own_objectives(document)}
    numbers = {name: 1 if value is None else value for name, value in constants.items()}
    found = validate(NetworkSpec, document, {"constants": numbers, "objectives": known})
    problems += found.problems
    wrong = list(found.wrong)
    unknown = [name for name, value in constants.items() if value is None]
    if _mentions(document.at(("input",)), unknown):
        wrong.append(("input",))
    if found.spec is None:
        return NetworkReading(document, None, problems, wrong)
    spec = found.spec.model_copy(update={"constants": constants})
    for name, part in spec.define.items():
        if told := _definition_problems(name, part, spec, document, wrong):
            problems += told
            wrong.append(("define", name))
    problems += _body_problems(spec, document)
    named = {name: part.model_copy(update={"component": name}) for name, part in spec.define.items()}
    return NetworkReading(document, spec.model_copy(update={"define": named}), problems, wrong)


def load_network_spec(
    path_or_source: str | FilePath | Source, overrides: Iterable[str] = (), objectives: Collection[str] = ()
) -> tuple[NetworkSpec, Document]:
    """The same, whole. Raises SpecError with every problem that can be told without the catalogue of components."""
    reading = read_network_spec(path_or_source, overrides, objectives)
    if reading.problems or reading.spec is None:
        raise SpecError(reading.problems)
    return reading.spec, reading.document


def _source(path_or_source: str | FilePath | Source) -> Source:
    return path_or_source if isinstance(path_or_source, Source) else Source.read(path_or_source)


def _own_objectives(document: Document) -> list[str]:
    given = document.data.get("define")
    entries = given.items() if isinstance(given, dict) else ()
    return [name for name, part in entries if isinstance(part, dict) and "objective" in part]


def _constants(document: Document) -> tuple[dict[str, int | float | None], list[Problem]]:
    """The constants as numbers: each may be a formula of those before it. None for a wrong one, and what uses it."""
    given = document.data.get("constants")
    values: dict[str, int | float | None] = {}
    problems = []
    for name, value in given.items() if isinstance(given, dict) else ():
        if not is_name(name):
            continue  # the model refuses it
        try:
            values[name] = evaluate_number(value, values)
        except UnknownValue:
            values[name] = None
        except FormulaError as error:
            problems.append(document.formula_problem(("constants", name), error))
            values[name] = None
    return values, problems


def _mentions(data: Any, names: Collection[str]) -> bool:
    """Whether a text somewhere in the data has one of the names in it."""
    parts = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    if isinstance(data, str):
        return not set(re.findall(r"\w+", data)).isdisjoint(names)
    return any(_mentions(part, names) for part in parts)


def _declares(wrong: list[Path], prefix: Path) -> bool:
    """Whether everything that declares symbols in the component at `prefix` could be read."""
    depth = len(prefix)
    return not any(path[:depth] == prefix and (len(path) == depth or path[depth] in DECLARATIONS) for path in wrong)


def _definition_problems(
    name: str, component: ComponentSpec, spec: NetworkSpec, document: Document, wrong: list[Path]
) -> list[Problem]:
    path: Path = ("define", name)
    problems = []
    if _declares(wrong, path):
        problems += component_problems(component, document, path, set(spec.constants))
    if component.component not in ("", name):
        problems.append(document.problem((*path, "component"), f"this component is called '{name}' above"))
    return problems


def _body_problems(spec: NetworkSpec, document: Document) -> list[Problem]:
    """What is wrong between the parts of a network file; what needs the catalogue is checked where that is known."""
    constants = set(spec.constants)
    problems = body_problems(spec.body, ("body",), constants, document)
    for name, block in spec.blocks.items():
        problems += body_problems(block.body, ("blocks", name, "body"), constants | set(block.parameters), document)
        for parameter, value in block.parameters.items():
            problems += formula_problems(value, ("blocks", name, "parameters", parameter), constants, document)
        if name in spec.define:
            message = f"'{name}' is also defined as a component"
            problems.append(document.problem(("blocks", name), message, key=True))
    return problems
