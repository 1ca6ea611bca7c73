"""YAML to plain data with places: scalars of YAML 1.2, bounds, and everything that is refused."""

import random
import sys
import time

import pytest
import yaml

from lensnet.language import yaml_tree
from lensnet.language.source import Source, SpecError
from lensnet.language.yaml_tree import read_value, read_yaml, resolve_scalar
from tests.language.marked import marked


def problems(text):
    with pytest.raises(SpecError) as caught:
        read_yaml(Source("f.yaml", text))
    return caught.value.problems


@pytest.fixture(params=["C", "Python"])
def either_loader(request, monkeypatch):
    """Both of PyYAML's parsers: the C one, and the one used where it is missing."""
    if request.param == "Python":
        monkeypatch.setattr(yaml_tree, "LOADER", yaml.SafeLoader)
    return request.param


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E3", 1000.0), ("-1.5e+2", -150.0), (".5", 0.5), ("+1.", 1.0), ("007", 7), ("-0", 0),
        ("0x1F", 31), ("0o17", 15), ("123456789012345678", 123456789012345678),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"), ("NO", "NO"),
        ("12:30:00", "12:30:00"), ("1_000", "1_000"), ("0b11", "0b11"), ("2020-01-01", "2020-01-01"), ("=", "="),
        ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"),
        ("null", None), ("~", None), ("", None), ("Null", None), ("nul", "nul"),
        ("1e", "1e"), (".", "."), ("-", "-"), ("e3", "e3"), ("1.2.3", "1.2.3"), ("0x", "0x"), ("0xg", "0xg"),
        ("٣", "٣"),
    ],
)  # fmt: skip
def test_scalars_of_yaml_1_2(text, value):
    found = resolve_scalar(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.Inf", "+.INF", ".nan", ".NaN", "1e999", "-1e400", "1" * 19, "9" * 5000])
def test_numbers_beyond_64_bits_or_not_finite_are_refused(text):
    with pytest.raises(ValueError):
        resolve_scalar(text)
    (problem,) = problems(f"a: {text}")
    assert (problem.line, problem.column, problem.length) == (1, 4, len(text))


def test_data_and_places(either_loader):
    text = "a: 1\nb: [x, 'y z', \"w\"]\n漢字:\n  - {k: é, 'q': no}\n  - |\n    two\n    lines\n"
    document = read_yaml(Source("f", text))
    assert document.data == {"a": 1, "b": ["x", "y z", "w"], "漢字": [{"k": "é", "q": "no"}, "two\nlines\n"]}
    lines = text.split("\n")

    def shown(path, key=False):
        span = document.place(path, key)
        return lines[span.line - 1][span.column - 1 : span.column - 1 + span.length]

    assert shown(("a",)) == "1" and shown(("a",), key=True) == "a"
    assert shown(("b",)) == "[x, 'y z', \"w\"]"
    assert [shown(("b", i)) for i in range(3)] == ["x", "'y z'", '"w"']
    assert shown(("漢字",), key=True) == "漢字"
    assert shown(("漢字", 0)) == "{k: é, 'q': no}"
    assert shown(("漢字", 0, "q"), key=True) == "'q'" and shown(("漢字", 0, "k")) == "é"
    assert shown(("漢字", 1)) == "|"
    assert [document.place(("b", i)).inside(0, 1).column for i in range(3)] == [5, 9, 16]


@pytest.mark.parametrize(
    "text",
    [
        "k: g**2*q + ab",
        "k: 'g**2*q'", 'k: "é漢*q"', "k: g**2\n  *q\n\n  + ab", "k: 'g**2\n   *q'", "k: ab  # comment",
        "k: >-\n  g**2\n  *q", "k: >\n    g**2\n\n    *q\nz: 1", "k: |\n  g**2\n  *q  \n# end\nz: 1", 
        "k: >-\n  é\n  漢\n", "k: ' q '",
    ],
)  # fmt: skip
def test_every_character_of_a_scalar_is_found_in_the_file(text):
    document = read_yaml(Source("f", text))
    value, span = document.data["k"], document.place(("k",))
    assert span.pieces
    for index, char in enumerate(value):
        if not char.isspace():
            place = span.inside(index, 1)
            assert text.split("\n")[place.line - 1][place.column - 1] == char


@pytest.mark.parametrize("text", ["k: 'it''s'", 'k: "a\\x41"', "k: !!str g", "k: &a g", 'k: "a \\\n  b"', "k: [a]"])
def test_a_scalar_that_does_not_read_as_written_is_pointed_at_as_a_whole(text):
    span = read_yaml(Source("f", text)).place(("k",))
    assert span.pieces == () and span.inside(0, 1) == span


def test_places_skip_what_the_file_does_not_have():
    document = read_yaml(Source("f", "effects: {moments: {mean: m}}\nbody: [{component: a}]"))
    assert document.place(("effects", "moments", "mean", "formula")) == document.place(("effects", "moments", "mean"))
    assert document.place(("effects", "moments", "x")) == document.place(("effects", "moments"), key=True)
    assert document.place(("body", 0, "<use>", "name")) == document.place(("body", 0))
    assert document.place(("nothing",)) == document.place(())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n⟦a⟧: 2", "given twice"),
        ("b: {k: 1, ⟦k⟧: 2}", "given twice"),
        ("a: &x 1\nb: ⟦*x⟧", "alias"),
        ("a: ⟦*missing⟧", "alias"),
        ("a: {⟦<<⟧: {b: 1}}", "merge"),
        ("a: ⟦!!python/object/apply:os.system ['true']⟧", "tag"),
        ("a: ⟦!!python/name:os.system⟧ x", "tag"),
        ("a: ⟦!foo bar⟧", "tag"),
        ("a: ⟦!!set {x}⟧", "tag"),
        ("a: ⟦!!binary aGk=⟧", "tag"),
        ("a: ⟦!!timestamp 2020-01-01⟧", "tag"),
        ("a: ⟦!!int x⟧", "tag"),
        ("a: ⟦!!seq {x: 1}⟧", "tag"),
        ("a: ⟦!!map [x]⟧", "tag"),
        ("a: ⟦!!omap [x: 1]⟧", "tag"),
        ("⟦!!str a⟧: 1", "tag"),
        ("a: ⟦.inf⟧", "finite"),
        ("? ⟦[⟧a]\n: 1", "key"),
        ("⟦{⟧a: 1}: 1", "key"),
        ("a: 1\n⟦---⟧\nb: 2", "second document"),
        ("a: 1\n...\n⟦---⟧\nb: 2", "second document"),
        ("⟦⟧", "empty"),
        ("⟦- a⟧\n- b", "a list"),
        ("⟦text⟧", "text"),
        ("⟦3⟧", "an integer"),
        ("a: ⟦\x07⟧", "U+0007"),
        ("a: b⟦\u2028⟧c", "U+2028"),
        ("a: ⟦\u202e⟧x", "U+202E"),
        ("a: x⟦\x85⟧y", "U+0085"),
    ],
)
def test_what_is_refused_and_where(text, message):
    clean, (place,) = marked(text)
    if message == "tag":  # the C parser counts a tag's collection to its opening bracket only
        found = problems(clean)[0]
        assert (found.line, found.column) == (place.line, place.column)
    else:
        found = problems(clean)[0]
        assert (found.line, found.column, found.length) == (place.line, place.column, max(1, place.length))
    assert message in found.message


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: b: c",
        "a:\n\t- b",
        "a: @x",
        "a: %x",
        "a: 'x",
        "{a: 1",
        "a: [}",
        "&",
        "*",
        "!",
        "? a\n: : b",
        "- a\nb: 1",
    ],
)
def test_broken_yaml_is_one_problem_with_a_place(text, either_loader):
    (problem,) = problems(text)[:1]
    assert 1 <= problem.line <= text.count("\n") + 1 and problem.column >= 1 and problem.message


