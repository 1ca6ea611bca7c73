"""Component files: what a valid one holds, and every mistake at its place."""

import pytest

from lensnet.language.component_spec import LinearCoherence, NamedCoherence
from lensnet.language.effect_spec import Effect
from lensnet.language.loading import load_component_spec
from lensnet.language.source import Source, SpecError
from lensnet.language.symbols import effect_symbols
from tests.language.marked import marked

LINEAR = """component: linear
title: Dense layer
optics: lens
intuition: Every output sees every input.
ports: {in: [x], out: [y]}
parameters:
  units: {type: integer, min: 1, about: output features}
  eps: {type: real, min: 0, default: 1e-5, symbol: epsilon}
  mode: {type: choice, choices: [train, eval], default: train}
  kernel: {type: pair, default: [3, 3]}
  stride: {type: pair, default: kernel}
  flag: {type: boolean, default: false}
weights:
  weight: {fan_in: channels*window_taps, fan_out: units}
  value: {fan_in: channels, fan_out: 2*units, bias: false}
geometry: window
shape: {channels: units}
implementation: linear
homogeneous: true
needs:
  token_correlation: {symbol: rho, otherwise: 0, when: mode_train > 0}
let:
  spread: q - m**2 + epsilon
  ratio: v/spread
coherence: {linear: "units/sqrt(spread)"}
effects:
  moments:
    mean: b_0
    second_moment: {formula: g**2*q + sigma_b_value**2*ratio, error: 3/channels, cites: [a2020]}
    backward_second_moment: {x: {formula: g_value**2*units/fan_in*p}}
    variance: 0
assumes:
  - iid zero-mean weights
  - {check: fan_in >= 16*rho, text: many, below: fluctuation}
trials:
  - {channels: 128, units: 96, gain: 1.4}
references: {a2020: "A 2020"}
"""


def load(text):
    return load_component_spec(Source("c.yaml", text))[0]


def problems(text):
    with pytest.raises(SpecError) as caught:
        load(text)
    return caught.value.problems


def test_a_whole_component():
    spec = load(LINEAR)
    assert spec.component == "linear" and spec.ports.names == ["x"] and not spec.ports.variadic
    assert spec.parameters["eps"].default == "1e-05" and spec.parameters["units"].default is None
    assert spec.parameters["kernel"].default == (3, 3) and spec.parameters["flag"].default is False
    assert spec.weights["value"].bias is False and spec.needs["token_correlation"].symbol == "rho"
    assert isinstance(spec.coherence, LinearCoherence)
    moments = spec.effects["moments"]
    assert moments["mean"] == Effect(formula="b_0") and moments["variance"].formula == "0"
    assert moments["second_moment"].error == "3/channels" and moments["second_moment"].cites == ["a2020"]
    assert moments["backward_second_moment"]["x"].formula == "g_value**2*units/fan_in*p"
    assert spec.assumes[0].text == "iid zero-mean weights" and spec.assumes[0].check is None
    assert spec.assumes[1].check == "fan_in >= 16*rho" and spec.assumes[1].below == "fluctuation"
    assert spec.trials == [{"channels": 128, "units": 96, "gain": 1.4}]
    symbols = effect_symbols(spec)
    assert {"units", "eps", "epsilon", "mode", "mode_train", "rho", "g", "w2_value", "q", "p", "channels"} <= set(
        symbols
    )


def test_one_line_is_a_component():
    spec = load("component: swish2\nfunction: x*sigmoid(2*x)")
    assert spec.function == "x*sigmoid(2*x)" and spec.kinks is None and spec.geometry == "pointwise"
    assert isinstance(spec.coherence, NamedCoherence) and spec.coherence.kind == "unknown"


def test_a_mixing_layer_of_the_user():
    spec = load(
        "component: blend\nparameters: {a: {type: real, default: 0.5}}\n"
        "forward: (1 - a)*x + a*position_mean(x) + shift(x, 1)\ncoherence: fresh\n"
        "effects: {moments: {mean: m, second_moment: (1 - a)**2*q + a**2*mean_positions(q)}}"
    )
    assert spec.forward.startswith("(1 - a)*x") and spec.coherence.kind == "fresh"


