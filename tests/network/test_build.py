"""From a spec to a graph: names, wiring, shapes, initialisation, and errors that say where and how to mend."""

from __future__ import annotations

from math import sqrt

import pytest

from lensnet.language.source import Source, SpecError
from lensnet.network.build import load_network
from lensnet.network.graph import Network
from lensnet.network.initialisation import InitialisationError, weight_law

HEAD = "network: net\ninput: {source: gaussian, channels: 16, batch: 4}\n"
IMAGE = "network: net\ninput: {source: gaussian, channels: 3, positions: [8, 8], batch: 4}\n"


def build(text: str) -> Network:
    return load_network(Source("net.yaml", text)).network


def error(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        build(text)
    return str(caught.value)


def test_repeats_number_their_bodies_and_unnamed_items_take_the_name_of_their_kind() -> None:
    network = build(
        HEAD + "constants: {depth: 2}\nbody:\n"
        "  - repeat: depth\n    name: layer\n    body:\n"
        "      - {component: linear, units: 16}\n      - {component: linear, units: 16}\n      - {component: relu}\n"
    )
    assert [node.path for node in network] == [
        "layer.0.linear", "layer.0.linear_2", "layer.0.relu", "layer.1.linear", "layer.1.linear_2", "layer.1.relu",
    ]  # fmt: skip


def test_the_repeat_index_and_constants_are_known_to_parameters() -> None:
    network = build(
        HEAD + "constants: {depth: 3, width: 8}\nbody:\n  - repeat: depth\n    name: b\n    body:\n"
        "      - {name: l, component: linear, units: width*(index + 1), gain: 1/sqrt(depth)}\n"
    )
    assert [node.shape.channels for node in network] == [8, 16, 24]
    assert network["b.1.l"].weights["weight"].gain == pytest.approx(1 / sqrt(3))


def test_input_channels_are_known_to_parameters() -> None:
    network = build(HEAD + "body:\n  - {name: up, component: linear, units: 4*channels}\n")
    assert network["up"].shape.channels == 64


def test_a_value_used_twice_passes_a_fork_so_that_every_edge_has_one_end() -> None:
    network = build(
        HEAD + "body:\n  - {name: a, component: linear, units: 16}\n  - {name: r, component: relu}\n"
        "  - {name: s, component: sum, from: [a, r]}\n"
    )
    assert network["s"].inputs == ("a.fork", "r") and network["r"].inputs == ("a.fork",)
    assert len(network.consumers("a.fork")) == 2


def test_a_residual_branch_starts_where_the_skip_does() -> None:
    network = build(
        HEAD + "body:\n  - name: add\n    component: residual\n    branch: [{component: linear, units: 16}]\n"
    )
    assert network["add"].ports == ("skip", "branch")
    assert network["add"].inputs == ("input.fork", "add.linear")


def test_blocks_take_parameters_and_a_group_can_be_named_as_a_source() -> None:
    network = build(
        HEAD + "blocks:\n  unit:\n    parameters: {g: 1}\n    body:\n"
        "      - {name: w, component: linear, units: 16, gain: g}\n"
        "      - {component: tanh}\n"
        "body:\n  - {name: one, component: unit}\n  - {name: two, component: unit, g: 3}\n"
        "  - {name: both, component: concat, from: [one, two]}\n"
    )
    assert network["one.w"].weights["weight"].gain == pytest.approx(1)
    assert network["two.w"].weights["weight"].gain == pytest.approx(3)
    assert network["both"].shape.channels == 32 and network["both"].inputs == ("one.tanh.fork", "two.tanh")


def test_names_are_looked_up_from_the_inside_out() -> None:
    network = build(
        HEAD + "body:\n  - {name: a, component: relu}\n  - repeat: 2\n    name: b\n    body:\n"
        "      - {name: c, component: relu}\n      - {name: d, component: sum, from: [a, c]}\n"
    )
    assert network["b.1.d"].inputs == ("a.fork", "b.1.c")


def test_a_component_defined_in_the_file_needs_only_its_function() -> None:
    network = build(HEAD + "define: {swish2: {function: x*sigmoid(2*x)}}\nbody: [{component: swish2}]\n")
    assert network["swish2"].component.implementation == "pointwise"


def test_shapes_of_windows_follow_the_arithmetic_of_torch() -> None:
    network = build(
        IMAGE + "body:\n  - {name: c, component: conv2d, filters: 4, kernel: [3, 5], stride: [2, 1], padding: 1,\n"
        "     dilation: [1, 2]}\n"
    )
    assert network["c"].shape.positions == ((8 + 2 - 3) // 2 + 1, 8 + 2 - 9 + 1)
    assert network["c"].weights["weight"].fan_in == 3 * 15


@pytest.mark.parametrize(
    ("given", "variance", "distribution"),
    [
        ({}, 1 / 8, "normal"),
        ({"gain": 2}, 4 / 8, "normal"),
        ({"std": 0.3}, 0.09, "normal"),
        ({"init": "he"}, 2 / 8, "normal"),
        ({"init": "glorot"}, 2 / 28, "uniform"),
        ({"init": "lecun"}, 1 / 8, "normal"),
        ({"init": "orthogonal"}, 1 / 20, "orthogonal"),
        ({"init": "truncated_normal", "std": 0.1}, 0.01, "truncated_normal"),
        ({"init": "uniform", "gain": 3}, 9 / 8, "uniform"),
        ({"init": "torch"}, 1 / 24, "uniform"),
    ],
)
def test_initialisation_schemes(given: dict[str, object], variance: float, distribution: str) -> None:
    law = weight_law("weight", given, fan_in=8, fan_out=20)
    assert law.variance == pytest.approx(variance)
    assert law.distribution == distribution


def test_torch_default_biases_are_as_wide_as_its_weights() -> None:
    assert weight_law("weight", {"init": "torch"}, 8, 20).bias_std == pytest.approx(sqrt(1 / 24))


@pytest.mark.parametrize("given", [{"std": 1, "gain": 1}, {"std": 1, "init": "he"}, {"init": "nope"}, {"bias_std": -1}])
def test_contradictory_initialisation_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(InitialisationError):
        weight_law("weight", given, 8, 20)


@pytest.mark.parametrize(
    ("body", "line", "parts"),
    [
        ("- {component: lineer, units: 4}", 4, ["unknown component 'lineer'", "did you mean 'linear'"]),
        ("- {component: linear, unit: 4}", 4, ["no parameter 'unit'", "did you mean 'units'"]),
        ("- {component: linear}", 4, ["linear needs `units`"]),
        ("- {component: linear, units: 2.5}", 4, ["whole number"]),
        ("- {component: linear, units: 0}", 4, ["at least 1"]),
        ("- {component: linear, units: widht}", 4, ["unknown symbol 'widht'"]),
        ("- {component: linear, units: 4, init: hee}", 4, ["no initialisation is called 'hee'", "did you mean 'he'"]),
        ("- {component: linear, units: 4, std: 1, gain: 2}", 4, ["both fix the scale"]),
        ("- {component: dropout, mode: test}", 4, ["cannot be 'test'", "eval"]),
        ("- {component: relu, from: nobody}", 4, ["no component is called 'nobody'"]),
        ("- {component: sum, from: [input]}", 4, ["at least two inputs"]),
        ("- {component: residual}", 4, ["2 inputs", "branch"]),
        ("- {component: conv2d, filters: 4, kernel: 3}", 4, ["does not fit its input", "2 position axes"]),
        ("- {component: groupnorm, groups: 5}", 4, ["`groups` must divide channels = 16, and 5 does not"]),
        ("- {component: attention}", 4, ["attention needs tokens", "'input' gives vectors, 16"]),
        (
            "- {component: mixture_of_experts, experts: 4, active: 5, hidden: 8, units: 16}",
            4,
            ["`active` must be at most experts = 4, not 5"],
        ),
        ("- {component: fork}", 4, ["never written down"]),
        ("- {component: embedding, units: 4}", 4, ["needs token ids"]),
    ],
)
def test_mistakes_are_named_with_their_place_and_a_way_out(body: str, line: int, parts: list[str]) -> None:
    text = error(HEAD + "body:\n  " + body + "\n")
    assert text.startswith(f"net.yaml:{line}:")
    for part in parts:
        assert part in text, text


def test_a_shape_mismatch_names_both_shapes_and_both_components() -> None:
    text = error(
        HEAD + "body:\n  - {name: a, component: linear, units: 8}\n  - {name: s, component: sum, from: [a, input]}\n"
    )
    for part in ("'a' gives 8", "'input' gives 16", "same shape", "help"):
        assert part in text


def test_a_cycle_is_told_as_a_circle_of_names() -> None:
    text = error(
        HEAD + "body:\n  - {name: a, component: sum, from: [input, b]}\n  - {name: b, component: relu, from: a}\n"
        "  - {name: c, component: sum, from: [a, b]}\n"
    )
    assert "in a circle" in text and ("a -> b -> a" in text or "b -> a -> b" in text)


def test_an_output_that_nobody_uses_is_a_mistake() -> None:
    text = error(HEAD + "body:\n  - {name: a, component: relu}\n  - {name: b, component: relu, from: input}\n")
    assert "'a' is never used" in text


def test_all_mistakes_of_a_file_are_told_at_once_and_repeats_do_not_repeat_them() -> None:
    text = error(
        HEAD + "body:\n  - repeat: 50\n    name: b\n    body:\n      - {component: linear, unit: 3}\n"
        "  - {component: relu, slope: 2}\n"
    )
    assert text.count("no parameter 'unit'") == 1
    assert "units" in text


def test_a_block_that_uses_itself_ends() -> None:
    text = error(HEAD + "blocks: {loop: [{component: loop}]}\nbody: [{component: loop}]\n")
    assert "uses itself" in text


def test_a_network_of_absurd_size_is_refused_quickly() -> None:
    nested = "- {component: relu}"
    for _ in range(3):
        nested = "- repeat: 900\n  body:\n    " + nested.replace("\n", "\n    ")
    assert "more than" in error(HEAD + "body:\n" + "\n".join("  " + line for line in nested.split("\n")) + "\n")


def test_gates_must_name_a_component() -> None:
    text = error(
        HEAD + "body: [{name: a, component: relu}]\nexpect: [{at: b, quantity: second_moment, less_than: 2}]\n"
    )
    assert "no component is called 'b'" in text
    text = error(HEAD + "body: [{name: a, component: relu}]\nexpect: [{at: a, quantity: secnd_moment, less_than: 2}]\n")
    assert "no quantity is called 'secnd_moment'" in text and "did you mean 'second_moment'" in text


def test_weights_are_shared_between_alike_components_only() -> None:
    two = (
        "body:\n  - {name: a, component: linear, units: 8}\n"
        "  - {name: b, component: linear, units: %d, weights_of: %s}\n"
    )
    assert "cannot use the weights of 'a'" in error(HEAD + two % (9, "a"))
    assert "no component is called 'q'" in error(HEAD + two % (8, "q"))
