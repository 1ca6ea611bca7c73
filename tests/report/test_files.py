"""Reports as files: JSON, markdown, HTML, figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lensnet.compare import Report, ReportError
from lensnet.report.html import fragment, page
from lensnet.report.json import read_json, to_json
from lensnet.report.markdown import to_markdown
from tests.compare.synthetic import Part, alexnet, report_of, transformer

EVIL = '</script><script>alert(1)</script> | a "quoted" <b>cell</b> `code`'


@pytest.fixture(scope="module")
def report() -> Report:
    return report_of(alexnet(), name="alexnet")


@pytest.fixture(scope="module")
def hostile() -> Report:
    parts = [Part("fc", width=512), Part("x" * 10, kind="relu", width=512)]
    return replace(report_of(parts), network=EVIL, about=EVIL)


def test_json_file_comes_back(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(to_json(report), encoding="utf-8")
    assert read_json(file).to_dict() == report.to_dict()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"schema": 1}'])
def test_other_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ReportError, match=r"other\.json"):
        read_json(file)
    with pytest.raises(ReportError, match="missing"):
        read_json(tmp_path / "missing.json")


def test_markdown_has_one_table_row_per_row(report: Report) -> None:
    text = to_markdown(report)
    assert text.startswith("# alexnet\n")
    assert len(re.findall(r"\| (?:local|through) \|", text)) == len(report.rows)
    columns = {
        line.count("|") - line.count("\\|") for line in text.split("## Rows")[1].split("##")[0].splitlines() if line
    }
    assert len(columns) == 1


def test_markdown_escapes(hostile: Report) -> None:
    text = to_markdown(hostile)
    assert "<script>" not in text and "<b>" not in text.replace("\\<b\\>", "")


class Tags(HTMLParser):
    """Checks that tags nest, and collects what a page would load."""

    VOID = {"meta", "br", "link", "img", "line", "circle", "path"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


@pytest.mark.parametrize("which", ["report", "hostile"])
def test_html_is_one_well_formed_page_that_loads_nothing(which: str, request: pytest.FixtureRequest) -> None:
    tags = Tags()
    tags.feed(page(request.getfixturevalue(which)))
    tags.close()
    assert not tags.open and not tags.loads
    assert "script" not in tags.seen and "b" in tags.seen
    assert tags.seen.count("svg") == 2


def test_notebook_display_is_a_fragment(report: Report) -> None:
    html = report._repr_html_()
    assert html == fragment(report) and html.startswith('<div class="lensnet">')
    assert "alexnet" in html and "✗ deviates" in html


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_plot_files(report: Report, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"beam.{ending}"
    figure = report.plot(file)
    assert file.stat().st_size > 10_000
    assert len(figure.axes) == 4


def test_plot_of_one_side_of_a_dead_and_of_a_deep_network() -> None:
    pytest.importorskip("matplotlib")
    deep = report_of(transformer(2))
    assert len(replace(deep, kind="prediction", seeds=0).plot().axes) == 4
    dead = report_of([Part("fc", gain=0.0), Part("act", gain=1.0)])
    assert dead.plot().axes
    assert replace(deep, rows=(), budget=()).plot().axes


def test_svg_text_stays_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    strange = replace(report_of([Part("fc"), Part("act")]), network="$x^2$ & <b>")
    file = tmp_path / "strange.svg"
    strange.plot(file)
    assert "$x^2$" in file.read_text() and "<b>" not in file.read_text()


def test_json_has_no_constants_outside_the_standard(report: Report) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads(to_json(report), parse_constant=refuse)
