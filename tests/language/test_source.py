"""How a problem is shown: the place, the line, carets under the exact part, help."""

from pathlib import Path

import pytest

from lensnet.language.source import Problem, Source, SpecError, did_you_mean


def test_a_problem_shows_place_line_carets_and_help():
    source = Source("specs/net.yaml", "a: 1\nunits: widht\n")
    text = str(Problem(source, 2, 8, 5, "unknown symbol 'widht'", "did you mean 'width'?"))
    assert text.split("\n") == [
        "specs/net.yaml:2:8: error: unknown symbol 'widht'",
        "    units: widht",
        "           ^^^^^",
        "  = help: did you mean 'width'?",
    ]


@pytest.mark.parametrize(
    ("line", "column", "length", "carets"),
    [
        ("é: bad", 4, 3, "    " + " " * 3 + "^^^"),  # one column each
        ("漢字: bad", 5, 3, "    " + " " * 6 + "^^^"),  # two columns each
        ("k: 漢字", 4, 2, "    " + " " * 3 + "^^^^"),
        ("\tk: bad", 5, 3, "    \t" + " " * 3 + "^^^"),  # a tab stays a tab
        ("e\u0301: bad", 5, 3, "    " + " " * 3 + "^^^"),  # a combining accent takes no column
        ("short", 40, 1, "    " + " " * 5 + "^"),  # beyond the line: at its end
        ("", 1, 0, "    ^"),
    ],
)
def test_carets_stand_under_the_part_in_a_terminal(line, column, length, carets):
    shown = str(Problem(Source("f", line), 1, column, length, "m")).split("\n")
    assert shown[1] == "    " + line
    assert shown[2] == carets


def test_a_very_long_line_is_cut_around_the_problem():
    line = "x" * 500 + "BAD" + "y" * 100_000
    shown = str(Problem(Source("f", line), 1, 501, 3, "m")).split("\n")
    assert len(shown[1]) < 200
    start = shown[2].index("^")
    assert shown[1][start : start + 3] == "BAD" and shown[2].count("^") == 3


def test_escape_codes_of_a_file_never_reach_the_terminal():
    source = Source("f\x1b[31m", "a: \x1b[2J")
    text = str(Problem(source, 1, 4, 4, "bad '\x1b[2J'", "\x07"))
    assert "\x1b" not in text and "\x07" not in text


def test_lines_of_every_line_ending_and_a_byte_order_mark():
    source = Source("f", "\ufeffa\r\nb\rc\n")
    assert [source.line(n) for n in range(0, 6)] == ["", "a", "b", "c", "", ""]
    assert source.position(source.text.index("c")) == (3, 1)


def test_a_spec_error_lists_its_problems_in_the_order_of_the_file():
    source = Source("f", "a\nb\nc")
    problems = [Problem(source, line, 1, 1, f"m{line}") for line in (3, 1, 2)]
    error = SpecError(problems)
    assert [problem.line for problem in error.problems] == [1, 2, 3]
    assert [line for line in str(error).split("\n") if "error:" in line] == [f"f:{n}:1: error: m{n}" for n in (1, 2, 3)]


def test_too_many_problems_are_counted_not_shown():
    source = Source("f", "a")
    text = str(SpecError([Problem(source, 1, 1, 1, "m")] * 80))
    assert text.count("error: m") == 50 and text.endswith("... and 30 more errors")


@pytest.mark.parametrize(
    ("word", "options", "said"),
    [
        ("untis", ["units", "gain"], "did you mean 'units'?"),
        ("UNITS", ["units", "gain"], "did you mean 'units'?"),
        ("zzz", ["units", "gain"], "one of: gain, units"),
        ("zzz", ["units"], "only 'units' is possible here"),
        ("zzz", [], ""),
        ("zzz", [f"name{i}" for i in range(40)], ""),
    ],
)
def test_did_you_mean(word, options, said):
    assert did_you_mean(word, options) == said


def test_files_that_cannot_be_read(tmp_path: Path):
    missing = tmp_path / "none.yaml"
    with pytest.raises(SpecError, match="there is no file"):
        Source.read(missing)
    with pytest.raises(SpecError, match="cannot read"):
        Source.read(tmp_path)
    with pytest.raises(SpecError, match="cannot read"):
        Source.read("a\0b")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * 1_000_001)
    with pytest.raises(SpecError, match="larger than 1,000,000 bytes"):
        Source.read(large)


def test_bytes_that_are_not_utf8_are_pointed_at(tmp_path: Path):
    path = tmp_path / "latin1.yaml"
    path.write_bytes("network: ok\nabout: é".encode() + b"\xe9t\xe9\n")
    with pytest.raises(SpecError) as caught:
        Source.read(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (2, 9)
    assert "0xe9" in problem.message and "UTF-8" in problem.help
