"""A torch module becomes a network, and the network says what the module does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import lensnet
from lensnet.importers.capture import capture
from lensnet.importers.measuring import ModelBench
from lensnet.importers.model import ImportedModel, import_model
from lensnet.importers.probe import ModelProbe
from lensnet.importers.summary import Summary, summary
from lensnet.language.source import Source
from lensnet.network.build import load_network
from tests.importers.models import (
    Broken,
    ConvNeXt,
    Crossed,
    DataDependent,
    Decoder,
    Film,
    Frames,
    Merged,
    Moved,
    Numpy,
    Pixels,
    Recurrent,
    ResNet,
    RMSNorm,
    Sequence,
    SharedQueries,
    ShiftedWindows,
    TopOne,
    TracedTokens,
    Twice,
    WrittenOut,
)

IDS = {"ids": torch.randint(200, (4, 12), generator=torch.Generator().manual_seed(1))}
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
ROWS = torch.randn(32, 64, generator=torch.Generator().manual_seed(3))
STEPS = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(7))

MODELS: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "resnet": (ResNet, (IMAGES,), "export"),
    "convnext": (ConvNeXt, (IMAGES,), "export"),
    "pixels": (Pixels, (IMAGES,), "export"),
    "film": (Film, (torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(8)),), "export"),
    "frames": (Frames, (torch.randn(4, 6, 3, 16, 16, generator=torch.Generator().manual_seed(9)),), "export"),
    "moved": (Moved, (torch.randn(4, 3, 5, 8, 9, generator=torch.Generator().manual_seed(10)),), "export"),
    "merged": (Merged, (torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(11)),), "export"),
    "decoder": (Decoder, (IMAGES,), "export"),
    "crossed": (Crossed, (IMAGES,), "export"),
    "plain recurrence": (lambda: Recurrent(nn.RNN), (STEPS,), "export"),
    "gqa": (SharedQueries, (IDS,), "export"),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True), 2),
        (torch.randn(4, 10, 64, generator=torch.Generator().manual_seed(4)),),
        "export",
    ),
    "data dependent": (DataDependent, (ROWS,), "draft export"),
    "top one": (TopOne, (ROWS[:, :32],), "export"),
    "numpy": (Numpy, (ROWS[:, :32],), "trace"),
    "traced norm": (lambda: nn.Sequential(Numpy(), RMSNorm(32), nn.Linear(32, 8)), (ROWS[:, :32],), "trace"),
    "traced net": (
        lambda: nn.Sequential(
            Numpy(), nn.BatchNorm1d(32), nn.LayerNorm(32), nn.Linear(32, 96), nn.GELU(), nn.Linear(96, 96)
        ),
        (ROWS[:, :32],),
        "trace",
    ),
    "traced tokens": (TracedTokens, (IDS["ids"],), "trace"),
    "twice": (Twice, (ROWS,), "export"),
    "lstm": (lambda: Recurrent(nn.LSTM), (STEPS,), "export"),
    "gru": (lambda: Recurrent(nn.GRU), (STEPS,), "export"),
    "windows": (ShiftedWindows, (IMAGES,), "export"),
    "written out": (WrittenOut, (torch.randn(4, 10, 64, generator=torch.Generator().manual_seed(5)),), "export"),
    "sequence": (Sequence, (torch.randn(16, 8, 24, generator=torch.Generator().manual_seed(6)),), "export"),
}
STANDARD = [
    "resnet", "convnext", "film", "frames", "moved", "merged", "pixels", "decoder", "crossed", "plain recurrence",
    "gqa", "encoder", "twice", "lstm", "gru", "windows", "written out", "sequence", "traced net", "traced tokens",
]  # fmt: skip


def made(name: str) -> tuple[nn.Module, tuple[Any, ...], str]:
    torch.manual_seed(0)
    factory, args, route = MODELS[name]
    return factory().eval(), args, route


def imported(name: str) -> ImportedModel:
    model, args, _ = made(name)
    return import_model(model, args)


@pytest.mark.parametrize("name", MODELS)
def test_the_captured_graph_computes_what_the_model_computes(name: str) -> None:
    model, args, route = made(name)
    captured = capture(model, args)
    # A draft that guessed a branch wrongly is not taken: then the trace has the model's own.
    assert captured.route == route or (route, captured.route) == ("draft export", "trace")
    got = torch.fx.Interpreter(captured.graph).run(*captured.values())
    with torch.no_grad():
        wanted = model(*args)
    wanted = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
    for a, b in zip(got, wanted, strict=False):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", STANDARD)
def test_every_component_of_a_standard_model_is_modelled_and_agrees(name: str) -> None:
    model, args, _ = made(name)
    found = summary(model, input_data=args, seeds=12, most_seeds=32)
    assert found.report is not None and found.imported is not None
    opaque = [item.path for item in found.imported.draft.items if item.component.startswith("opaque")]
    assert not opaque
    rows = [row for row in found.rows if row.view == "local"]
    good = [row for row in rows if row.verdict in ("agrees", "out-of-regime", "undecided")]
    deviating = [(row.component, row.quantity, row.direction, row.port) for row in rows if row.verdict == "deviates"]
    assert len(good) >= 0.98 * len(rows), deviating
    assert sum(row.verdict == "agrees" for row in rows) >= 0.75 * len(rows)


def test_what_no_rule_describes_is_measured_and_carried_on() -> None:
    model, args, _ = made("top one")
    found = summary(model, input_data=args, seeds=6, most_seeds=6)
    assert found.report is not None and found.imported is not None
    opaque = [item for item in found.imported.draft.items if item.component.startswith("opaque")]
    assert opaque and all(item.reason for item in opaque)
    assert set(found.report.coverage.measured_only) == {item.path for item in opaque}
    head = next(
        r
        for r in found.rows
        if (r.component, r.quantity, r.direction, r.view) == ("head", "second_moment", "forward", "through")
    )
    # behind the black box the prediction goes on from what was measured there: w2 * sum of squares + bias
    before = next(
        r
        for r in found.rows
        if r.component == opaque[-1].path and r.quantity == "second_moment" and r.view == "through"
    )
    assert head.predicted == pytest.approx(32 * before.measured / (3 * 32) + 1 / (3 * 32), rel=0.05)
    assert "lensnet new component" in str(found) or "not modelled" in str(found)


@pytest.mark.parametrize("name", MODELS)
def test_the_written_file_is_the_same_network(name: str) -> None:
    one = imported(name)
    again = load_network(Source("out.yaml", one.text)).network
    assert [(n.path, n.kind, n.shape, n.inputs) for n in again] == [
        (n.path, n.kind, n.shape, n.inputs) for n in one.network
    ]


def test_nothing_of_the_model_is_altered() -> None:
    torch.manual_seed(0)
    model = ResNet()
    model.layers[1].eval()
    model(IMAGES).sum().backward()
    calls = []
    model.fc.register_forward_hook(lambda *_: calls.append(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    state = torch.get_rng_state()
    for mode in ("eval", "train"):
        summary(model, (2, 3, 16, 16), seeds=2, most_seeds=2, mode=mode)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, gradients[name]), name


def test_a_compiled_model_is_unwrapped() -> None:
    model = torch.compile(made("twice")[0])
    assert summary(model, (16, 64), seeds=2, most_seeds=2).name == "Twice"


def test_statistics_are_those_of_the_tensors() -> None:
    """Against hooks on the modules: values and gradients of a pass with the model's own weights."""
    model, args, _ = made("resnet")
    one = import_model(model, args, weights="built")
    measured = ModelBench(one).one(one.network, args[0], seed=0)
    seen: dict[str, Any] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, (i[0], o)))
    x = args[0].clone().requires_grad_()
    out = model(x)
    for name in ("stem", "layers.0.conv2", "layers.1.bn2", "pool", "fc"):
        seen[name][0].retain_grad()
    from lensnet.measure.passes import cotangent

    out.backward(cotangent(0, out))
    for name in ("stem", "layers.0.conv2", "layers.1.bn2", "pool", "fc"):
        before, after = seen[name]
        assert measured.outputs[name].second_moment == pytest.approx(
            after.detach().double().square().mean(1).reshape(measured.outputs[name].second_moment.shape).numpy(),
            rel=1e-5,
        )
    for name in ("stem", "layers.0.conv2", "layers.1.bn2"):
        gradient = seen[name][0].grad.double().square().mean(1).numpy()
        assert measured.gradients[name, "x"] == pytest.approx(gradient, rel=1e-4, abs=1e-30)


