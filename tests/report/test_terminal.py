"""The terminal report: structure, widths, folding, and text from files that must not reach the terminal as control."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from lensnet.compare import Report
from lensnet.report.fold import fold
from lensnet.report.numbers import clip, percent, short, spread, with_error
from lensnet.report.terminal import as_text
from tests.compare.synthetic import Part, alexnet, report_of, transformer


@pytest.fixture(scope="module")
def wrong() -> Report:
    return report_of(alexnet(), name="alexnet")


@pytest.fixture(scope="module")
def deep() -> Report:
    return report_of(transformer(), name="gpt2")


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(wrong: Report, deep: Report, width: int) -> None:
    long_names = report_of([Part("a_block_with_a_long_name." * 5 + f"layer{i}", width=512) for i in range(3)])
    for report in (wrong, deep, long_names):
        assert max(map(len, as_text(report, width).splitlines())) <= width


def test_order_of_the_parts(wrong: Report) -> None:
    text = as_text(wrong, 100)
    parts = ["alexnet", "coverage 23 components", "signal q, forward", "gradient p, backward", "rule ✓", " # component",
             "budget", "findings", "out of regime", "worst rows", "exit status 1"]  # fmt: skip
    places = [text.index(part, text.index("worst rows") if part == "exit status 1" else 0) for part in parts]
    assert places[:6] == sorted(places[:6])
    assert text.index("budget") < text.index("findings\n") < text.index("worst rows") < text.index("exit status")


def test_numbers_are_never_cut(wrong: Report) -> None:
    table = as_text(wrong, 80).split("predicted")[2]
    assert "…" not in "".join(line[24:] for line in table.splitlines() if re.match(r" ?\d+ ", line))


def test_predicted_stands_left_of_measured(wrong: Report) -> None:
    for width in (80, 120):
        (head,) = (line for line in as_text(wrong, width).splitlines() if "measured ± se" in line)
        assert head.index("predicted") < head.index("measured ± se")


def test_verdicts_can_be_told_without_colour(wrong: Report) -> None:
    text = as_text(wrong, 80)
    (line,) = (line for line in text.splitlines() if line.startswith("             ") and "-23% ✗" in line)
    assert "2.44e-5" in line and "1.881±0.037e-5" in line


def test_worst_row_comes_last_with_its_numbers(wrong: Report) -> None:
    tail = as_text(wrong, 100).split("worst rows")[1]
    entries = re.findall(r"✗ (\S+) .*(local|through)", tail)
    assert entries[-1] == ("classifier.fc7", "local")  # the cause, after its consequences
    assert "predicted 2.44e-5, measured 1.881±0.037e-5" in tail


def test_failed_assumption_names_margin_level_and_components(wrong: Report) -> None:
    text = " ".join(as_text(wrong, 120).split())
    assert "the kernel level holds there: features.pool1, features.pool2, features.pool5" in text


def test_repeated_blocks_fold_and_the_guilty_one_stands_out(deep: Report) -> None:
    folded, full = as_text(deep, 80), as_text(deep, 80, all_rows=True)
    assert "block.{0-11}.attention" in folded and "x 12" in folded
    assert re.search(r"^59 block\.7\.attention", folded, re.M)
    assert "block.11.gelu" in full and len(full.splitlines()) > 2 * len(folded.splitlines())


def test_strip_draws_every_component_up_to_the_width(wrong: Report) -> None:
    strip = as_text(wrong, 80).split("signal q")[1].split("gradient p")[0]
    assert sum(strip.count(dot) for dot in "●✗○?") - 1 == 23  # one ● stands in the legend
    assert "╮" in strip and "features" in strip


def test_prediction_and_measurement_alone() -> None:
    from lensnet.compare.comparison import report_on
    from tests.compare.synthetic import effects_of, network_of

    parts = alexnet()
    effects = effects_of(parts, {"input": 1.0}, {}, local=False)
    prediction = type("Through", (), {"effects": effects, "signals": {}})()
    report = report_on(network_of(parts), prediction)
    text = as_text(report, 80)
    assert report.kind == "prediction" and report.exit_status == 0
    assert (
        "exit status" not in text
        and "○ out of regime" in text
        and "the kernel level holds there" in " ".join(text.split())
    )
    assert max(map(len, text.splitlines())) <= 80


def test_report_shows_itself_in_colour_and_as_text(wrong: Report) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    console.print(wrong)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[" in console.file.getvalue()
    assert "exit status 1" in str(wrong)
    assert repr(wrong).startswith("<Report alexnet")


def test_control_characters_of_a_file_stay_out_of_the_terminal() -> None:
    hostile = replace(report_of([Part("fc")]), about="\x1b[2J\x07 gone [red]markup[/red]", network="a\x1b]0;b")
    text = as_text(hostile, 80)
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]markup[/red]" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (0.0354, "0.0354"), (1.0, "1.00"), (12.34, "12.3"), (0.00454, "4.54e-3"),
     (9.996, "10.0"), (123456.0, "1.23e5"), (-2.5e-12, "-2.50e-12"), (float("inf"), "inf"), (float("nan"), "nan"),
     (1e-310, "1.00e-310"), (1e308, "1.00e308")],
)  # fmt: skip
def test_short_numbers(value: float | None, text: str) -> None:
    assert short(value) == text


def test_numbers_with_errors_ranges_and_percents() -> None:
    assert with_error(0.0354, 0.0012) == "0.0354±0.0012"
    assert with_error(2.889e-5, 1.1e-6) == "2.89±0.11e-5"
    assert with_error(1.0, 0.5) == "1.00±0.50"
    assert with_error(-0.00001, 0.5) == "0.00±0.50"
    assert with_error(1.5, 1e-9) == "1.500"
    assert with_error(1.0, None) == "1.00"
    assert spread(1.6e-3, 3.9e-3) == "1.6..3.9e-3" and spread(1.0, 1.001) == "1.0"
    assert percent(0.051) == "+5.1%" and percent(-0.32) == "-32%" and percent(23.0) == "x24" and percent(None) == "-"
    assert clip("block.11.attention.norm", 14).endswith("norm") and len(clip("x" * 99, 14)) == 14


def test_fold_labels() -> None:
    paths = [f"layer.{i}.head.{j}" for i in range(3) for j in (0, 2)] + ["out"]
    assert [entry.label for entry in fold(paths)] == ["layer.{0-2}.head.{0,2}", "out"]
