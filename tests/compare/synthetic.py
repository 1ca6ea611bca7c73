"""A made-up network with made-up measurements: no torch, no formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from lensnet.compare import Circumstances, Ensemble, Report, Settings, report_on
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import Gate, InputSource, Network, Node
from lensnet.network.shape import Shape
from lensnet.predict.prediction import Check, Effect


@dataclass
class Moments:
    mean: np.ndarray
    second_moment: np.ndarray


@dataclass
class Draw:
    seed: int
    outputs: dict[str, Moments] = field(default_factory=dict)
    gradients: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    invariant: dict[str, float] = field(default_factory=dict)
    scalars: dict[tuple[str, str, str, str | None], float] = field(default_factory=dict)
    nonfinite: list[str] = field(default_factory=list)


@dataclass
class Part:
    """One synthetic component: true gains, and by what factor the model is wrong."""

    path: str
    kind: str = "linear"
    width: int = 512
    gain: float = 1.0
    backward_gain: float = 1.0
    mean: float = 0.0
    wrong: float = 1.0
    checks: tuple[Check, ...] = ()
    status: str = "ok"
    inputs: tuple[str, ...] | None = None
    homogeneous: bool = False


def network_of(parts: Sequence[Part], name: str = "made-up", gates: tuple[Gate, ...] = ()) -> Network:
    nodes, last = [], "input"
    for part in parts:
        component: Any = SimpleNamespace(name=part.kind, homogeneous=part.homogeneous, optics="lens")
        inputs = part.inputs or (last,)
        ports = ("x",) if len(inputs) == 1 else tuple(f"xs.{i}" for i in range(len(inputs)))
        shape = Shape(part.width)
        nodes.append(Node(part.path, component, {}, inputs, ports, tuple(shape for _ in inputs), shape, Pointwise()))
        last = part.path
    source = InputSource("gaussian", {}, Shape(parts[0].width), 8)
    return Network(name, "A chain that nobody trained.", source, tuple(nodes), gates)


def effects_of(parts: Sequence[Part], q: dict[str, float], p: dict[str, float], local: bool) -> list[Effect]:
    """Predictions from the (measured or predicted) second moments in `q` and `p`, filled in as they are made."""
    out, scatter, last = [], 0.0, "input"
    for part in parts:
        source = (part.inputs or (last,))[0]
        own = q[source] * part.gain * part.wrong
        scatter += 2 / part.width
        if not local:
            q[part.path] = own
        values = {"mean": part.mean * np.sqrt(own), "second_moment": own}
        for quantity, value in values.items():
            array = None if part.status == "not-modelled" else np.full((1,), value)
            out.append(
                Effect(
                    part.path, quantity, "forward", None, array, 0.0, part.checks, part.status, 0 if local else scatter
                )
            )
        last = part.path
    behind = 1.0
    for part in reversed(parts):
        own = (p[part.path] if local else behind) * part.backward_gain
        behind = own
        array = None if part.status == "not-modelled" else np.full((1,), own)
        ports = ["x"] if part.inputs is None or len(part.inputs) == 1 else [f"xs.{i}" for i in range(len(part.inputs))]
        for port in ports:
            out.append(Effect(part.path, "second_moment", "backward", port, array, 0.0, (), part.status, 0.0))
    return out


def draw_of(
    parts: Sequence[Part], seed: int, rng: np.random.Generator
) -> tuple[Draw, dict[str, float], dict[str, float]]:
    draw, q, p, last = Draw(seed), {"input": 1.0}, {}, "input"
    draw.outputs["input"] = Moments(np.zeros(1), np.ones(1))
    for part in parts:
        source = (part.inputs or (last,))[0]
        q[part.path] = q[source] * part.gain * rng.chisquare(part.width) / part.width
        mean = (part.mean + rng.normal() / np.sqrt(part.width)) * np.sqrt(q[part.path])
        draw.outputs[part.path] = Moments(np.full(1, mean), np.full(1, q[part.path]))
        draw.invariant[part.path] = 3.0
        last = part.path
    behind = 1.0
    for part in reversed(parts):
        p[part.path] = behind
        behind = behind * part.backward_gain * rng.chisquare(part.width) / part.width
        ports = ["x"] if part.inputs is None or len(part.inputs) == 1 else [f"xs.{i}" for i in range(len(part.inputs))]
        for port in ports:
            draw.gradients[part.path, port] = np.full(1, behind)
    return draw, q, p


def report_of(
    parts: Sequence[Part],
    seeds: int = 8,
    settings: Settings | None = None,
    gates: tuple[Gate, ...] = (),
    spoil: Callable[[Draw], None] | None = None,
    name: str = "made-up",
    **circumstances: Any,
) -> Report:
    network, ensemble, rng = network_of(parts, name, gates), Ensemble(), np.random.default_rng(0)
    source = {"input": Moments(np.zeros(1), np.ones(1))}
    through = SimpleNamespace(effects=effects_of(parts, {"input": 1.0}, {}, local=False), signals=source)
    for seed in range(seeds):
        draw, q, p = draw_of(parts, seed, rng)
        if spoil:
            spoil(draw)
        ensemble.add(draw, effects_of(parts, q, p, local=True))
    how = Circumstances(**{"device": "cpu", "dtype": "float32", "batch": 8, **circumstances})
    return report_on(network, through, ensemble, how, settings)


def alexnet() -> list[Part]:
    """AlexNet as published, in spirit: small weights, so the signal dies away and two components resist the model."""
    pool = (Check("the correlation between the positions of a window is known", -1.0, "kernel"),)
    norm = (Check("channels >= 5*size", 0.3, "fluctuation"), Check("the input is Gaussian over weight draws"))
    parts: list[Part] = []
    for i, (width, gain) in enumerate(((96, 0.036), (256, 0.24), (384, 0.23), (384, 0.345), (256, 0.345)), 1):
        parts.append(Part(f"features.conv{i}", "conv2d", width, gain, 1.1))
        parts.append(Part(f"features.relu{i}", "relu", width * 8, 0.5, 0.5, 0.56, homogeneous=True))
        if i in (1, 2):
            parts.append(Part(f"features.norm{i}", "local_response_norm", width * 8, 0.9, 0.9, 0.56, checks=norm))
        if i in (1, 2, 5):
            parts.append(
                Part(f"features.pool{i}", "max_pool2d", width * 8, 1.9, 0.3, 0.8, checks=pool, status="out-of-regime")
            )
    parts.append(Part("flatten", "flatten", 9216, 1.0, 1.0, 0.8))
    for i, width in ((6, 4096), (7, 4096)):
        parts.append(Part(f"classifier.dropout{i}", "dropout", width, 2.0, 2.0, 0.5))
        parts.append(Part(f"classifier.fc{i}", "linear", width, 0.5, 0.5, wrong=1.3 if i == 7 else 1.0))
        parts.append(Part(f"classifier.relu{i}", "relu", width, 0.5, 0.5, 0.56, homogeneous=True))
    parts.append(Part("classifier.fc8", "linear", 1000, 0.4, 0.1))
    return parts


def transformer(blocks: int = 12) -> list[Part]:
    parts = [Part("embed", "embedding", 768)]
    for i in range(blocks):
        for name, kind in (
            ("norm1", "layernorm"),
            ("attention", "attention"),
            ("add1", "sum"),
            ("norm2", "layernorm"),
            ("up", "linear"),
            ("gelu", "gelu"),
            ("down", "linear"),
            ("add2", "sum"),
        ):
            parts.append(
                Part(f"block.{i}.{name}", kind, 768, 1.02, 1.01, wrong=1.2 if (i, name) == (7, "attention") else 1)
            )
    parts.append(Part("head", "linear", 1000))
    return parts
