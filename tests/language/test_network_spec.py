"""Network files: what a valid one holds, and every mistake at its place, all at once."""

import math

import pytest

from lensnet.language.body_spec import Repeat, Use
from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source, SpecError
from tests.language.marked import marked

HEAD = "network: n\ninput: {source: digits}\n"
BODY = "body: [{component: relu}]\n"


def load(text, overrides=()):
    return load_network_spec(Source("net.yaml", text), overrides)[0]


def problems(text, overrides=()):
    with pytest.raises(SpecError) as caught:
        load(text, overrides)
    return caught.value.problems


def test_a_whole_network():
    spec = load(
        """
network: residual-mlp
about: Twelve residual blocks
constants: {depth: 12, width: 4*depth, gain: 1/sqrt(2*depth)}
input: {source: gaussian, channels: width, batch: 2**5, correlation: 0.5, positions: [4, depth/2]}
blocks:
  short: [{component: relu}]
  long: {parameters: {gain: 1}, about: text, body: [{component: linear, units: width, gain: gain*2}]}
body:
  - {name: stem, component: linear, units: width, gain: sqrt(2), given: {token_correlation: 0.3}}
  - repeat: depth
    name: block
    body:
      - name: add
        component: residual
        branch_scale: 1/sqrt(depth)
        branch: [{component: short}, {component: conv2d, kernel: [3, 5], padding_mode: circular}]
  - {component: sum, from: [stem, block.3.add]}
  - {component: long, from: stem, gain: 3}
define:
  swish2: {function: x*sigmoid(2*x)}
expect:
  - {at: block.11.add, quantity: second_moment, between: [0.5, depth]}
  - {at: stem, quantity: mean, direction: backward, less_than: 1e-3}
references: {key: "Someone 2020"}
"""
    )
    assert spec.constants == {"depth": 12, "width": 48, "gain": 1 / math.sqrt(24)}
    assert spec.input.options() == {
        "source": "gaussian", "channels": 48, "batch": 32, "correlation": 0.5, "positions": [4, 6]
    }  # fmt: skip
    stem, repeat, merge, long = spec.body
    assert isinstance(stem, Use) and stem.parameters == {"units": "width", "gain": "sqrt(2)"}
    assert stem.given == {"token_correlation": 0.3} and stem.sources is None
    assert isinstance(repeat, Repeat) and repeat.repeat == "depth" and repeat.name == "block"
    add = repeat.body[0]
    assert add.branch[1].parameters == {"kernel": (3, 5), "padding_mode": "circular"}
    assert merge.sources == ("stem", "block.3.add") and merge.name is None
    assert long.sources == ("stem",) and long.parameters == {"gain": 3}
    assert spec.blocks["short"].parameters == {} and spec.blocks["long"].parameters == {"gain": 1}
    assert spec.define["swish2"].component == "swish2" and spec.define["swish2"].function == "x*sigmoid(2*x)"
    first, second = spec.expect
    assert (first.low, first.high, first.direction) == (0.5, 12, "forward")
    assert (second.low, second.high, second.direction) == (-math.inf, 0.001, "backward")


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("{source: digits}", {"source": "digits"}),
        ("{source: photos, batch: 8, size: 227}", {"source": "photos", "batch": 8, "size": 227}),
        ("{source: photos, size: [32, 48]}", {"source": "photos", "size": [32, 48]}),
        ("{source: tokens, length: 16, vocabulary: 100}", {"source": "tokens", "length": 16, "vocabulary": 100}),
        ("{source: file, path: data.npz, key: x}", {"source": "file", "path": "data.npz", "key": "x"}),
        ("{source: gaussian, channels: 3, positions: 7}", {"source": "gaussian", "channels": 3, "positions": [7]}),
        ("{source: gaussian, channels: 3, std: 1/4}", {"source": "gaussian", "channels": 3, "std": 0.25}),
    ],
)
def test_inputs(written, options):
    assert load(f"network: n\ninput: {written}\n{BODY}").input.options() == options


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        (HEAD + BODY + "⟦abuot⟧: x", "unknown key 'abuot'", "did you mean 'about'?"),
        (HEAD + BODY + "about: ⟦3⟧", "text is needed here, not an integer", "quote"),
        ("network: ⟦a b⟧\ninput: {source: digits}\n" + BODY, "cannot be a name", "letters"),
        ("network: n\ninput: {source: ⟦digit⟧}\n" + BODY, "unknown source 'digit'", "did you mean 'digits'?"),
        ("network: n\ninput: ⟦{soruce: digits}⟧\n" + BODY, "`source` is missing", "'soruce' looks like it"),
        ("network: n\ninput: ⟦{}⟧\n" + BODY, "`source` is missing", "one of: digits, file, gaussian"),
        ("network: n\ninput: ⟦digits⟧\n" + BODY, "a mapping is needed here, not the text 'digits'", "source"),
        ("network: n\ninput: {source: digits, ⟦bach⟧: 3}\n" + BODY, "unknown key 'bach'", "did you mean 'batch'?"),
        ("network: n\ninput: {source: digits, batch: ⟦0⟧}\n" + BODY, "at least 1, not 0", ""),
        ("network: n\ninput: {source: digits, batch: ⟦2.5⟧}\n" + BODY, "an integer is needed here, not 2.5", ""),
        ("network: n\ninput: {source: digits, batch: ⟦true⟧}\n" + BODY, "an integer is needed here, not true", ""),
        ("network: n\ninput: {source: digits, batch: 3*⟦k⟧}\n" + BODY, "unknown symbol 'k'", ""),
        ("network: n\ninput: {source: gaussian, channels: 3, correlation: ⟦1.5⟧}\n" + BODY, "at most 1, not 1.5", ""),
        ("network: n\ninput: ⟦{source: gaussian}⟧\n" + BODY, "`channels` is missing", ""),
        ("⟦network: n⟧\ninput: {source: digits}", "`body` is missing", ""),
        (HEAD + "body: ⟦[]⟧", "at least 1 entry", ""),
        (HEAD + "body: ⟦relu⟧", "a list is needed here, not the text 'relu'", ""),
        (HEAD + "body:\n  - ⟦relu⟧", "an item of a body is a mapping", "write {component: relu}"),
        (HEAD + "body:\n  - {⟦componet⟧: relu}", "unknown key 'componet'", "did you mean 'component'?"),
        (HEAD + "body:\n  - ⟦{units: 3}⟧", "names no component", "component: ..."),
        (HEAD + "body:\n  - {component: ⟦3⟧}", "cannot be a name", ""),
        (HEAD + "body:\n  - {component: a, name: ⟦x..y⟧}", "cannot be a name", "letters"),
        (HEAD + "body:\n  - {component: a, from: ⟦{a: b}⟧}", "`from` is the name", ""),
        (HEAD + "body:\n  - {component: a, gain: ⟦{a: b}⟧}", "a parameter is a number", ""),
        (HEAD + "body:\n  - {component: a, gain: 2*⟦(⟧3}", "never closed", ""),
        (HEAD + "body:\n  - {component: a, gain: 'width⟦^⟧2'}", "'^' is not allowed", "**"),
        (HEAD + "body:\n  - component: a\n    gain: >-\n      1 +\n      2 ⟦^⟧ 3", "'^' is not allowed", "**"),
        (HEAD + "body:\n  - {component: a, kernel: [3, 2 ⟦//⟧ 3]}", "'//' is not allowed", "/"),
        (HEAD + "body:\n  - {component: a, given: {x: 1 ⟦%⟧ 2}}", "'%' is not allowed", ""),
        (HEAD + "body:\n  - {repeat: 3, body: [{component: a}], ⟦nmae⟧: x}", "unknown key 'nmae'", "'name'"),
        (HEAD + "body:\n  - {repeat: ⟦dpth⟧, body: [{component: a}]}\nconstants: {depth: 3}", "unknown", "'depth'"),
        (HEAD + "body:\n  - {repeat: ⟦[3]⟧, body: [{component: a}]}", "a formula or a number is needed", ""),
        (HEAD + "body:\n  - {component: a, name: x}\n  - {component: b, name: ⟦x⟧}", "two items", "line 4"),
        (HEAD + BODY + "constants: {a: 2*⟦b⟧, b: 1}", "unknown symbol 'b'", ""),
        (HEAD + BODY + "constants: {⟦a b⟧: 1}", "cannot name a symbol", ""),
        (HEAD + BODY + "constants: {a: ⟦true⟧}", "a number or a formula is needed", ""),
        (HEAD + BODY + "constants: ⟦[1]⟧", "a mapping is needed here, not a list", ""),
        (HEAD + BODY + "define: {s: {function: x*sigmoid(⟦y⟧)}}", "unknown symbol 'y'", ""),
        (HEAD + BODY + "define: {s: ⟦{}⟧}", "nothing says what this component computes", "function:"),
        (HEAD + BODY + "define: {s: {function: x, component: ⟦t⟧}}", "called 's' above", ""),
        (HEAD + BODY + "define: {s: {function: x}}\nblocks: {⟦s⟧: [{component: a}]}", "also defined", ""),
        (HEAD + BODY + "blocks: {s: [{component: a, gain: ⟦2x⟧}]}", "'2x' is not a number", "2*x"),
        (HEAD + BODY + "blocks: {s: {parameters: {k: 2*⟦d⟧}, body: [{component: a}]}}", "unknown symbol 'd'", ""),
        (HEAD + BODY + "blocks: {s: {parameters: {k: 2}, body: [{repeat: k*⟦d⟧, body: [{component: u}]}]}}", "d", ""),
        (HEAD + BODY + "expect: [⟦{at: a, quantity: mean}⟧]", "a gate has bounds", "between"),
        (HEAD + BODY + "expect: [{at: a, quantity: mean, between: ⟦[2, 1]⟧}]", "no number lies between", ""),
        (HEAD + BODY + "expect: [{at: a, quantity: mean, between: ⟦[1]⟧}]", "at least 2 entries", ""),
        (HEAD + BODY + "expect: [{at: a, quantity: mean, less_than: 1, direction: ⟦up⟧}]", "'up'", "backward, forward"),
    ],
)  # fmt: skip
def test_one_mistake_at_its_place(text, message, help):
    clean, (place,) = marked(text)
    (found,) = problems(clean)
    assert message in found.message and help in found.help
    assert (found.line, found.column, found.length) == (place.line, place.column, place.length)


