"""Turns what pydantic found wrong with plain data into problems that point at the file."""

from __future__ import annotations

import copy
import re
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from lensnet.language.document import Document, Path
from lensnet.language.fields import Spec, describe
from lensnet.language.source import Problem, Source, closest, did_you_mean, shorten

S = TypeVar("S", bound=Spec)
MAX_SALVAGES = 12
STAND_INS: dict[str, Any] = {
    "network": "unknown",
    "input": {"source": "digits"},
    "body": [{"component": "unknown"}],
    "component": "unknown",
}
TAGS = {
    "type": ("integer", "real", "boolean", "choice", "pair", "triple", "axes"),
    "source": ("gaussian", "gaussians", "subspaces", "digits", "photos", "tokens", "file"),
}
KINDS = {
    "string_type": "text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


class Validated(NamedTuple, Generic[S]):
    """spec: the model, of what is left without the wrong parts; None when nothing is. wrong: where those stand."""

    spec: S | None
    problems: list[Problem]
    wrong: list[Path]


def validate(model: type[S], document: Document, context: dict[str, Any]) -> Validated[S]:
    """The document's data as a model, and one problem for each of pydantic's errors."""
    models: dict[int, type[Spec]] = {}
    try:
        return Validated(model.model_validate(document.data, context={**context, "models": models}), [], [])
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems = [_problem(detail, document, models) for detail in details]
    wrong = [document.resolve(detail["loc"]) for detail in details]
    return Validated(_salvaged(model, document, context, details), problems, wrong)


def _salvaged(model: type[S], document: Document, context: dict[str, Any], details: Any) -> S | None:
    """The model without the wrong parts, so that what it takes a model to check is checked in the same run."""
    data = copy.deepcopy(document.data)
    for _ in range(MAX_SALVAGES):
        for detail in details:
            _remove(data, document.resolve(detail["loc"]), detail["loc"][-1] if detail["loc"] else "")
        try:
            return model.model_validate(data, context=context)
        except ValidationError as error:
            details = error.errors(include_url=False)
    return None


def _remove(data: Any, path: Path, last: Any) -> None:
    """Takes out the wrong part at `path`; an item of a body is replaced, so that those after it keep their numbers."""
    if len(path) <= 1:
        key = path[0] if path else last
        data.pop(key, None)
        if key in STAND_INS:
            data[key] = copy.deepcopy(STAND_INS[key])
        return
    parent: Any = Document(Source("", ""), data).at(path[:-1])
    part: Any = path[-1]
    if isinstance(parent, dict) and part in parent:
        del parent[part]
    elif isinstance(parent, list) and ("body" in path or "branch" in path or path[0] == "blocks"):
        name = parent[part].get("name") if isinstance(parent[part], dict) else None
        parent[part] = {"component": "unknown"} | ({"name": name} if isinstance(name, str) else {})
    elif parent is not None:
        _remove(data, path[:-1], last)  # it is needed here, or its place counts


def _problem(error: Any, document: Document, models: dict[int, type[Spec]]) -> Problem:
    kind, context, loc, given = error["type"], error.get("ctx", {}), error["loc"], error["input"]
    is_key = bool(loc) and loc[-1] == "[key]"
    path = document.resolve(loc)
    if kind == "spec":
        return _own_problem(context, document, path, is_key)
    if kind == "extra_forbidden":
        return document.unknown_key(path, _keys_of(document, path[:-1], models))
    if kind == "missing":
        help = _near_miss(document, path, str(loc[-1]), _keys_of(document, path, models))
        return document.problem(path, f"`{loc[-1]}` is missing", help)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _tag_problem(kind, context, given, document, path)
    if kind == "literal_error":
        message = f"unknown key '{shorten(given)}'" if is_key else f"{describe(given)} is not possible here"
        return document.problem(path, message, did_you_mean(str(given), _quoted(context["expected"])), key=is_key)
    if kind in KINDS:
        key = next((key for key, options in TAGS.items() if given in options), "")
        help = f"write {{{key}: {given}}}" if key and KINDS[kind] == "a mapping" else ""
        return document.problem(path, f"{KINDS[kind]} is needed here, not {describe(given)}", help, key=is_key)
    if kind in ("too_short", "too_long"):
        bound = context.get("min_length", context.get("max_length"))
        word = "at least" if kind == "too_short" else "at most"
        entries = "entry is" if bound == 1 else "entries are"
        return document.problem(path, f"{word} {bound} {entries} needed here, not {context['actual_length']}")
    return document.problem(path, error["msg"], key=is_key)


def _tag_problem(kind: str, context: dict[str, Any], given: Any, document: Document, path: Path) -> Problem:
    """The key that says which of several models holds (`type`, `source`) is missing or wrong."""
    key = str(context["discriminator"]).strip("'")
    if not isinstance(given, dict):
        return document.problem(path, f"a mapping is needed here, not {describe(given)}", f"give it `{key}: ...`")
    options = TAGS.get(key, ())
    if kind == "union_tag_not_found":
        near = _near_miss(document, path, key, [])
        return document.problem(path, f"`{key}` is missing", near or did_you_mean("", options))
    tag = str(context["tag"])
    return document.problem((*path, key), f"unknown {key} '{shorten(tag)}'", did_you_mean(tag, options))


def _keys_of(document: Document, path: Path, models: dict[int, type[Spec]]) -> list[str]:
    """The keys that the mapping at `path` may have: every model notes the mapping that it was given."""
    model = models.get(id(document.at(path)))
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _own_problem(context: dict[str, Any], document: Document, path: Path, is_key: bool) -> Problem:
    """An error raised by our own validators: it carries its help, and what part of the value is to blame."""
    for part in str(context.get("at", "")).split("."):
        child = (*path, int(part) if part.isdigit() else part)
        path = child if child in document.values else path
    column, length = context.get("column", 0), context.get("length", 0)
    is_key = is_key or context.get("key", False)
    return document.problem(path, context["message"], context.get("help", ""), is_key, column, length)


def _near_miss(document: Document, path: Path, missing: str, options: list[str]) -> str:
    """Help for a missing key: names the mistyped key when there is one."""
    given = document.at(path)
    unknown = [key for key in given if key not in options] if isinstance(given, dict) else []
    guess = closest(missing, unknown)
    return f"'{guess}' looks like it" if guess else ""
