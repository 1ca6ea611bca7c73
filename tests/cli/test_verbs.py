"""Every verb in this process: exit status, streams, files. Networks are made up, so no torch is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lensnet.cli.app import run_app
from lensnet.compare import Report
from tests.compare.synthetic import Part, alexnet, report_of

Lensnet = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lensnet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lensnet:
    """Run the command line: (exit status, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("lensnet.cli.ending._debug", False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            run_app(list(arguments))
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return run


class FakeNet:
    """Stands in for lensnet.load: gives the report, or fails as told."""

    name = "made-up"

    def __init__(self, outcome: Report | BaseException) -> None:
        self.outcome = outcome
        self.asked: dict[str, Any] = {}

    def run(self, seeds: int = 8, **options: Any) -> Report:
        self.asked = {"seeds": seeds, **options}
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    predict = measure = run


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Callable[[Report | BaseException], FakeNet]:
    def install(outcome: Report | BaseException) -> FakeNet:
        fake = FakeNet(outcome)
        monkeypatch.setattr("lensnet.api.load", lambda name, overrides=(): fake)
        return fake

    return install


GOOD = report_of([Part("fc", width=4096), Part("act", "relu", 4096, 0.5)])
WRONG = report_of(alexnet(), name="alexnet")
NARROW = report_of([Part("fc", width=6)])


@pytest.mark.parametrize(("report", "status"), [(GOOD, 0), (WRONG, 1), (NARROW, 4)])
def test_exit_status_is_the_reports(lensnet: Lensnet, net: Any, report: Report, status: int) -> None:
    net(report)
    code, out, err = lensnet("run", "anything")
    assert code == status
    assert f"exit status {status}" in out and not err


def test_options_reach_the_engine(lensnet: Lensnet, net: Any) -> None:
    fake = net(GOOD)
    lensnet("run", "x", "--seeds", "3", "--most-seeds", "5", "--device", "cpu", "--dtype", "float64", "--forward-only",
            "--tolerance", "0.01", "--first-seed", "7")  # fmt: skip
    asked = fake.asked
    assert (asked["seeds"], asked["most_seeds"], asked["first_seed"]) == (3, 5, 7)
    assert (asked["device"], asked["dtype"], asked["backward"]) == ("cpu", "float64", False)
    assert asked["settings"].tolerance == 0.01


def test_files_are_written_beside_the_terminal_report(lensnet: Lensnet, net: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    net(WRONG)
    files = {name: tmp_path / f"r.{name}" for name in ("json", "markdown", "html", "plot")}
    files["plot"] = tmp_path / "r.svg"
    options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    code, out, _ = lensnet("run", "x", *options)
    assert code == 1 and "worst rows" in out
    assert all(file.stat().st_size > 1000 for file in files.values())
    code, again, _ = lensnet("report", str(files["json"]))
    assert code == 1 and again == out


def test_dash_puts_one_file_and_nothing_else_on_stdout(lensnet: Lensnet, net: Any) -> None:
    net(WRONG)
    code, out, _ = lensnet("run", "x", "--json", "-")
    assert code == 1 and json.loads(out)["network"] == "alexnet"
    code, out, _ = lensnet("run", "x", "--markdown", "-")
    assert out.startswith("# alexnet")
    code, _, err = lensnet("run", "x", "--json", "-", "--html", "-")
    assert code == 2 and "only one of" in err


def test_quiet_view_and_only_bad(lensnet: Lensnet, net: Any) -> None:
    net(WRONG)
    assert lensnet("run", "x", "--quiet") == (1, "", "")
    _, full, _ = lensnet("run", "x")
    _, bad, _ = lensnet("run", "x", "--only-bad")
    assert "classifier.fc7" in bad and len(bad.splitlines()) < len(full.splitlines())
    _, local, _ = lensnet("run", "x", "--view", "local")
    assert "through  ✓" not in local


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "x", "--json", "/no/such/folder/r.json"], "there is no folder"),
        (["run", "x", "--html", "/"], "this is a folder"),
        (["run", "x", "--plot", "beam.txt"], ".png"),
        (["run", "x", "--plot", "-"], "file name"),
        (["run", "x", "--level", "nonsense"], "nonsense"),
        (["run", "x", "--seeds", "0"], "seeds"),
        (["run", "x", "--tolerance", "-1"], "tolerance"),
        (["run"], "SPEC"),
        (["frobnicate"], "frobnicate"),
        (["report", "/no/such/report.json"], "cannot read"),
        (["new", "component", "two words"], "cannot be a name"),
        (["components", "lienar"], "did you mean 'linear'"),
        (["components", "--family", "actvation"], "did you mean 'activation'"),
        (["lint", "alexnett"], "did you mean 'alexnet'"),
        (["schema", "--write", "/no/such/folder"], "no such folder"),
    ],
)
def test_usage_errors_are_status_2_without_traceback(
    lensnet: Lensnet, net: Any, arguments: list[str], word: str
) -> None:
    net(AssertionError("nothing may run"))
    code, out, err = lensnet(*arguments)
    assert code == 2
    assert word in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in out + err


def test_errors_of_the_measurement_are_the_users(lensnet: Lensnet, net: Any) -> None:
    from lensnet.measure.errors import DeviceError

    net(DeviceError("a GPU was asked for, but torch sees none"))
    assert lensnet("run", "x") == (2, "", "lensnet: a GPU was asked for, but torch sees none\n")


def test_internal_errors_are_status_3_and_short_unless_debugged(lensnet: Lensnet, net: Any) -> None:
    net(ZeroDivisionError("by\nzero"))
    code, _, err = lensnet("run", "x")
    assert code == 3 and "internal error: ZeroDivisionError: by zero" in err and "Traceback" not in err
    code, _, err = lensnet("run", "x", "--debug")
    assert code == 3 and "Traceback" in err