def test_all_mistakes_of_a_file_at_once():
    """Those of the shape of the data, of formulas, and between parts, in one run."""
    text, places = marked(
        """network: ⟦a b⟧
⟦abuot⟧: x
constants: {depth: 12, width: 4*⟦dpth⟧}
input: {source: ⟦digit⟧}
body:
  - {⟦componet⟧: linear, units: width}
  - repeat: 2*⟦dept⟧
    body:
      - {component: a, name: ⟦x..y⟧}
      - {component: b, gain: 3 ⟦^⟧ 2}
  - {component: c, name: twice}
  - {component: c, name: ⟦twice⟧}
define:
  good: {function: x*⟦sigmoi⟧(x), kinks: ⟦3⟧}
  bad: {effects: {⟦momets⟧: {mean: m}, moments: {mean: m, second_moment: q + ⟦r⟧}}}
  worse: {parameters: {a: {type: ⟦intger⟧}}, function: a*x*b}
expect:
  - {at: c, quantity: mean, ⟦les_than⟧: 3, more_than: 1}
"""
    )
    found = problems(text)
    assert [(p.line, p.column, p.length) for p in found] == [(p.line, p.column, p.length) for p in places]
    assert all("^" in str(problem) for problem in found)


def test_overrides_reach_keys_and_items_by_name():
    text = HEAD + (
        "constants: {depth: 3, width: 2*depth}\n"
        "body:\n  - {name: stem, component: linear, units: width}\n  - {component: relu}\n"
        "  - repeat: depth\n    name: block\n    body:\n"
        "      - {name: add, component: residual, branch: [{name: inner, component: linear, units: 4}]}\n"
    )
    spec = load(
        text,
        ["constants.depth=4", "input.batch=8", "body.stem.units=64", "body.stem.gain=sqrt(2)",
         "block.add.skip_scale=0.5", "block.add.inner.units=[1, 2]", "relu.mode=fast", "body.1.name=r",
         "network=other"],
    )  # fmt: skip
    assert spec.network == "other"
    assert spec.constants == {"depth": 4, "width": 8} and spec.input.batch == 8
    stem, relu, block = spec.body
    assert stem.parameters == {"units": 64, "gain": "sqrt(2)"}
    assert relu.parameters == {"mode": "fast"} and relu.name == "r"
    assert block.body[0].parameters == {"skip_scale": 0.5}
    assert block.body[0].branch[0].parameters == {"units": (1, 2)}


