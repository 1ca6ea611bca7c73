"""A file in, a validated spec out: read, apply `--set` overrides, evaluate constants, validate, check formulas."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path as FilePath

from lensnet.language.body_checks import body_problems, formula_problems
from lensnet.language.checks import DECLARATIONS, component_problems
from lensnet.language.component_spec import ComponentSpec
from lensnet.language.document import Document, Path
from lensnet.language.formula import FormulaError, evaluate_number, is_name
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


def load_network_spec(
    path_or_source: str | FilePath | Source, overrides: Iterable[str] = (), objectives: Collection[str] = ()
) -> tuple[NetworkSpec, Document]:
    """A network file, with `path=value` overrides applied. Raises SpecError with every problem in it.

    objectives: names that the input's source may have besides those of batches of data.
    """
    document = read_yaml(_source(path_or_source))
    apply_overrides(document, overrides)
    constants, problems = _constants(document)
    ComponentSpec.model_rebuild()  # compiled once: the network, which may define components, then takes it over
    known = {*objectives, *_own_objectives(document)}
    found = validate(NetworkSpec, document, {"constants": constants, "objectives": known})
    problems += found.problems
    if found.spec is not None:
        spec = found.spec.model_copy(update={"constants": constants})
        problems += _network_problems(spec, document, found.wrong)
    if problems or found.spec is None:
        raise SpecError(problems)
    named = {name: part.model_copy(update={"component": name}) for name, part in spec.define.items()}
    return spec.model_copy(update={"define": named}), document


def _source(path_or_source: str | FilePath | Source) -> Source:
    return path_or_source if isinstance(path_or_source, Source) else Source.read(path_or_source)


def _own_objectives(document: Document) -> list[str]:
    given = document.data.get("define")
    entries = given.items() if isinstance(given, dict) else ()
    return [name for name, part in entries if isinstance(part, dict) and "objective" in part]


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
            problems.append(document.formula_problem(("constants", name), error))
            values[name] = 1
    return values, problems


def _declares(wrong: list[Path], prefix: Path) -> bool:
    """Whether everything that declares symbols in the component at `prefix` could be read."""
    depth = len(prefix)
    return not any(path[:depth] == prefix and (len(path) == depth or path[depth] in DECLARATIONS) for path in wrong)


def _network_problems(spec: NetworkSpec, document: Document, wrong: list[Path]) -> list[Problem]:
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
    for name, component in spec.define.items():
        path: Path = ("define", name)
        if _declares(wrong, path):
            problems += component_problems(component, document, path, constants)
        if component.component not in ("", name):
            problems.append(document.problem((*path, "component"), f"this component is called '{name}' above"))
    return problems
