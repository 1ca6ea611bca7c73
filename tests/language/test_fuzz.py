"""20,000 random and mutated formulas and YAML files, and networks of them: no hang, no crash, nothing executed.

Each input gets two seconds of processor time. An audit hook watches what the interpreter does meanwhile: compiling
anything but the formula's own text (which `ast.parse` does), running code, opening files, importing, starting programs.
"""

from __future__ import annotations

import random
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensnet.language.formula import FUNCTIONS, FormulaError, check_formula, evaluate_number, parse_formula
from lensnet.language.loading import load_component_spec, load_network_spec
from lensnet.language.source import Source, SpecError
from lensnet.network.build import load_network
from tests.language.test_formula_attacks import CANCELLING, CODE, FINE, TOO_MUCH
from tests.network.test_faults import SOUND

FORMULAS = 12_000
FILES = 8_000
NETWORKS = 400
SECONDS = 2.0
WATCHED = ("exec", "compile", "open", "import", "os.", "subprocess.", "socket.", "ctypes.", "pty.", "shutil.", "code.")

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["x", "y", "q", "α", "fan_in"]
OPERATORS = {"gather": 1, "shift": 2, "ones": 0}

seen: list[str] = []
watching = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not watching or not event.startswith(WATCHED):
        return
    if event == "compile" and arguments[1] == "<unknown>":  # ast.parse of a formula: a tree, no code
        return
    seen.append(f"{event} {str(arguments)[:200]}")


class TooSlow(Exception):
    pass


def _alarm(*_: object) -> None:
    raise TooSlow


@contextmanager
def timed() -> Iterator[None]:
    """Within this, `survives` can end what takes too long; what was seen before is forgotten."""
    seen.clear()
    old = signal.signal(signal.SIGVTALRM, _alarm)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, old)


@contextmanager
def watched() -> Iterator[None]:
    """Within this, what the interpreter does is recorded in `seen`."""
    global watching
    if not getattr(sys, "_lensnet_audit", False):
        sys.addaudithook(_audit)
        sys._lensnet_audit = True  # type: ignore[attr-defined]
    watching = True
    try:
        with timed():
            yield
    finally:
        watching = False