@pytest.mark.parametrize(
    ("override", "message", "help"),
    [
        ("constants.⟦dpth⟧=4", "there is no 'dpth' in constants", "did you mean 'depth'?"),
        ("⟦constant⟧.depth=4", "there is no 'constant' at the top", "did you mean 'constants'?"),
        ("body.⟦stm⟧.units=4", "there is no 'stm' in body", "did you mean 'stem'?"),
        ("body.⟦7⟧.units=4", "there is no '7' in body", ""),
        ("⟦input.bach⟧=4", "unknown key 'bach'", "did you mean 'batch'?"),
        ("body.stem.units.⟦x⟧=4", "body.stem.units has no parts", ""),
        ("⟦nonsense⟧", "path=value", "constants.depth=4"),
        ("⟦=3⟧", "path=value", ""),
        ("⟦constants.depth=⟧", "path=value", ""),
        ("constants.depth=3*⟦x⟧", "unknown symbol 'x'", ""),
        ("constants.depth= ⟦.inf⟧", "not a finite number", ""),
        ("input.batch=⟦0⟧", "at least 1", ""),
        ("input.batch=⟦[1]⟧", "an integer is needed", ""),
    ],
)
def test_an_override_that_does_not_fit(override, message, help):
    text = HEAD + "constants: {depth: 3}\nbody: [{name: stem, component: linear, units: depth}]\n"
    clean, (place,) = marked(override)
    (found,) = problems(text, [clean])
    assert message in found.message and help in found.help
    assert (found.source.name, found.line, found.column, found.length) == ("--set", 1, place.column, place.length)
    assert str(found).split("\n")[1] == "    " + clean


def test_every_override_that_does_not_fit_at_once():
    assert len(problems(HEAD + BODY, ["a.b=1", "c.d=2", "input.batch=3"])) == 2
