"""The ensemble: the same network and input under many weight draws."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule

from lensnet.levels.ladder import Level
from lensnet.measure.construction import Weights, examples_in_force, is_constructed, supply
from lensnet.measure.device import choose_device, choose_dtype, is_out_of_memory, quiet_state, release
from lensnet.measure.errors import MeasureError
from lensnet.measure.grams import BELOW_MOMENTS, read_scalars
from lensnet.measure.jacobians import with_jacobians
from lensnet.measure.labelled import load_labels
from lensnet.measure.module import draw, to_module
from lensnet.measure.passes import measure_pass
from lensnet.measure.rounding import with_rounding
from lensnet.measure.statistics import Measurement, SeedStatistics
from lensnet.measure.together import draws_together, measure_together
from lensnet.network.distortion import label_distortion
from lensnet.network.graph import Network
from lensnet.quantities.rows import DEFAULT_ROWS
from lensnet.quantities.spectra import DISTORTION

OnSeed = Callable[[SeedStatistics], None]


class Progress(Protocol):
    """What a progress bar must offer. `start` may be called again when the measurement starts over."""

    def start(self, total: int) -> None:
        """`total` seeds are to be measured."""

    def advance(self, seeds: int) -> None:
        """So many more are done."""


def measure(
    network: Network,
    batch: Tensor,
    seeds: int = 8,
    first_seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    backward: bool = True,
    train: bool = True,
    keep_seeds: bool = True,
    on_seed: OnSeed | None = None,
    progress: Progress | None = None,
    levels: Collection[Level] = (Level.MOMENTS,),
    rows: int = DEFAULT_ROWS,
    weights: Weights | None = None,
) -> Measurement:
    """Measure `seeds` weight draws of a network on one batch.

    `batch`: torch layout of `network.input.shape`, on the CPU. `train`: dropout and batch statistics are active.
    `on_seed` gets each draw's statistics as soon as it is done; a small network is measured several draws at a time.
    With `keep_seeds` off they are not kept here beside. Where memory does not suffice the batch is halved, a note says
    so, and the seeds are measured again from the first (`on_seed` is then called again for them). Ctrl-C ends the
    measurement and returns what was finished, `interrupted` set.

    `levels`: below the moments, Gram matrices over at most `rows` sampled rows and the numbers read off them are
    measured too.

    `weights`: tensors of a constructed network, instead of drawing them. Without, layers that are made from data are
    made from this batch, where its labels are known.

    The caller's random state and torch settings stay as they were. Raises `DeviceError` for a GPU that is absent,
    `MeasureError` where even one example does not fit, `ImplementationError` for a component without a layer.
    """
    where, number = choose_device(device), choose_dtype(dtype)
    wanted = BELOW_MOMENTS & set(levels)
    rows = rows if wanted else 0
    result = Measurement([], str(where), dtype, len(batch))
    if Level.SPECTRUM in wanted and network.input.labelled:
        result.notes.append(f"coding rates of the classes at eps2 = {label_distortion(network, DISTORTION):g}")
    with quiet_state(where):
        module = _built(network, where, number).train(train)
        while True:
            finished = 0
            result.batch = len(batch)
            release(where)
            if progress is not None:
                progress.start(seeds)
            data = batch.to(device=where, dtype=number if batch.is_floating_point() else None)
            try:
                span = range(first_seed, first_seed + seeds)
                draws = _passes(module, network, data, span, backward, rows, weights, Level.SPECTRUM in wanted)
                if Level.SPECTRUM in wanted and weights is None and not is_constructed(module):
                    draws = with_jacobians(draws, module, network, data)
                if Level.FLUCTUATION in levels:
                    draws = with_rounding(draws, module, network, data)
                for done in draws:
                    finished += 1
                    read_scalars(network, done, wanted, len(batch), rows)
                    if keep_seeds:
                        result.seeds.append(done)
                    if on_seed is not None:
                        on_seed(done)
                    if progress is not None:
                        progress.advance(1)
            except KeyboardInterrupt:
                result.interrupted = True
                result.notes.append(f"interrupted: {finished} of {seeds} weight draws were finished")
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                batch = _halved(batch, result)
                continue
            return result


def _built(network: Network, device: torch.device, dtype: torch.dtype) -> GraphModule:
    try:
        return to_module(network).to(device=device, dtype=dtype)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise MeasureError(f"out of memory: the weights of {network.name!r} do not fit on {device}") from error
        raise


def _passes(
    module: GraphModule,
    network: Network,
    batch: Tensor,
    seeds: range,
    backward: bool,
    rows: int,
    weights: Weights | None = None,
    labelled: bool = False,
) -> Iterator[SeedStatistics]:
    """The statistics of the seeds in order: several draws at a time where that is faster."""
    alone = weights is not None or is_constructed(module)
    labels = load_labels(network.input) if alone or labelled else None
    alone = alone or labels is not None
    several = 1 if alone else draws_together(network, module, batch)
    while several > 1 and len(seeds) > 1:
        try:
            done = measure_together(module, network, batch, seeds[:several], backward, rows)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            break  # a layer that knows no vmap: one after another gives the same
        yield from done
        seeds = seeds[several:]
    earlier = None
    for seed in seeds:
        draw(module, network, seed, examples=len(batch))
        if alone:
            supply(module, network, batch, labels, weights)
        with examples_in_force(module, labels, labelled):
            done_now = measure_pass(module, network, batch, seed, backward, earlier, rows=rows)
        earlier = done_now
        yield done_now


def _halved(batch: Tensor, result: Measurement) -> Tensor:
    """The first half of the examples, with a note; the seeds so far belong to the larger batch and are dropped."""
    if len(batch) == 1:
        raise MeasureError(f"out of memory on {result.device} with a single example: the network itself is too large")
    half = len(batch) // 2
    result.notes.append(f"out of memory: the batch was halved from {len(batch)} to {half} examples")
    result.seeds.clear()
    return batch[:half]