def survives(run: Callable[[], object], allowed: type[Exception], text: str) -> bool:
    """Runs within the time limit; whether it was accepted. Anything but `allowed` fails the test with the input."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        run()
        accepted = True
    except allowed as error:
        str(error)
        accepted = False
    except TooSlow:
        pytest.fail(f"more than {SECONDS} s: {text!r}")
    except BaseException as error:
        pytest.fail(f"{type(error).__name__}: {error} from {text!r}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    assert not seen, f"{seen} from {text!r}"
    return accepted


# Formulas


def random_formula(rng: random.Random, depth: int = 0) -> str:
    """A formula of the grammar, often valid, with nasty numbers."""
    kind = rng.random()
    if depth > 5 or kind < 0.28:
        return rng.choice([*NAMES, *NAMES, number(rng), "pi"])
    if kind < 0.62:
        left, right = random_formula(rng, depth + 1), random_formula(rng, depth + 1)
        text = f"{left}{rng.choice(['+', '-', '*', '/', ' + ', ' - ', ' * ', '**'])}{right}"
        return text if rng.random() < 0.4 else f"({text})"
    if kind < 0.68:
        return f"-{random_formula(rng, depth + 1)}"
    if kind < 0.74:
        return f"{random_formula(rng, depth + 1)}**{rng.choice(['2', '3', '0.5', '(1/3)', '-1', '-2', '64', 'x', '8'])}"
    if kind < 0.80:
        condition = (
            f"{random_formula(rng, depth + 2)} {rng.choice(['<', '<=', '>', '>='])} {random_formula(rng, depth + 2)}"
        )
        return f"where({condition}, {random_formula(rng, depth + 1)}, {random_formula(rng, depth + 1)})"
    if kind < 0.86:
        name, arity = rng.choice(list(OPERATORS.items()))
        return f"{name}({', '.join(random_formula(rng, depth + 1) for _ in range(arity))})"
    name = rng.choice([name for name in FUNCTIONS if name != "where"])
    count = rng.randint(FUNCTIONS[name].least, FUNCTIONS[name].most)
    return f"{name}({', '.join(random_formula(rng, depth + 1) for _ in range(count))})"


def number(rng: random.Random) -> str:
    return rng.choice(
        ["0", "1", "2", "3", "7", "0.1", "1e-3", "1e3", "10", "64", "65", "1e50", "1e-50", "1000000007", "0.5", "1/3"]
    )


PIECES = (
    list("+-*/(),.<>=^%&|~[]{}:;'\"#@!$\\ \t\n0123456789exyα漢²_\x00\u202e")
    + ["**", "//", "lambda ", "__class__", "import ", "exp(", "where(", " if ", "9**9", "1e999", "x-x", "ｅ", "0x", "j"]
    + ["gamma(", "max(", ".5", "(((((", ")))))", "**-", "not ", "True", "None", "f'", "\u0301", "-" * 30, "(" * 30]
)


def mutated(rng: random.Random, text: str, pieces: list[str]) -> str:
    """`text` after a few cuts, insertions, doublings and swaps."""
    for _ in range(rng.randint(1, 5)):
        place, length = rng.randint(0, len(text)), rng.randint(1, 6)
        kind = rng.random()
        if kind < 0.4:
            text = text[:place] + rng.choice(pieces) + text[place:]
        elif kind < 0.7:
            text = text[:place] + text[place + length :]
        elif kind < 0.85:
            text = text[:place] + text[place : place + 4 * length] * rng.randint(2, 4) + text[place + length :]
        else:
            other = rng.randint(0, len(text))
            text = text[:place] + text[other : other + 3 * length] + text[place + length :]
    return text


def test_formulas():
    rng = random.Random(20_000)
    seeds = CODE + TOO_MUCH + CANCELLING + FINE
    warm_up()
    accepted = 0
    with watched():
        for index in range(FORMULAS):
            text = random_formula(rng) if index % 3 else rng.choice(seeds)
            if index % 3 != 1:
                text = mutated(rng, text, PIECES)
            text = text[:2200]
            accepted += survives(lambda text=text: parse_formula(text, NAMES, OPERATORS), FormulaError, text)
            survives(lambda text=text: check_formula(text, NAMES, OPERATORS), FormulaError, text)
            survives(lambda text=text: evaluate_number(text, dict.fromkeys(NAMES, 0.7)), FormulaError, text)
    assert accepted > FORMULAS / 8, "the generator should mostly reach the algebra"


def warm_up() -> None:
    """Imports what sympy imports on first use, so that the audit hook sees formulas alone."""
    rng = random.Random(1)
    for _ in range(300):
        try:
            parse_formula(random_formula(rng), NAMES, OPERATORS)
        except FormulaError:
            pass


# YAML files

YAML_PIECES = (
    list("-:,[]{}&*!|>'\"%@`#?\n \t~=.<0123456789aαé漢\x00\x07\u2028")
    + ["\n  - ", "\n    ", ": ", "&a ", "*a", "<<: ", "!!python/object/apply:os.system ", "!!int ", "---\n", "...\n"]
    + [
        "null",
        "true",
        ".inf",
        ".nan",
        "1e999",
        "1e-3",
        "0x1f",
        "99999999999999999999",
        "repeat: ",
        "component: ",
        "body:",
    ]
    + ["from: ", "branch: ", "name: ", "[" * 45, "{a: " * 20, "? ", "|\n", ">-\n", "''", '"\\x41"', "\r\n", "9**9**9"]
    + ["given: {x: 1}", "formula: ", "x.__class__", "lambda: 1", "constants:", "define:", "effects:", "%YAML 1.1\n"]
)


def seed_files() -> list[str]:
    folders = (ROOT / "specs", ROOT / "components")
    files = [path.read_text("utf-8") for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    small = [text for text in files if len(text) < 4000]
    return [*small, NETWORK, COMPONENT]


NETWORK = """network: residual-mlp
constants: {depth: 12, width: 4*depth}
input: {source: digits, batch: 256}
body:
  - {name: stem, component: linear, units: width, gain: 1}
  - repeat: depth
    name: block
    body:
      - name: add
        component: residual
        branch_scale: 1/sqrt(depth)
        branch:
          - {component: layernorm}
          - {component: linear, units: width, gain: sqrt(2)}
define:
  swish2: {function: x*sigmoid(2*x)}
expect:
  - {at: block.11.add, quantity: second_moment, between: [0.5, 4]}