def test_several_ports_and_any_number_of_ports():
    spec = load(
        "component: residual\nports: {in: [skip, branch]}\nimplementation: residual\n"
        "coherence: {linear: {skip: 1, branch: 2}}\n"
        "effects: {moments: {mean: m_skip + m_branch, second_moment: q_skip + q_branch + 2*k_skip_branch, "
        "backward_second_moment: {skip: p, branch: p}}}"
    )
    assert spec.ports.names == ["skip", "branch"] and spec.coherence.linear == {"skip": "1", "branch": "2"}
    spec = load(
        "component: sum\nports: {in: [xs...]}\nimplementation: sum\n"
        "effects: {moments: {mean: sum_ports(m), second_moment: sum_ports(q) + 2*sum_pairs(k)}}"
    )
    assert spec.ports.variadic and spec.ports.names == ["xs"]


C = "component: c\n"
EFFECTS = C + "implementation: c\neffects: {moments: {"


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("⟦function: x⟧", "`component` is missing", "same as the file's"),
        ("⟦component: c⟧", "nothing says what this component computes", "function:"),
        (C + "function: x\nforward: ⟦x⟧", "both say what the component computes", "keep one"),
        (C + "function: x*⟦sigmoi⟧(x)", "unknown function 'sigmoi'", "did you mean 'sigmoid'?"),
        (C + "function: x*⟦a⟧", "unknown symbol 'a'", ""),
        (C + "function: >-\n  x*\n  sigmoid(2*⟦z⟧)", "unknown symbol 'z'", ""),
        (C + "function: x\nkinks: [0, ⟦z⟧]", "unknown symbol 'z'", ""),
        (C + "function: x\nkinks: ⟦0⟧", "a list is needed here, not an integer", ""),
        (C + "function: ⟦[x]⟧", "a formula or a number is needed here, not a list", ""),
        (C + "⟦funktion⟧: x\nfunction: x", "unknown key 'funktion'", "did you mean 'function'?"),
        (C + "forward: ⟦gather⟧(x)", "unknown function 'gather'", "position_mean"),
        (C + "forward: ⟦shift(x)⟧", "shift takes 2 arguments, not 1", ""),
        (C + "function: x\ngeometry: ⟦windw⟧", "'windw' is not possible here", "did you mean 'window'?"),
        (C + "function: x\nlaw: ⟦3⟧", "an integer is not possible here", "kept"),
        (C + "function: x\nhomogeneous: ⟦yes⟧", "true or false is needed here, not the text 'yes'", ""),
        (C + "function: x\nparameters: {a: {type: ⟦int⟧}}", "unknown type 'int'", "did you mean 'integer'?"),
        (C + "function: x\nparameters: {a: ⟦{min: 3}⟧}", "`type` is missing", "one of: axes, boolean, choice"),
        (C + "function: x\nparameters: {a: ⟦real⟧}", "a mapping is needed here", "type"),
        (C + "function: x\nparameters: {a: {type: real, ⟦mni⟧: 3}}", "unknown key 'mni'", "did you mean 'min'?"),
        (C + "function: x\nparameters: {a: {type: real, min: 3, max: ⟦2⟧}}", "max is below min (3)", ""),
        (C + "function: x\nparameters: {a: {type: real, default: 2*⟦a⟧}}", "unknown symbol 'a'", ""),
        (C + "function: x\nparameters: {a: {type: choice, choices: [u, v], default: ⟦w⟧}}", "not among", ""),
        (C + "function: x\nparameters: {a: {type: choice, choices: ⟦[]⟧}}", "at least 1", ""),
        (C + "function: x\nparameters: {⟦lambda⟧: {type: real}}", "cannot name a symbol", ""),
        (C + "function: x\nparameters: {a: {type: real, symbol: ⟦pi⟧}}", "cannot name a symbol", ""),
        (C + "function: u\nports: {in: ⟦[u]⟧}", "one input, called x", ""),
        (C + "body: [{component: linear, units: 2 ⟦^⟧ 3}]", "'^' is not allowed", ""),
        (C + "parameters: {n: {type: real}}\nbody: [{repeat: ⟦m⟧, body: [{component: relu}]}]", "unknown symbol", ""),
        (C + "function: x\nports: {in: ⟦[x, x]⟧}", "two ports have the same name", ""),
        (C + "function: x\nports: {in: [x, ⟦a.b⟧]}", "'a.b' cannot name a port", ""),
        (C + "function: x\nports: {in: ⟦[x, xs...]⟧}", "stands alone", ""),
        (C + "function: x\nweights: {w: ⟦{fan_in: channels}⟧}", "`fan_out` is missing", ""),
        (C + "function: x\nweights: {w: {fan_in: ⟦chanels⟧, fan_out: 1}}", "unknown symbol", "'channels'"),
        (C + "function: x\nshape: {channels: 2*⟦units⟧}", "unknown symbol 'units'", ""),
        (C + "function: x\nneeds: {a: {symbol: r, ⟦other⟧: 0}}", "unknown key 'other'", "'otherwise'"),
        (C + "function: x\nneeds: {a: {port: ⟦z⟧}}", "there is no input port 'z'", "only 'x'"),
        (C + "function: x\nneeds: {a: {when: ⟦1 + 1⟧}}", "a comparison is needed here", ""),
        (C + "function: x\nlet: {⟦q⟧: m**2}", "'q' means something already: second moment", ""),
        (C + "function: x\nlet: {a: ⟦b⟧, b: m}", "unknown symbol 'b'", ""),
        (C + "function: x\ncoherence: ⟦fersh⟧", "not possible here", "did you mean 'fresh'?"),
        (C + "function: x\ncoherence: {linear: 2*⟦z⟧}", "unknown symbol 'z'", ""),
        (C + "function: x\ncoherence: {linear: {⟦z⟧: 2}}", "there is no input port 'z'", ""),
        (EFFECTS + "mean: 2*⟦mm⟧}}", "unknown symbol 'mm'", ""),
        (EFFECTS + "mean: {formula: 'm + ⟦mm⟧'}}}", "unknown symbol 'mm'", ""),
        (EFFECTS + "mean: {⟦formla⟧: m}}}", "there is no input port 'formla'", "did you mean 'formula'?"),
        (EFFECTS + "mean: {formula: m, ⟦eror⟧: 0}}}", "unknown key 'eror'", "did you mean 'error'?"),
        (EFFECTS + "mean: {formula: m, error: 1/⟦widht⟧}}}", "unknown symbol 'widht'", "did you mean 'width'?"),
        (EFFECTS + "backward_second_moment: {⟦z⟧: p}}}", "there is no input port 'z'", ""),
        (EFFECTS + "mean: ⟦[m]⟧}}", "a mapping is needed here, not a list", ""),
        (EFFECTS + "mean: ⟦m < 1⟧}}", "a comparison is not a value", ""),
        (C + "implementation: c\neffects: {⟦momens⟧: {mean: m}}", "unknown key 'momens'", "did you mean 'moments'?"),
        (C + "function: x\nassumes: [{check: ⟦m⟧}]", "a comparison is needed here", ""),
        (C + "function: x\nassumes: [{check: m < ⟦z⟧}]", "unknown symbol 'z'", ""),
        (C + "function: x\nassumes: [⟦{below: kernel}⟧]", "an assumption has a `text`", ""),
        (C + "function: x\nassumes: [{text: t, below: ⟦kernl⟧}]", "'kernl' is not possible", "did you mean 'kernel'?"),
        (C + "function: x\ntrials: [⟦3⟧]", "a trial is a mapping", ""),
        (C + "function: x\nreferences: {a: ⟦3⟧}", "text is needed here, not an integer", ""),
    ],
)  # fmt: skip
def test_one_mistake_at_its_place(text, message, help):
    clean, (place,) = marked(text)
    (found,) = problems(clean)
    assert message in found.message and help in found.help
    assert (found.line, found.column, found.length) == (place.line, place.column, place.length)


def test_a_wrong_declaration_does_not_make_every_formula_look_wrong():
    text, (place,) = marked(C + "parameters: {a: {type: ⟦rael⟧}}\nfunction: a*x\neffects: {moments: {mean: a*m}}")
    (found,) = problems(text)
    assert (found.line, found.column) == (place.line, place.column)


def test_a_wrong_abbreviation_is_reported_once():
    text, (place,) = marked(EFFECTS + "mean: a, second_moment: a**2}}\nlet: {a: 2*⟦z⟧}")
    (found,) = problems(text)
    assert (found.line, found.column) == (place.line, place.column)


def test_a_mean_is_not_guessed_where_the_second_moment_is_stated():
    text = "\n".join(line for line in LINEAR.splitlines() if not line.startswith("    mean:"))
    (problem,) = problems(text)
    assert problem.message == "a second moment without a mean" and "mean: {formula:" in problem.help
