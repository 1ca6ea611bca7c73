"""Every fault of a file is told at once, and a fault never makes a sound part look wrong."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from lensnet.language.source import Source, SpecError
from lensnet.network.build import load_network

SOUND = """\
network: sound
constants: {width: 32, depth: 2, heads: 4, wide: 2*width}
input: {source: gaussian, channels: 16, positions: 6, batch: 4}
body:
  - {name: stem, component: linear, units: width, gain: sqrt(2)}
  - {name: bend, component: mine, slope: 0.1}
  - repeat: depth
    name: stack
    body:
      - name: add
        component: residual
        branch:
          - {name: norm, component: layernorm}
          - {name: mix, component: attention, heads: heads}
          - {name: drop, component: dropout, rate: 0.1*index}
  - {name: two, component: wiggle, size: wide}
  - {name: other, component: linear, from: stack.1.add, units: width}
  - {name: join, component: concat, from: [two, other]}
  - {name: pool, component: token_mean}
  - {name: head, component: linear, units: 10, bias_std: 0.1}
blocks:
  wiggle:
    parameters: {size: 8}
    body:
      - {name: up, component: linear, units: size}
      - {name: turn, component: tanh}
define:
  mine: {parameters: {slope: {type: real, default: 0, symbol: a}}, function: "max(x, a*x)"}
expect:
  - {at: stack.1.add, quantity: second_moment, between: [0.5, 4]}
"""
FAULTS = {
    "a constant that is no formula": ("heads: 4", "heads: 4+"),
    "a constant of an unknown one": ("wide: 2*width", "wide: 2*wdth"),
    "an input without its channels": ("channels: 16, ", ""),
    "a mean that is no number": ("batch: 4}", "batch: 4, mean: [1, 2]}"),
    "an unknown component": ("component: linear, units: width, gain", "component: lineer, units: width, gain"),
    "an unknown parameter": ("slope: 0.1}", "slop: 0.1}"),
    "an unknown count": ("repeat: depth", "repeat: dpth"),
    "a count that is no whole number": ("repeat: depth", "repeat: depth/4"),
    "an unknown component in a branch": ("component: layernorm", "component: layrnorm"),
    "a window that does not fit": ("component: token_mean", "component: conv1d, filters: 4, kernel: 9"),
    "a rate above its bound": ("0.1*index", "5 + index"),
    "a parameter that the block has not": ("size: wide", "sise: wide"),
    "a block that is not there": ("component: wiggle", "component: wigle"),
    "a reference to nothing": ("from: stack.1.add", "from: stack.1.ad"),
    "a list where a name stands": ("from: [two, other]", "from: [two, [other]]"),
    "a parameter too many": ("token_mean}", "token_mean, rate: 2}"),
    "a parameter too few": ("units: 10, ", ""),
    "an unknown symbol": ("bias_std: 0.1", "bias_std: 0.1*wth"),
    "a mapping as parameter": ("units: size", "units: {size: 1}"),
    "a component in the block": ("component: tanh", "component: tahn"),
    "a function of nothing": ("max(x, a*x)", "max(y, a*x)"),
    "a kind of parameter": ("type: real", "type: reel"),
    "a gate on nothing": ("at: stack.1.add", "at: stack.2.add"),
    "a gate without room": ("[0.5, 4]", "[5, 4]"),
    "a key too many": ("network: sound", "network: sound, netwrk"),
}
# Where the first stands, nobody can tell whether the second is a fault.
HIDES = {
    "a function of nothing": {"an unknown parameter"},
    "a kind of parameter": {"an unknown parameter", "a function of nothing"},
    "an unknown count": {"a reference to nothing", "a gate on nothing"},
    "a count that is no whole number": {"a reference to nothing", "a gate on nothing"},
    "a block that is not there": {"a parameter that the block has not"},
    "a gate without room": {"a gate on nothing"},
}
BEHIND = ("a gate on nothing", "a gate without room", "a parameter too few", "an unknown symbol", "a key too many")


def hides(fault: str) -> set[str]:
    """Faults that cannot be seen behind this one: of shapes, where a component before them has none."""
    return HIDES.get(fault, set()) | (set() if fault in BEHIND else {"a window that does not fit"})


def told(faults: tuple[str, ...]) -> set[tuple[int, str]]:
    """Line and message of every problem of the file with these faults."""
    text = SOUND
    for fault in faults:
        right, wrong = FAULTS[fault]
        assert right in text, fault
        text = text.replace(right, wrong, 1)
    with pytest.raises(SpecError) as caught:
        load_network(Source("net.yaml", text))
    return {(problem.line, problem.message) for problem in caught.value.problems}


def test_the_file_without_faults_is_sound() -> None:
    assert len(load_network(Source("net.yaml", SOUND)).network) > 10


def compatible(one: str, other: str) -> bool:
    return FAULTS[one][0] not in FAULTS[other][0] and FAULTS[other][0] not in FAULTS[one][0]


@pytest.fixture(scope="module")
def alone() -> dict[str, set[tuple[int, str]]]:
    return {fault: told((fault,)) for fault in FAULTS}


@pytest.mark.parametrize("seed", range(24))
def test_two_faults_are_told_as_each_is_alone(alone: dict[str, set[tuple[int, str]]], seed: int) -> None:
    pairs = [pair for pair in combinations(FAULTS, 2) if compatible(*pair)]
    one, other = random.Random(seed).choice(pairs)
    hidden = {fault for first, fault in ((one, other), (other, one)) if fault in hides(first)}
    expected = set().union(*(alone[fault] for fault in (one, other) if fault not in hidden))
    assert told((one, other)) == expected


def test_all_faults_of_a_file_are_told_at_once(alone: dict[str, set[tuple[int, str]]]) -> None:
    chosen: list[str] = []
    for fault in FAULTS:
        if all(compatible(fault, other) and fault not in hides(other) | hides(fault) for other in chosen):
            chosen.append(fault)
    assert len(chosen) >= 15
    expected = set().union(*(alone[fault] for fault in chosen if not any(fault in hides(other) for other in chosen)))
    assert told(tuple(chosen)) == expected