def test_a_tab_and_a_colon_get_help():
    assert problems("a:\n\t- b")[0].help == "indent with spaces, not tabs"
    assert "quote" in problems("about: this: that")[0].help


def test_all_problems_of_a_file_at_once():
    clean, places = marked("a: ⟦*x⟧\nb: {k: 1, ⟦k⟧: ⟦.nan⟧}\nc: ⟦!foo 3⟧\n⟦a⟧: 2")
    assert [(p.line, p.column) for p in problems(clean)] == [(p.line, p.column) for p in places]


def test_a_duplicate_names_the_first_line():
    assert problems("a: 1\nb: 2\na: 3\na: 4")[0].help == "it was first given on line 1"
    assert problems("a: 1\nb: 2\na: 3\na: 4")[1].help == "it was first given on line 1"


def test_core_tags_are_allowed():
    text = "a: !!str 3\nb: !!int 3\nc: !!float 3.5\nd: !!bool true\ne: !!null ~\nf: !!seq [1]\ng: !!map {k: 1}\nh: ! 3"
    data = read_yaml(Source("f", text)).data
    assert data == {"a": "3", "b": 3, "c": 3.5, "d": True, "e": None, "f": [1], "g": {"k": 1}, "h": "3"}


def test_keys_are_text():
    assert read_yaml(Source("f", "1: a\ntrue: b\n'': c\n~: d")).data == {"1": "a", "true": "b", "": "c", "~": "d"}


