"""`lensnet import` and `lensnet compare` as a stranger calls them, from a folder of his own."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lensnet.cli.app import run_app

MODELS = """
import torch
from torch import nn

class Scaled(nn.Module):  # a norm that no pattern reads, with names of its own
    def __init__(self, width):
        super().__init__()
        self.gamma, self.variance_epsilon = nn.Parameter(torch.full((width,), 1.5)), 1e-6

    def forward(self, hidden):
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
        return hidden * hidden.shape[-1] ** 0.5 / torch.sqrt(length * length + self.variance_epsilon) * self.gamma

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(50, 96), nn.Linear(96, 64)

    def forward(self, tokens, *, noise):
        return self.out(self.table(tokens) + noise).mean(1)

def dense(scale=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
    nn.init.normal_(net[2].weight, 0, scale / 128**0.5)
    nn.init.zeros_(net[2].bias)
    return net

def small():
    return dense(0.5)

def named():
    return Named()

def normed():
    return nn.Sequential(nn.Linear(64, 128), Scaled(128), nn.Linear(128, 32))
"""

NORM = """
component: scaled
body: [{name: norm, component: rmsnorm, eps: eps, scale: gain}]
parameters:
  eps: {type: real, min: 0, default: 1e-6}
  gain: {type: real, default: 1}
matches: {module: PACKAGE.Scaled, parameters: {eps: variance_epsilon, gain: gamma}}
trials: [{channels: 64}]
"""


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in a folder that holds MODELS: (exit status, output, errors)."""
    package = f"models_{abs(hash(tmp_path)) % 10**9}"
    (tmp_path / f"{package}.py").write_text(textwrap.dedent(MODELS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run_app([argument.replace("PACKAGE", package) for argument in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    Path("scaled.yaml").write_text(NORM.replace("PACKAGE", package))
    return run


FEW = ("--seeds", "3", "--most-seeds", "3")


def rows_of(file: str) -> dict[tuple[str, str, str], float]:
    data = json.loads(Path(file).read_text())
    return {
        (row["component"], row["quantity"], row["direction"]): row["measured"]
        for row in data["rows"]
        if row["view"] == "through"
    }


def test_inputs_of_every_kind(command: Callable[..., tuple[int, str, str]]) -> None:
    rng = np.random.default_rng(0)
    ids, noise = rng.integers(50, size=(16, 10)), rng.standard_normal((16, 10, 96)).astype(np.float32)
    np.savez("data.npz", ids=ids, noise=2 * noise)
    given = ("import", "PACKAGE:named", "-i", "data.npz:ids", "-i", "noise=data.npz:noise", *FEW, "--json", "a.json")
    status, _, err = command(*given)
    assert status in (0, 4) and not err
    # the second input is what the file holds: its moments are known exactly
    assert rows_of("a.json")["noise", "second_moment", "forward"] == pytest.approx(4 * np.mean(noise**2), rel=1e-6)
    for what in ("digits:32", "{source: digits, batch: 32}", "32x64"):
        status, out, err = command("import", "PACKAGE:dense", "-i", what, "--predict-only")
        assert status == 0 and "3 of 3 components modelled" in out, err
    status, out, _ = command("import", "PACKAGE:named", "-i", "tokens:8x10", "-i", "noise=8x10x96", "--predict-only")
    assert status == 0 and "embedding" in out


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("digitz", "digits:128"),
        ("missing.npz:x", "no size and no file"),
        ("tokens:8x10", "number of token ids"),
        ("digits:many", "how many examples"),
        ("{source: digitz}", "there is no input source 'digitz'"),
        ("8x0", "give a size"),
    ],
)
def test_inputs_that_cannot_be_read_say_what_would(
    command: Callable[..., tuple[int, str, str]], what: str, told: str
) -> None:
    status, _, err = command("import", "PACKAGE:dense", "-i", what)
    assert status == 2 and told in err and "Traceback" not in err


def test_two_models_side_by_side(command: Callable[..., tuple[int, str, str]]) -> None:
    """A weight of half the size: its output has a quarter of the power, the gradient in front of it as well."""
    options = ("-i", "digits:64", "--weights", "built", *FEW)
    status, out, _ = command("import", "PACKAGE:dense", "--beside", "PACKAGE:small", *options)
    assert status == 0 and "dense" in out and "small" in out
    assert command("import", "PACKAGE:dense", *options, "--json", "a.json", "-q")[0] in (0, 1, 4)
    assert command("import", "PACKAGE:small", *options, "--json", "b.json", "-q")[0] in (0, 1, 4)
    status, out, _ = command("compare", "a.json", "b.json", "--json", "change.json")
    changes = {
        (one["component"], one["direction"]): one["second"] / one["first"]
        for one in json.loads(Path("change.json").read_text())["changes"]
    }
    assert status == 0 and "a" in out
    assert changes["model.0", "forward"] == pytest.approx(1, rel=1e-6)
    assert changes["model.0", "backward"] == pytest.approx(0.25, rel=1e-5)
    assert changes["model.2", "forward"] == pytest.approx(0.25, rel=1e-5)


def test_one_file_names_a_class_with_parameters_of_its_own(command: Callable[..., tuple[int, str, str]]) -> None:
    _, without, _ = command("import", "PACKAGE:normed", "-i", "64x64", "--predict-only")
    assert "not modelled" in without and "--module" in without
    given = ("import", "PACKAGE:normed", "-i", "64x64", "--component", "scaled.yaml", "--seeds", "8")
    status, out, _ = command(*given, "--out", "net.yaml", "--json", "a.json")
    assert "3 of 3 components modelled" in out and status in (0, 4)
    # a norm leaves the square of its gain, and its measurement stands under the name of its one part
    assert rows_of("a.json")["model.1.norm", "second_moment", "forward"] == pytest.approx(1.5**2, rel=1e-3)
    assert command("lint", "net.yaml")[0] == 0  # the file is whole: the component stands in it


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("gain: gamma}", "gain: gama}", "did you mean 'gamma'?"),
        (".Scaled,", ".Scald,", "did you mean PACKAGE.Scaled?"),
        ("gain: gamma}", "gian: gamma}", "did you mean 'gain'?"),
        ("PACKAGE.Scaled", "Scaled", "write package.Class"),
    ],
)
def test_mistakes_in_such_a_file_are_explained(
    command: Callable[..., tuple[int, str, str]], old: str, new: str, told: str
) -> None:
    text = Path("scaled.yaml").read_text()
    package = text.partition("module: ")[2].partition(".Scaled")[0]
    Path("scaled.yaml").write_text(text.replace(old.replace("PACKAGE", package), new))
    _, out, err = command("import", "PACKAGE:normed", "-i", "8x64", "--component", "scaled.yaml", "--predict-only")
    assert told.replace("PACKAGE", package) in " ".join((out + err).split())