"""
COMPONENT = """component: linear
parameters:
  units: {type: integer, min: 1}
  gain: {type: real, min: 0, default: 1, symbol: g, about: "weight std = gain / sqrt(fan_in)"}
effects:
  moments:
    mean: 0
    second_moment: {formula: g**2*q, error: 0, cites: [poole2016]}
    backward_second_moment: {x: g**2*units/channels*p}
assumes: [text, {check: channels >= 16, below: fluctuation}]
"""


def random_yaml(rng: random.Random, depth: int = 0) -> str:
    """A flow value with words of the language, nested at random."""
    words = [
        "network",
        "body",
        "component",
        "input",
        "source",
        "gaussian",
        "x",
        "1",
        "0.5",
        "define",
        "function",
        "repeat",
    ]
    words += [
        "effects",
        "moments",
        "mean",
        "formula",
        "q + 1",
        "'x**2'",
        "parameters",
        "type",
        "integer",
        "branch",
        "from",
    ]
    kind = rng.random()
    if depth > 4 or kind < 0.4:
        return rng.choice(words)
    parts = [random_yaml(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    if kind < 0.6:
        return f"[{', '.join(parts)}]"
    return "{" + ", ".join(f"{rng.choice(words)}: {part}" for part in parts) + "}"


def test_files():
    rng = random.Random(8_000)
    seeds = seed_files()
    load_network_spec(Source("n", NETWORK))
    load_component_spec(Source("c", COMPONENT))
    accepted = 0
    with watched():
        for index in range(FILES):
            text = "\n".join(f"{key}: {random_yaml(rng)}" for key in ("network", "input", "body", "define"))
            if index % 4:
                text = mutated(rng, rng.choice(seeds), YAML_PIECES)
            load = load_network_spec if "network" in text else load_component_spec
            accepted += survives(lambda load=load, text=text: load(Source("f", text)), SpecError, text)
    assert accepted > 100, "some mutations are harmless"


def test_networks():
    """Past the reading: names, blocks in blocks, wiring, shapes. What is not refused is a network."""
    rng = random.Random(500)
    seeds = [text for text in seed_files() if text.startswith("network:")] + [SOUND] * 10
    accepted = 0
    with timed():
        for index in range(NETWORKS):
            text = rng.choice(seeds)
            if index % 2:
                text = mutated(rng, text, YAML_PIECES)
            else:  # one word for another: still YAML, and often still a spec
                words = re.findall(r"\w+", text)
                for _ in range(rng.randint(1, 2)):
                    text = re.sub(rf"\b{rng.choice(words)}\b", rng.choice(words), text, count=1)
            accepted += survives(lambda text=text: load_network(Source("f", text)), SpecError, text)
    assert 5 < accepted < NETWORKS / 2, "some changes are harmless, most are not"


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_text_is_a_formula_or_refused(text):
    for run in (lambda: check_formula(text, NAMES), lambda: evaluate_number(text, {"x": 1})):
        try:
            run()
        except FormulaError as error:
            assert 1 <= error.column <= max(1, len(text) + 1)
            str(error)


@settings(max_examples=300)
@given(st.text(max_size=300) | st.text("-:,[]{}&*!|>'\"#?\n ab1", max_size=60))
def test_any_text_is_a_spec_or_refused(text):
    for load in (load_network_spec, load_component_spec):
        try:
            load(Source("f", text))
        except SpecError as error:
            assert error.problems
            for problem in error.problems:
                assert problem.message and 0 <= problem.line <= problem.source.line_count
            str(error)


@settings(max_examples=300)
@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9.]{0,20}=[-a-z0-9*\[\]{},.: ]{0,12}", fullmatch=True))
def test_any_override_fits_or_is_refused(text):
    try:
        load_network_spec(Source("n", NETWORK), [text, f"body.stem.{text}", f"constants.depth={text}"])
    except SpecError as error:
        assert all(problem.message for problem in error.problems)
        str(error)


def test_the_audit_hook_sees_code_run():
    """The hook itself works: otherwise the tests above would prove nothing."""
    with watched():
        eval("1 + 1")
        open(__file__).close()
        found = list(seen)
    assert any(event.startswith("exec") for event in found)
    assert any(event.startswith("compile") for event in found)
    assert any(event.startswith("open") for event in found)