def bomb(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(12), "alias"),
        ("[" * 5000, "40 levels"),
        ("{a: " * 5000, "40 levels"),
        ("- " * 5000, "40 levels"),
        ("\n".join("  " * i + "a:" for i in range(5000))[:900_000], "40 levels"),
        ("a: [" + "1," * 60_000 + "]", "50,000 values"),
        ("\n".join(f"k{i}: 1" for i in range(30_000)), "50,000 values"),
        ("a: " + "x" * 1_000_001, "1,000,000 bytes"),
        ("a: " + "é" * 500_001, "1,000,000 bytes"),
        ("? " * 3000, "key"),
        ("a: " + "'" * 900_001, "YAML"),
        ("a: " + "[" * 30 + "]" * 31, "YAML"),
        ("&a " * 3000, "YAML"),
        ("!" * 900_000, "tag"),
        ("#" * 900_000, "empty"),
        ("\n" * 900_000, "empty"),
        ("a: |\n" + " " * 900_000, None),
        ("a: |\n" + "  x\n" * 200_000, None),
        ("a: |\n" + "\n" * 900_000 + "  x", None),
        ("a: 'x" + "\n" * 900_000 + "y'", None),
        ("%TAG ! tag:example.com,2000:\n---\na: !x 1", "tag"),
        ("%YAML 9.9\n---\na: 1", "YAML"),
    ],
)
def test_bombs_are_refused_fast(text, message):
    limit, start = sys.getrecursionlimit(), time.process_time()
    if message is None:
        read_yaml(Source("f", text))
    else:
        assert message in problems(text)[0].message
    assert time.process_time() - start < 2
    assert sys.getrecursionlimit() == limit


def test_a_large_file_within_the_bounds_is_read_fast():
    text = "".join(f"k{i}: {{a: 1, b: [1, 2, x*y]}}\n" for i in range(6000 * 5 // 6))
    start = time.process_time()
    assert len(read_yaml(Source("f", text)).data) == 5000
    assert time.process_time() - start < 4


def test_as_many_problems_as_a_person_can_read():
    assert len(problems("\n".join("a: 1" for _ in range(20_000)))) == 100


def test_against_pyyaml_on_random_data():
    """The same data as PyYAML's own loader on documents that it wrote (strings quoted, so 1.1 and 1.2 agree)."""
    rng = random.Random(5)
    words = ["a", "b c", "é", "漢字", "no", "1e-3", "x: y", "# z", "", "'", '"', "multi\nline", " pad ", "\\n"]

    def value(depth):
        kind = rng.random()
        if depth > 3 or kind < 0.5:
            return rng.choice([rng.choice(words), rng.randint(-999, 999), round(rng.random(), 3), True, None])
        if kind < 0.75:
            return [value(depth + 1) for _ in range(rng.randint(0, 4))]
        return {f"k{i}": value(depth + 1) for i in range(rng.randint(0, 4))}

    for _ in range(300):
        data = {"root": value(0)}
        text = yaml.safe_dump(data, allow_unicode=True, default_flow_style=rng.choice([None, True, False]))
        try:
            found = read_value(Source("f", text)).data
        except SpecError as error:  # PyYAML writes an alias for a list that it holds twice
            assert "alias" in str(error)
            continue
        assert found == plain(data), text


def plain(data):
    """PyYAML leaves the text `1e-3` unquoted, which is a number in YAML 1.2."""
    if isinstance(data, dict):
        return {key: plain(part) for key, part in data.items()}
    if isinstance(data, list):
        return [plain(part) for part in data]
    return 0.001 if data == "1e-3" else data
