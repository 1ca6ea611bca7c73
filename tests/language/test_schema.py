"""The JSON schemas accept what the loader accepts and refuse the usual mistakes."""

import json
import re
from pathlib import Path

import pytest

from lensnet.language.loading import load_component_spec
from lensnet.language.schema import DRAFT, component_schema, network_schema
from lensnet.language.source import Source
from lensnet.language.yaml_tree import read_yaml
from tests.language.test_component_spec import LINEAR

ROOT = Path(__file__).resolve().parents[2]
INIT = {"gain": "weight std = gain / sqrt(fan_in)", "bias_std": "std of the biases"}
RELU = "component: relu\nfunction: relu(x)"


def fits(data, schema, root=None):
    """Whether `data` satisfies a schema, for the keywords that ours use; an unknown keyword is an error."""
    root = root or schema
    if schema is True:
        return True
    known = {
        "$schema", "$defs", "description", "default", "$ref", "type", "enum", "const", "pattern", "minimum", "maximum",
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "items", "minItems",
        "maxItems", "anyOf", "allOf", "if", "then", "else",
    }  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    kinds = {
        "object": lambda x: isinstance(x, dict), "array": lambda x: isinstance(x, list),
        "string": lambda x: isinstance(x, str), "boolean": lambda x: isinstance(x, bool),
        "number": lambda x: isinstance(x, int | float) and not isinstance(x, bool),
        "integer": lambda x: isinstance(x, int) and not isinstance(x, bool),
    }  # fmt: skip
    if "$ref" in schema:
        return fits(data, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    wanted = schema.get("type", [])
    if wanted and not any(kinds[kind](data) for kind in ([wanted] if isinstance(wanted, str) else wanted)):
        return False
    if "enum" in schema and data not in schema["enum"] or "const" in schema and data != schema["const"]:
        return False
    if isinstance(data, str) and "pattern" in schema and not re.search(schema["pattern"], data):
        return False
    if kinds["number"](data) and not schema.get("minimum", data) <= data <= schema.get("maximum", data):
        return False
    if "anyOf" in schema and not any(fits(data, form, root) for form in schema["anyOf"]):
        return False
    if not all(fits(data, form, root) for form in schema.get("allOf", [])):
        return False
    if "if" in schema and not fits(
        data, schema["then"] if fits(data, schema["if"], root) else schema.get("else", True), root
    ):
        return False
    if isinstance(data, list):
        right_size = schema.get("minItems", 0) <= len(data) <= schema.get("maxItems", len(data))
        return right_size and all(fits(part, schema.get("items", True), root) for part in data)
    if isinstance(data, dict):
        return fits_mapping(data, schema, root)
    return True


def fits_mapping(data, schema, root):
    if not set(schema.get("required", [])) <= set(data):
        return False
    if not all(fits(key, schema.get("propertyNames", True), root) for key in data):
        return False
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in data.items():
        matching = [part for pattern, part in patterns.items() if re.search(pattern, key)]
        forms = [properties[key]] if key in properties else matching
        rest = schema.get("additionalProperties", True)
        if not forms and rest is False or not all(fits(value, form, root) for form in forms or [rest]):
            return False
    return True


@pytest.fixture(scope="module")
def schema():
    specs = [load_component_spec(Source("c", text))[0] for text in (LINEAR, RELU)]
    return network_schema({spec.component: spec for spec in specs}, INIT)


def network(body):
    return read_yaml(Source("n", f"network: n\ninput: {{source: digits}}\n{body}")).data


@pytest.mark.parametrize(
    "body",
    [
        "body: [{component: linear, units: 3, kernel: [3, 5], mode: eval, gain: sqrt(2), value_gain: 1}]",
        "body: [{component: linear, units: 4*width, flag: true}]",
        "body: [{component: my_block, anything: 3}]",
        "body: [{repeat: 3, name: b, body: [{component: relu, name: r, from: [a, b.c]}]}]",
        "body: [{component: relu, branch: [{repeat: depth, body: [{component: relu}]}], given: {rho: 0.3}}]",
        "body: [{component: relu}]\nblocks: {b: [{component: relu}]}",
        "body: [{component: relu}]\nblocks: {b: {parameters: {k: 1}, body: [{component: relu}]}}",
        "body: [{component: relu}]\ndefine: {s: {function: x*sigmoid(2*x)}, t: {effects: {moments: {mean: m}}}}",
        "body: [{component: relu}]\nexpect: [{at: a, quantity: mean, between: [0, 1]}]",
        "body: [{component: relu}]\nconstants: {a: 1, b: 2*a}",
    ],
)
def test_right_networks(schema, body):
    assert fits(network(body), schema)


@pytest.mark.parametrize(
    "body",
    [
        "body: [{component: linear, unitss: 3}]",
        "body: [{component: linear, units: 0}]",
        "body: [{component: linear, mode: fast}]",
        "body: [{component: linear, units: true}]",
        "body: [{component: relu, gain: 1}]",
        "body: [{componet: relu}]",
        "body: [relu]",
        "body: []",
        "body: [{repeat: 3}]",
        "body: [{repeat: 3, body: [{component: relu, name: a..b}]}]",
        "body: [{component: relu}]\nabuot: x",
        "body: [{component: relu}]\nexpect: [{at: a}]",
        "body: [{component: relu}]\ndefine: {s: {funktion: x}}",
        "body: [{component: relu}]\ndefine: {s: {effects: {momens: {mean: m}}}}",
    ],
)
def test_wrong_networks(schema, body):
    assert not fits(network(body), schema)


def test_wrong_inputs(schema):
    for source in ("{source: digit}", "{source: gaussian}", "{source: digits, bach: 3}", "digits", "{}"):
        data = read_yaml(Source("n", f"network: n\ninput: {source}\nbody: [{{component: relu}}]")).data
        assert not fits(data, schema)


def test_components():
    schema = component_schema()
    for text in (LINEAR, RELU, "component: c\nforward: x\nassumes: [text, {check: m < 1}]"):
        assert fits(read_yaml(Source("c", text)).data, schema)
    for text in ("function: x", "component: c\nfunktion: x", "component: c\nparameters: {a: {type: int}}"):
        assert not fits(read_yaml(Source("c", text)).data, schema)


def test_schemas_are_plain_json_with_help_for_the_editor(schema):
    text = json.dumps(schema)
    assert schema["$schema"] == DRAFT and json.loads(text) == schema
    use = schema["$defs"]["Use"]
    assert use["properties"]["component"]["anyOf"][0] == {"enum": ["linear", "relu"]}
    linear = use["allOf"][0]["then"]["properties"]
    assert linear["units"]["description"] == "output features" and linear["units"]["anyOf"][0]["minimum"] == 1
    assert linear["gain"]["description"] == INIT["gain"] and linear["mode"] == {
        "enum": ["train", "eval"],
        "default": "train",
    }
    assert '"title": "' not in text and '"discriminator"' not in text


def test_every_bundled_file_fits():
    from lensnet.catalog.catalog import catalog
    from lensnet.network.initialisation import INIT_ABOUT

    components = catalog()
    schema = network_schema({name: components[name].spec for name in components}, INIT_ABOUT)
    for path in sorted((ROOT / "specs").rglob("*.yaml")):
        assert fits(read_yaml(Source.read(path)).data, schema), path
    schema = component_schema()
    for name in components:
        assert fits(components[name].document.data, schema), name
