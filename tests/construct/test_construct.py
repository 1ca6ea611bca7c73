"""Constructing from data: against the plain algorithm, stopped and taken up, and run like any network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lensnet
from lensnet.construct.angles import angles_by_layer
from lensnet.construct.file import read
from lensnet.construct.network import OUTPUT, Constructed
from lensnet.construct.tuning import fine_tune
from lensnet.language.source import SpecError
from lensnet.network.array_file import InputError
from tests.coding_rate import reference

SPEC = """
network: small-redunet
input: {{source: file, path: data.npz, key: z, labels: y, batch: 24}}
body:
  - {{name: sphere, component: sphere}}
  - repeat: {depth}
    name: layer
    body:
      - {{name: step, component: redunet_layer, classes: 3, eps2: 0.1, eta: 0.5, lam: {lam}, gate: {gate}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    y = np.arange(24) % 3
    y[:4] = 0
    np.savez(tmp_path / "data.npz", z=np.random.default_rng(5).standard_normal((24, 8)), y=y)
    return tmp_path


def net(folder: Path, depth: int = 10, lam: float = 500, gate: str = "soft") -> lensnet.Net:
    (folder / "spec.yaml").write_text(SPEC.format(depth=depth, lam=lam, gate=gate))
    return lensnet.load(folder / "spec.yaml")


@pytest.mark.parametrize(("lam", "gate"), [(500, "soft"), (10, "soft"), (500, "label")])
def test_a_file_of_float64_data_gives_the_published_network(folder: Path, lam: float, gate: str) -> None:
    made = net(folder, lam=lam, gate=gate).construct(folder / "out.safetensors")
    data = np.load(folder / "data.npz")
    layers = reference.redunet(data["z"].T, data["y"], 10, 0.1, 0.5, lam, gate == "label")
    saved = read(folder / "out.safetensors")
    assert saved.complete and list(made.rates) == [*(f"layer.{i}.step" for i in range(10)), OUTPUT]
    for index, layer in enumerate(layers[:-1]):
        path = f"layer.{index}.step"
        np.testing.assert_allclose(saved.tensors[f"{path}/expansion"][0], layer.E, atol=1e-8)
        np.testing.assert_allclose(saved.tensors[f"{path}/compression"][:, 0], layer.C, atol=1e-8)
        assert saved.rates[path] == pytest.approx((layer.R, layer.Rc), abs=1e-8)
    assert made.rates[OUTPUT] == pytest.approx((layers[-1].R, layers[-1].Rc), abs=1e-8)
    final = made.module(torch.tensor(data["z"]))
    np.testing.assert_allclose(final.detach().T, layers[-1].features, atol=1e-8)


class StopAt:
    """A progress bar at which somebody presses Ctrl-C."""

    def __init__(self, layers: int) -> None:
        self.left = layers

    def start(self, total: int) -> None:
        self.total = total

    def advance(self, layers: int) -> None:
        self.left -= layers
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_stopped_construction_goes_on_where_it_was(folder: Path) -> None:
    whole = net(folder).construct(folder / "whole.safetensors")
    stopped = net(folder).construct(folder / "part.safetensors", progress=StopAt(4))
    assert stopped.interrupted and len(stopped.done) == 4
    assert not read(folder / "part.safetensors").complete
    rest = StopAt(100)
    resumed = net(folder).construct(folder / "part.safetensors", progress=rest)
    assert rest.total == 6 and not resumed.interrupted
    _same(whole, resumed)
    a, b = read(folder / "whole.safetensors"), read(folder / "part.safetensors")
    assert a.tensors.keys() == b.tensors.keys() and b.complete
    for key, value in a.tensors.items():
        torch.testing.assert_close(value, b.tensors[key], rtol=0, atol=1e-12)


def _same(a: Constructed, b: Constructed) -> None:
    assert a.rates.keys() == b.rates.keys()
    for path, rates in a.rates.items():
        assert b.rates[path] == pytest.approx(rates, abs=1e-12)


def test_a_finished_network_grows_deeper_and_another_one_is_refused(folder: Path) -> None:
    out = folder / "out.safetensors"
    net(folder, depth=3).construct(out)
    rest = StopAt(100)
    net(folder, depth=5).construct(out, progress=rest)
    assert rest.total == 2
    with pytest.raises(InputError, match="other data or layers"):
        net(folder, depth=5, lam=10).construct(out)
    net(folder, depth=5, lam=10).construct(out, overwrite=True)


def test_run_with_the_file_measures_what_run_constructs_itself(folder: Path) -> None:
    made = net(folder, depth=3)
    made.construct(folder / "out.safetensors")
    own = made.run(seeds=2, backward=False)
    loaded = made.run(seeds=2, backward=False, weights=read(folder / "out.safetensors").tensors)
    for a, b in zip(own.rows, loaded.rows, strict=True):
        assert (a.component, a.quantity, a.view) == (b.component, b.quantity, b.view)
        assert a.measured == pytest.approx(b.measured, rel=1e-9)
    rates = [row for row in own.rows if row.quantity == "rate_reduction"]
    assert len(rates) == 6 and all(row.level == "spectrum" for row in rates)


def test_the_command_line_says_what_is_wrong(folder: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lensnet", "construct", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)

    net(folder, depth=2)
    good = run("spec.yaml", "--out", "a.safetensors")
    assert good.returncode == 0 and "output" in good.stdout
    assert good.stdout.splitlines()[0].split()[-3:] == ["gate", "entropy", "angles"]
    assert good.stdout.count("°") == 6, "two angles, three times"
    assert run("spec.yaml", "--out", "a.bin").returncode == 2
    unlabelled = run("spec.yaml", "--out", "b.safetensors", "--set", "input.corrupt=2")
    assert unlabelled.returncode == 2 and "at most 1" in unlabelled.stderr
    nothing = run("alexnet", "--out", "b.safetensors")
    assert nothing.returncode == 2 and "labels" in nothing.stderr


def test_a_gate_that_goes_by_labels_refuses_an_input_without_them(folder: Path) -> None:
    def unlabelled(gate: str) -> lensnet.Net:
        net(folder, gate=gate)
        spec = folder / "spec.yaml"
        spec.write_text(spec.read_text().replace("labels: y, ", ""))
        return lensnet.load(spec)

    assert unlabelled("soft").network.input.labelled is False
    with pytest.raises(SpecError) as refused:
        unlabelled("label")
    (problem,) = refused.value.problems
    assert "`gate: label` of redunet_layer needs the classes of the examples" in problem.message
    line = (folder / "spec.yaml").read_text().splitlines()[problem.line - 1]
    assert line[problem.column - 1 :].startswith("label}") and "gaussians, subspaces, digits" in problem.help


@torch.no_grad()
def test_labels_belong_to_their_batch_not_to_its_length(folder: Path) -> None:
    """On the training batch the gate opens by its labels; on as many other examples it judges, softly."""
    made = net(folder, depth=2, lam=10, gate="label").construct(folder / "out.safetensors")
    soft = net(folder, depth=2, lam=10).construct()
    data = np.load(folder / "data.npz")
    train = torch.tensor(data["z"])
    fresh = torch.randn(train.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    reference_layers = reference.redunet(data["z"].T, data["y"], 2, 0.1, 0.5, 10, True)
    np.testing.assert_allclose(made.module(train).T, reference_layers[-1].features, atol=1e-10)
    z = reference.on_sphere(fresh.numpy().T)
    for layer in reference_layers[:-1]:
        gates = reference.gate(layer.C, z, 10)
        pull = sum((data["y"] == j).mean() * (layer.C[j] @ z) * gates[j] for j in range(3))
        z = reference.on_sphere(z + 0.5 * (layer.E @ z - pull))
    np.testing.assert_allclose(made.module(fresh).T, z, atol=1e-10)
    np.testing.assert_allclose(made.module(fresh[:7]).T, z[:, :7], atol=1e-10)
    assert not torch.allclose(made.module(train), soft.module(train))


def test_the_entropy_of_gates_runs_from_undecided_to_decided(folder: Path) -> None:
    assert net(folder, depth=1, lam=0).construct().entropies["layer.0.step"] == pytest.approx(np.log(3), rel=1e-12)
    between = net(folder, depth=1, lam=10).construct().entropies["layer.0.step"]
    assert 0 < between < np.log(3)
    assert net(folder, depth=1, gate="label").construct().entropies["layer.0.step"] == 0


def test_lines_at_a_known_angle_are_turned_apart(folder: Path) -> None:
    """Three lines, any two at 60 degrees; a layer keeps them lines, so that what is between two is one angle."""
    gram = np.full((3, 3), 0.5) + np.eye(3) / 2
    lines = np.pad(np.linalg.cholesky(gram), ((0, 0), (0, 5)))
    np.savez(folder / "data.npz", z=lines[np.arange(24) % 3], y=np.arange(24) % 3)
    made = net(folder, depth=3, gate="label").construct(folder / "out.safetensors")
    again = net(folder, depth=3, gate="label").construct(folder / "out.safetensors")
    paths = list(made.rates)
    for found in (angles_by_layer(made, paths), angles_by_layer(again, paths)):
        assert list(found) == ["layer.0.step", "layer.1.step", "layer.2.step", OUTPUT]
        np.testing.assert_allclose(found["layer.0.step"], np.pi / 3, rtol=1e-9)
        smallest, largest = np.array(list(found.values())).T
        np.testing.assert_allclose(smallest, largest, rtol=1e-9)
        assert (np.diff(smallest) > 0.01).all() and smallest[-1] <= np.pi / 2 + 1e-9
    assert angles_by_layer(made, [OUTPUT]).keys() == {OUTPUT}


def test_tuning_raises_the_rate_reduction_and_says_what_it_moved(folder: Path) -> None:
    made = net(folder, depth=3, lam=10).construct()
    changes = fine_tune(made, 30)
    assert [change.path for change in changes] == ["layer.0.step", "layer.1.step", "layer.2.step", OUTPUT]
    assert changes[0].reduction_after == changes[0].reduction_before, "the input is what it was"
    assert changes[-1].reduction_before == pytest.approx(np.subtract(*made.rates[OUTPUT]))
    assert changes[-1].reduction_after > changes[-1].reduction_before + 0.01
    assert all(0 < change.expansion < 0.5 and 0 < change.compression < 0.5 for change in changes[:-1])
    assert not any(parameter.requires_grad for parameter in made.module.parameters())