def test_a_broken_model_ends_in_a_partial_report() -> None:
    found = summary(Broken(), (2, 3))
    assert found.report is None and "a mistake of the user" in found.reason
    assert "dense" in str(found) and not found.rows
    for size in ((2, 4), (), (0, 3)):
        assert summary(nn.Linear(3, 4), size).reason


def test_on_the_meta_device_the_laws_are_those_of_the_initialiser() -> None:
    with torch.device("meta"):
        model = ResNet()
    found = summary(model, (2, 3, 16, 16))
    real = summary(ResNet(), (2, 3, 16, 16), measure=False)
    pairs = {(r.component, r.quantity, r.direction, r.port): r.predicted for r in real.rows}
    assert found.rows and all(
        row.predicted == pytest.approx(pairs[row.component, row.quantity, row.direction, row.port], rel=0.1, abs=1e-12)
        for row in found.rows
        if row.quantity == "second_moment"
    )


def test_a_norm_is_known_in_a_traced_graph_too() -> None:
    """There an average has its axis as a number, not in a list."""
    found = summary(made("traced norm")[0], input_data=ROWS[:, :32], seeds=4, most_seeds=4)
    assert found.network is not None and "rmsnorm" in found.network["model.1"].kind
    rows = [r for r in found.rows if (r.component, r.quantity, r.direction) == ("model.1", "second_moment", "forward")]
    assert rows and all(r.measured == pytest.approx(1, abs=1e-3) == r.predicted for r in rows)


