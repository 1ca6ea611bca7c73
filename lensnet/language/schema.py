"""JSON Schema (draft 2020-12) of spec files, for completion and checks in an editor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensnet.language.body_spec import RESERVED
from lensnet.language.component_spec import (
    BooleanParameter,
    ChoiceParameter,
    ComponentSpec,
    PairParameter,
    ParameterSpec,
)
from lensnet.language.fields import PATH_NAME
from lensnet.language.network_spec import NetworkSpec

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEXT = {"type": "string"}
ITEM = {"$ref": "#/$defs/Item"}
ITEM_REFERENCES = [{"$ref": "#/$defs/Use"}, {"$ref": "#/$defs/Repeat"}]
# Short forms that a model also takes; the models' own schemas do not know them.
SHORT_FORMS: dict[str, list[dict[str, Any]]] = {
    "Assumption": [TEXT],
    "Effect": [TEXT, {"type": "number"}],
    "NamedCoherence": [TEXT],
    "BlockSpec": [{"type": "array", "items": ITEM}],
}

Schema = dict[str, Any]


def component_schema() -> Schema:
    """The schema of a component file."""
    schema = _finished(ComponentSpec.model_json_schema(), {}, {})
    schema["required"] = ["component"]
    return schema


def network_schema(components: Mapping[str, ComponentSpec], init: Mapping[str, str] | None = None) -> Schema:
    """The schema of a network file that may use `components` (name -> spec).

    init: the keys that initialise a weight tensor, with what each means (`gain`, `std`, ...).
    """
    schema = _finished(NetworkSpec.model_json_schema(), components, init or {})
    objectives = {name: spec for name, spec in components.items() if spec.objective is not None}
    batches = schema["properties"]["input"]
    schema["properties"]["input"] = {"anyOf": [batches, *(_start(name, spec) for name, spec in objectives.items())]}
    return schema


def _finished(schema: Schema, components: Mapping[str, ComponentSpec], init: Mapping[str, str]) -> Schema:
    schema = _plain(schema)
    definitions = schema["$defs"]
    for name, forms in SHORT_FORMS.items():
        if name in definitions:
            definitions[name] = {"anyOf": [*forms, definitions[name]]}
    definitions["Use"] = _use(components, init)
    definitions["Item"] = {
        "if": {"type": "object", "required": ["component"]},
        "then": {"$ref": "#/$defs/Use"},
        "else": {
            "if": {"type": "object", "required": ["repeat"]},
            "then": {"$ref": "#/$defs/Repeat"},
            "else": {"$ref": "#/$defs/Use"},
        },
    }
    return {"$schema": DRAFT, **schema}


def _start(name: str, spec: ComponentSpec) -> Schema:
    """The input of a stack of steps: an objective with its parameters."""
    return {
        "type": "object",
        "description": spec.title,
        "required": ["source"],
        "properties": {"source": {"const": name}, **_parameters(spec, {})},
        "additionalProperties": False,
    }


def _use(components: Mapping[str, ComponentSpec], init: Mapping[str, str]) -> Schema:
    """An item of a body; `if component is ... then its parameters` for every component."""
    body = {"type": "array", "items": ITEM, "minItems": 1}
    names = {"enum": sorted(components)} if components else TEXT
    reserved = {
        "component": {"anyOf": [names, TEXT], "description": "a component, a block, or one of define:"},
        "name": {"type": "string", "pattern": f"^{PATH_NAME}$", "description": "its part of the dotted path"},
        "repeat": {"type": ["number", "string"], "description": "so many of it in a row"},
        "from": {"anyOf": [TEXT, {"type": "array", "items": TEXT}], "description": "where its inputs come from"},
        "branch": {**body, "description": "items that the second input passes through"},
        "weights_of": {"type": "string", "description": "the component whose weights are used again here"},
        "given": {"type": "object", "description": "side quantities that are declared, as token_correlation: 0.3"},
    }
    cases = [
        {
            "if": {"properties": {"component": {"const": name}}, "required": ["component"]},
            "then": {
                "properties": {**dict.fromkeys(RESERVED, True), **_parameters(spec, init)},
                "additionalProperties": False,
            },
        }
        for name, spec in sorted(components.items())
    ]
    use: Schema = {"type": "object", "required": ["component"], "properties": reserved}
    return use | ({"allOf": cases} if cases else {})


def _parameters(spec: ComponentSpec, init: Mapping[str, str]) -> Schema:
    properties = {}
    for weight in spec.weights:
        prefix = "" if weight == "weight" else f"{weight}_"
        for key, about in init.items():
            properties[f"{prefix}{key}"] = {"type": ["number", "string"], "description": about}
    for name, parameter in spec.parameters.items():
        properties[name] = _parameter(parameter)
    return properties


def _parameter(parameter: ParameterSpec) -> Schema:
    if isinstance(parameter, BooleanParameter):
        kind: Schema = {"type": "boolean"}
    elif isinstance(parameter, ChoiceParameter):
        kind = {"enum": list(parameter.choices)}
    else:
        number: Schema = {"type": "number" if parameter.type == "real" else "integer"}
        if parameter.min is not None:
            number["minimum"] = parameter.min
        if parameter.max is not None:
            number["maximum"] = parameter.max
        forms = [number, TEXT]
        if isinstance(parameter, PairParameter):
            forms.append({"type": "array", "items": {"anyOf": [number, TEXT]}, "minItems": 1})
        kind = {"anyOf": forms}
    if parameter.about:
        kind["description"] = parameter.about
    if parameter.default is not None:
        default = parameter.default
        kind["default"] = list(default) if isinstance(default, tuple) else default
    return kind


def _plain(schema: Any) -> Any:
    """pydantic's schema without what no file needs: titles made from names, nulls, OpenAPI's discriminators."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("oneOf") == ITEM_REFERENCES:
        return ITEM
    kept = {key: value for key, value in schema.items() if key not in ("title", "discriminator")}
    if kept.get("default", 0) is None:
        del kept["default"]
    # anyOf for oneOf: a mapping from ports to effects may look like an effect, and the loader decides which it is
    forms = [form for form in kept.pop("anyOf", kept.pop("oneOf", [])) if form != {"type": "null"}]
    if forms:
        kept |= forms[0] if len(forms) == 1 else {"anyOf": forms}
    named = ("properties", "$defs", "patternProperties")
    return {
        key: {name: _plain(part) for name, part in value.items()} if key in named else _plain(value)
        for key, value in kept.items()
    }
