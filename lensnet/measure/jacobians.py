"""Jacobians from the network's input to every output, of the first examples, by forward-mode differentiation.

One pass in float64 carries the changes of all directions along: with up to `WHOLE` inputs the unit vectors, whose
changes are the Jacobian itself (its singular values are found), else `PROBES` random ones. So it costs a pass over
`EXAMPLES` times that many inputs, about twice over, and the singular values (256 of them: 10 ms for each output). It is
done in the first few weight draws, since spectra hardly differ from draw to draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx import GraphModule, Interpreter
from torch.fx.node import Node as FxNode

from lensnet.measure.device import choose_device, quiet_state
from lensnet.measure.draw import generator
from lensnet.measure.layers import NoiseLayer
from lensnet.measure.module import draw, to_module
from lensnet.measure.statistics import Field, SeedStatistics
from lensnet.network.graph import INPUT, Network
from lensnet.quantities import jacobian


class Progress(Protocol):
    """See `lensnet.measure.ensemble.Progress`."""

    def start(self, total: int) -> None: ...
    def advance(self, seeds: int) -> None: ...


DRAWS = 4
"""Weight draws in which all singular values are found; twice as many where their moments are estimated."""


def with_jacobians(
    done: Iterator[SeedStatistics], module: GraphModule, network: Network, batch: Tensor
) -> Iterator[SeedStatistics]:
    """The same draws, the first few of them with the scalars `jacobian_...` of every component.

    None where a layer knows no forward-mode derivative.
    """
    able = network.has_jacobians
    draws = DRAWS if network.input.shape.features <= jacobian.WHOLE else 2 * DRAWS
    for place, statistics in enumerate(done):
        if able and place < draws:
            try:
                for path, numbers in jacobian_numbers(module, network, batch, statistics.seed).items():
                    for quantity, value in numbers.items():
                        statistics.scalars[path, quantity, "forward", None] = value
            except NotImplementedError:
                able = False
        yield statistics


def jacobian_numbers(module: GraphModule, network: Network, batch: Tensor, seed: int) -> dict[str, dict[str, float]]:
    """The numbers of one weight draw at every output, by path; quantities as in `lensnet.quantities.jacobian`."""
    inputs = network.input.shape.features
    whole = inputs <= jacobian.WHOLE
    out = {}
    for path, changes in _changes(module, network, batch, seed, whole):
        if whole:
            out[path] = jacobian.of_singular_values(_squares(changes))
        else:
            out[path] = jacobian.of_probes(changes.cpu().numpy(), min(inputs, changes.shape[2]))
    return out


def draw_jacobians(
    network: Network, batch: Tensor, at: Sequence[str], seeds: range, device: str, progress: Progress | None
) -> dict[str, list[Field]]:
    """Squared singular values of the Jacobian at some outputs, `(min(n, N),)` for every weight draw.

    For networks of up to `WHOLE` inputs.
    """
    where = choose_device(device)
    out: dict[str, list[Field]] = {path: [] for path in at}
    with quiet_state(where):
        module = to_module(network).to(where)
        data = batch.to(where)
        if progress is not None:
            progress.start(len(seeds))
        for seed in seeds:
            for path, changes in _changes(module, network, data, seed, True):
                if path in out:
                    out[path].append(_squares(changes)[0])
            if progress is not None:
                progress.advance(1)
    return out


def _squares(changes: Tensor) -> Field:
    """Squared singular values of Jacobians given as the changes `(examples, inputs, outputs)`."""
    wide = changes.shape[2] > changes.shape[1]
    products = changes @ changes.mT if wide else changes.mT @ changes
    values = torch.linalg.eigvalsh(products)
    return np.maximum(values.cpu().numpy(), 0.0)


def _changes(
    module: GraphModule, network: Network, batch: Tensor, seed: int, whole: bool
) -> Iterator[tuple[str, Tensor]]:
    """Path and `(examples, directions, outputs)` of every component, in order."""
    few = batch[: jacobian.EXAMPLES].double()
    examples, inputs = len(few), network.input.shape.features
    draw(module, network, seed, examples=len(batch))
    if whole:
        directions = torch.eye(inputs, dtype=torch.float64).expand(examples, inputs, inputs)
    else:
        size = (examples, jacobian.PROBES, inputs)
        directions = torch.randn(size, generator=generator(seed, INPUT, "directions"))
    count = directions.shape[1]
    exact = deepcopy(module).double()
    for part in exact.modules():
        if isinstance(part, NoiseLayer) and part.noise.numel():  # the same noise for every direction
            part.noise = part.noise[:examples].repeat_interleave(count, 0)
    tangent = directions.to(few).reshape(examples * count, *few.shape[1:])
    with torch.no_grad(), forward_ad.dual_level():
        runner = _Runner(exact)
        runner.run(forward_ad.make_dual(few.repeat_interleave(count, 0), tangent))
    for path, change in runner.changes.items():
        yield path, change.reshape(examples, count, -1)


class _Runner(Interpreter):
    """Keeps the change of every output."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.changes: dict[str, Tensor] = {}

    def run_node(self, n: FxNode) -> object:
        value = super().run_node(n)
        path = n.meta.get("path")
        if path not in (None, INPUT) and torch.is_tensor(value):
            change = forward_ad.unpack_dual(value).tangent
            self.changes[path] = torch.zeros_like(value) if change is None else change
        return value
