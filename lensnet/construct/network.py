"""Constructing a network from its labelled input, layer by layer, so that it can be stopped and taken up again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule

from lensnet.construct.file import Saved, fingerprints, read, save
from lensnet.measure.construction import construct_layers, load, recognise, tensors_of
from lensnet.measure.device import choose_device, choose_dtype, quiet_state
from lensnet.measure.errors import MeasureError
from lensnet.measure.labelled import load_labels
from lensnet.measure.layers.constructed import ConstructedLayer
from lensnet.measure.layers.redunet import RedunetLayer
from lensnet.measure.module import draw, layers, to_module
from lensnet.measure.sources import load_batch
from lensnet.network.array_file import InputError
from lensnet.network.graph import Network

OUTPUT = "output"
CHECKPOINT_SECONDS = 30.0
"""A file is brought up to date this often, so that a power cut costs no more."""


class Progress(Protocol):
    """What a progress bar must offer."""

    def start(self, total: int) -> None:
        """`total` layers are to be made."""

    def advance(self, layers: int) -> None:
        """So many more are done."""


@dataclass
class Constructed:
    """A constructed network: the torch module, and R and Rc of the features that entered each layer, in order.

    The last entry of `rates`, "output", is of the features that left the last ReduNet layer.
    `entropies`: of the gates of each layer, averaged over the examples, in nats (0: all decided).

    `interrupted`: Ctrl-C ended it early; what was finished is there (and in the file).
    """

    network: Network
    module: GraphModule
    rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    entropies: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def redunet_layers(self) -> dict[str, RedunetLayer]:
        """The ReduNet layers by path, in order."""
        return {path: layer for path, layer in layers(self.module).items() if isinstance(layer, RedunetLayer)}

    @property
    def wanted(self) -> list[str]:
        """The paths of all layers that are made from data."""
        return [path for path, layer in layers(self.module).items() if isinstance(layer, ConstructedLayer)]

    @property
    def done(self) -> list[str]:
        made = layers(self.module)
        return [path for path in self.wanted if made[path].constructed]


def construct_network(
    network: Network,
    out: Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "float64",
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Constructed:
    """Make every ReduNet layer and nearest-subspace classifier of a network from the network's labelled input.

    `out`: a .safetensors file that is brought up to date as layers are finished; one that holds the beginning of the
    same construction is gone on with. `seed`: of random layers before and between (lifting). Raises InputError for an
    input without labels or a file of something else, MeasureError for a network with nothing to construct.
    """
    where, number = choose_device(device), choose_dtype(dtype)
    labels = load_labels(network.input)
    if labels is None:
        raise InputError(
            f"the input of {network.name} has no labels, and a network is constructed from labelled data",
            "sources with labels: gaussians, subspaces, digits, and file with labels:",
        )
    marks = fingerprints(network, seed, dtype)
    with quiet_state(where):
        module = to_module(network).to(device=where, dtype=number)
        draw(module, network, seed)
        made = Constructed(network, module)
        if not made.wanted:
            raise MeasureError(f"{network.name} has no layer that is constructed from data")
        if out is not None and out.exists() and not overwrite:
            saved = _taken_up(made, read(out), marks, out)
            made.rates.update(saved.rates)
            made.entropies.update(saved.entropies)
        batch = load_batch(network.input, dtype=number).to(where)
        _construct(made, batch, labels.to(where), out, marks, progress)
    return made


def _construct(
    made: Constructed,
    batch: Tensor,
    labels: Tensor,
    out: Path | None,
    marks: Mapping[str, str],
    progress: Progress | None,
) -> None:
    start = saved = time.monotonic()
    todo = len(made.wanted) - len(made.done)
    recognise(made.module, batch, labels)
    if progress is not None:
        progress.start(todo)

    ascents = list(made.redunet_layers)

    def on_layer(path: str, layer: ConstructedLayer, output: Tensor) -> None:
        nonlocal saved
        if isinstance(layer, RedunetLayer) and layer.rates is not None:
            made.rates[path] = (float(layer.rates.total), float(layer.rates.conditional))
            made.entropies[path] = layer.entropy
            if path == ascents[-1]:
                last = layer.rates_of(output, labels)
                made.rates[OUTPUT] = (float(last.total), float(last.conditional))
        if progress is not None:
            progress.advance(1)
        if out is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
            write(made, out, marks)
            saved = time.monotonic()

    try:
        construct_layers(made.module, batch, labels, on_layer)
    except KeyboardInterrupt:
        made.interrupted = True
    made.seconds = time.monotonic() - start
    if out is not None and (todo or not out.exists()) and made.done:
        write(made, out, marks)


def write(made: Constructed, out: Path, marks: Mapping[str, str]) -> None:
    """The file as far as the construction got."""
    last = made.done[-1]
    about = {
        "format": "lensnet constructed network 1",
        "network": made.network.name,
        "last": last,
        "fingerprint": marks[last],
        "complete": "yes" if len(made.done) == len(made.wanted) else "no",
    }
    rates = {path: torch.tensor(pair, dtype=torch.float64) for path, pair in made.rates.items()}
    save(out, tensors_of(made.module), rates, about, made.entropies)


def _taken_up(made: Constructed, saved: Saved, marks: Mapping[str, str], out: Path) -> Saved:
    """Load the layers of an earlier construction. Raises InputError where it is not the beginning of this one."""
    if marks.get(saved.last) != saved.fingerprint:
        what = (
            f"of {saved.network}" if saved.network and saved.network != made.network.name else "of other data or layers"
        )
        raise InputError(f"{out} holds a construction {what}", "choose another --out, or give --overwrite")
    known = {node.path for node in made.network}
    load(made.module, made.network, {key: value for key, value in saved.tensors.items() if key.split("/")[0] in known})
    return saved