def test_the_summary_is_public_and_shows_itself() -> None:
    found = lensnet.summary(made("twice")[0], (16, 64), seeds=3, most_seeds=3, depth=2)
    assert isinstance(found, Summary)
    for width in (80, 120):
        assert max(map(len, found.show(width=width).splitlines())) <= width
    assert "<pre" in found._repr_html_() and len(found.to_pandas()) == len(found.rows)
    assert any("share their weights" in note for note in found.notes)


__all__ = ["ModelProbe"]


def test_sequences_with_the_examples_second_and_signals_with_the_channels_first() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(64, 4, 128)
    found = summary(encoder, (10, 4, 64), seeds=6, most_seeds=12)
    assert found.imported is not None and found.report is not None and found.report.batch == 4
    assert not any(item.component.startswith("opaque") for item in found.imported.draft.items)
    loud = torch.randn(4, 8, 40, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)[:, None]
    audio = summary(nn.Sequential(nn.Conv1d(8, 64, 5, padding=2)), input_data=loud, seeds=8, most_seeds=8)
    row = next(r for r in audio.rows if (r.quantity, r.direction, r.view) == ("second_moment", "forward", "through"))
    # torch's default: weights 1/(3 fan_in); the edges see fewer taps
    inside = float(loud.square().mean()) * 8 * (5 * 40 - 6) / 40 / (3 * 8 * 5) + 1 / (3 * 8 * 5)
    assert row.predicted == pytest.approx(inside, rel=0.02)
    assert not [r for one in (found, audio) for r in one.rows if r.view == "local" and r.verdict == "deviates"]