def test_interrupt_before_anything_was_finished(lensnet: Lensnet, net: Any) -> None:
    net(KeyboardInterrupt())
    code, out, err = lensnet("run", "x")
    assert code == 4 and "interrupted" in err and not out


def test_predict_and_measure_show_their_side(lensnet: Lensnet, net: Any) -> None:
    net(GOOD)
    assert lensnet("predict", "x")[0] == 0
    assert lensnet("measure", "x", "--seeds", "2")[0] == 0


def test_lint_tells_what_is_there_and_every_problem(lensnet: Lensnet, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    code, text, _ = lensnet("new", "network", "good")
    good.write_text(text)
    bad.write_text(text.replace("relu", "relo").replace("units: 10", "units: -1"))
    code, out, err = lensnet("lint", str(good))
    assert code == 0 and "ok: network good, 17 components" in out and not err
    code, out, err = lensnet("lint", str(tmp_path))
    assert code == 2 and "good.yaml: ok" in out
    assert "bad.yaml:" in err and "relo" in err and "did you mean 'relu'?" in err
    assert lensnet("lint", "--quiet", str(good)) == (0, "", "")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert lensnet("lint", str(empty))[0] == 2


@pytest.mark.parametrize("options", [[], ["--mixing"]])
def test_stub_of_a_component_is_a_component(lensnet: Lensnet, tmp_path: Path, options: list[str]) -> None:
    _, text, _ = lensnet("new", "component", "swish2", *options)
    file = tmp_path / "swish2.yaml"
    file.write_text(text)
    assert len(text.splitlines()) <= 25
    code, out, err = lensnet("lint", str(file))
    assert code == 0, err
    assert "ok: component swish2" in out


def test_new_never_overwrites(lensnet: Lensnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lensnet("new", "network", "mine", "--write")[0] == 0
    (tmp_path / "mine.yaml").write_text("precious")
    code, _, err = lensnet("new", "network", "mine", "--write")
    assert code == 2 and "exists already" in err
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_components_are_listed_and_told(lensnet: Lensnet) -> None:
    code, out, _ = lensnet("components")
    assert code == 0 and "activation" in out and "relu" in out and "lensnet components NAME" in out
    assert max(map(len, out.splitlines())) <= 100
    code, out, _ = lensnet("components", "linear")
    assert code == 0
    for part in ("optics: lens", "x -> y", "units", "gain", "second_moment", "fan_in*w2*q", "assumes", "sources"):
        assert part in out
    assert max(map(len, out.splitlines())) <= 100


def test_show_lists_the_layers(lensnet: Lensnet) -> None:
    code, out, _ = lensnet("show", "tanh_critical")
    assert code == 0 and "random weights" in out and "linear" in out
    assert max(map(len, out.splitlines())) <= 100


def test_cite_names_sources_and_users(lensnet: Lensnet) -> None:
    code, out, _ = lensnet("cite", "tanh_critical")
    assert code == 0 and "poole2016" in out and "used by" in out


def test_schema_is_json(lensnet: Lensnet, tmp_path: Path) -> None:
    for options in ([], ["--component"]):
        code, out, _ = lensnet("schema", *options)
        assert code == 0 and json.loads(out)["$schema"]
    code, out, _ = lensnet("schema", "--write", str(tmp_path))
    assert code == 0 and len(out.splitlines()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"lensnet-spec.schema.json", "lensnet-component.schema.json"}


def test_set_changes_the_spec(lensnet: Lensnet, tmp_path: Path) -> None:
    _, text, _ = lensnet("new", "network", "mine")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    _, out, _ = lensnet("show", str(file), "--set", "constants.depth=3", "--set", "constants.width=77")
    assert "7 components" in out and "77" in out
    code, _, err = lensnet("show", str(file), "--set", "constants.dept=3")
    assert code == 2 and "dept" in err


def test_version_and_help(lensnet: Lensnet) -> None:
    code, out, _ = lensnet("--version")
    assert code == 0 and out.startswith("lensnet ")
    code, out, _ = lensnet("--help")
    assert code == 0 and all(verb in out for verb in ("run", "predict", "measure", "lint", "components", "show", "new"))
    assert not any(f" {verb} " in out for verb in ("design", "tolerance", "sweep", "bench", "learn"))


def test_a_phase_diagram_in_the_terminal_and_in_files(lensnet: Lensnet, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data, figure = tmp_path / "p.json", tmp_path / "p.svg"
    code, out, err = lensnet("phase", "tanh", "--points", "12", "--json", str(data), "--plot", str(figure))
    assert code == 0 and not err and all(len(line) <= 100 for line in out.splitlines())
    assert "1.00000" in out and "chaotic" in out and "ordered" in out  # the edge of tanh without bias is gain 1
    fields = json.loads(data.read_text())
    assert len(fields["chi"]) == 12 and len(fields["chi"][0]) == 12
    assert figure.stat().st_size > 1000
    code, out, _ = lensnet("phase", "relu")
    assert "any" in out and "^" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tahn"], "did you mean 'tanh'"),
        (["x*sgmoid(x)"], "did you mean 'sigmoid'"),
        (["linear"], "not a pointwise function"),
        (["leaky_relu", "--set", "slop=2"], "it has slope"),
        (["tanh", "--gain", "3"], "LOW:HIGH"),
        (["tanh", "--gain", "3:1"], "LOW:HIGH"),
    ],
)
def test_a_wrong_phase_diagram_says_what_would_be_right(lensnet: Lensnet, arguments: list[str], message: str) -> None:
    code, _, err = lensnet("phase", *arguments)
    assert code == 2 and message in err
