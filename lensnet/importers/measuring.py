"""Weight draws and passes of an imported model, as `lensnet.measure.ensemble.measure` gives them for a network file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lensnet.importers.laws import draw
from lensnet.importers.model import ImportedModel
from lensnet.importers.probe import ModelProbe, PortGraph, in_order, out_of_order
from lensnet.importers.shuffling import shuffled
from lensnet.importers.untouched import untouched
from lensnet.measure.device import is_out_of_memory, quiet_state
from lensnet.measure.ensemble import Progress
from lensnet.measure.errors import MeasureError
from lensnet.measure.passes import cotangent
from lensnet.measure.statistics import Measurement, SeedStatistics, Shuffled
from lensnet.network.graph import Network


class ModelBench:
    """Measures one imported model."""

    def __init__(self, imported: ImportedModel) -> None:
        self.imported = imported
        self.items = {item.path: item for item in imported.draft.items}

    @cached_property
    def ports(self) -> PortGraph:
        return PortGraph(self.imported.captured.graph, list(self.items.values()))

    @cached_property
    def given(self) -> Tensor:
        """The example input as the model takes it."""
        value = self.imported.captured.inputs[self.imported.draft.input_node.name]
        assert torch.is_tensor(value)
        return value

    @cached_property
    def plain(self) -> Tensor:
        """The example input as the network has it: (N, C), (N, T, C) or (N, C, H, W), or ids (N, T)."""
        beam = self.imported.draft.input_beam
        if beam is not None:
            return in_order(self.given, beam)
        return self.given if self.given.ndim > 1 else self.given[:, None]

    def batch(self) -> Tensor:
        """What enters the network."""
        return self.plain

    def weights(self, seed: int) -> dict[str, Tensor]:
        """Every parameter that is drawn, and copies of the buffers that a pass may change."""
        imported, out = self.imported, {}
        drawn: dict[int, Tensor] = {}
        for name, tensor in imported.captured.parameters.items():
            law = imported.laws[name]
            is_buffer = not isinstance(tensor, torch.nn.Parameter)
            if id(tensor) not in drawn:
                if is_buffer or imported.built or law.kind != "random":
                    drawn[id(tensor)] = tensor.detach().clone() if is_buffer else tensor.detach()
                else:
                    drawn[id(tensor)] = draw(law, tensor, seed, name)
            out[name] = drawn[id(tensor)]
        return out

    def measure(
        self,
        network: Network,
        batch: Tensor,
        seeds: int = 8,
        first_seed: int = 0,
        device: str = "auto",
        dtype: str = "float32",
        backward: bool = True,
        on_seed: Callable[[SeedStatistics], None] | None = None,
        progress: Progress | None = None,
        sides: bool = True,
        **_: Any,
    ) -> Measurement:
        """As `lensnet.measure.ensemble.measure`; the device is that of the model. Raises MeasureError."""
        if self.imported.captured.on_meta:
            raise MeasureError("a model on the meta device has no weights to measure; it can only be predicted")
        where = batch.device
        result = Measurement(
            [], str(where), str(batch.dtype if batch.is_floating_point() else dtype).split(".")[-1], len(batch)
        )
        with untouched(self.imported.model), quiet_state(where):
            if progress is not None:
                progress.start(seeds)
            try:
                for done in self._passes(network, batch, range(first_seed, first_seed + seeds), backward, sides):
                    result.seeds.append(done)
                    if on_seed is not None:
                        on_seed(done)
                    if progress is not None:
                        progress.advance(1)
            except KeyboardInterrupt:
                result.interrupted = True
                result.notes.append(f"interrupted: {len(result.seeds)} of {seeds} weight draws were finished")
        return result

    def _passes(
        self, network: Network, batch: Tensor, seeds: range, backward: bool, sides: bool
    ) -> Iterator[SeedStatistics]:
        for seed in seeds:
            yield self.one(network, batch, seed, backward, sides)

    def one(
        self, network: Network, batch: Tensor, seed: int, backward: bool = True, sides: bool = True
    ) -> SeedStatistics:
        """One forward and backward pass with the weights of `seed`; of given weights another one, with shuffled ones,
        for what weights that have learned nothing do to this input."""
        draft = self.imported.draft
        if draft.input_beam is not None:
            batch = out_of_order(batch, draft.input_beam)
        elif self.given.ndim == 1:
            batch = batch[:, 0]
        given = self.input(batch, seed)
        weights = self.weights(seed)
        if not self.imported.built:
            return self._pass(network, given, seed, weights, backward, sides).collect(seed)
        others = shuffled(self.imported.captured.parameters, self.imported.laws, seed)
        probe = self._pass(network, given, seed, weights, backward, sides, others)
        out = probe.collect(seed)
        alone = probe.alone
        del probe  # and its tensors, before the next pass
        whole = self._pass(network, given, seed, {**self.weights(seed), **others}, backward, sides)
        out.shuffled = Shuffled(alone, whole.collect(seed))
        return out

    def _pass(
        self, network: Network, given: Tensor, seed: int, weights: Mapping[str, Tensor], backward: bool, sides: bool,
        others: Mapping[str, Tensor] | None = None,
    ) -> ModelProbe:  # fmt: skip
        draft, captured = self.imported.draft, self.imported.captured
        probe = ModelProbe(
            self.ports, network, self.items, draft.input_node, draft.input_beam, draft.output, backward, sides,
            None if others is None else self.ports.shadow(others, captured.owned),
        )  # fmt: skip
        try:
            with torch.set_grad_enabled(backward):
                probe.run(*captured.values(weights, {draft.input_node.name: given}))
                assert probe.result is not None
                if backward and probe.result.requires_grad:
                    probe.send_back(cotangent(seed, probe.result))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if is_out_of_memory(error):
                raise MeasureError(f"out of memory: measure fewer examples than {len(given)}") from error
            raise MeasureError(f"the model's own graph does not run: {str(error).splitlines()[0][:300]}") from error
        return probe

    def input(self, batch: Tensor, seed: int) -> Tensor:
        """The input of one pass. With fresh weights it is the same for every draw. With given weights, which are one
        draw, the examples take turns (a Gaussian input is drawn anew) so that there is an error bar over inputs."""
        if not self.imported.built or seed == 0:
            return batch
        source = torch.Generator().manual_seed(seed)
        if batch.is_floating_point():
            fresh = torch.randn(batch.shape, generator=source).to(batch)
            return fresh * batch.std() + batch.mean() if self.imported.synthetic else _shuffled(batch, source)
        if self.imported.synthetic:
            high = max(self.imported.draft.vocabulary, 2)
            return torch.randint(high, batch.shape, generator=source).to(batch)
        return _shuffled(batch, source)


def _shuffled(batch: Tensor, source: torch.Generator) -> Tensor:
    """A bootstrap sample of the examples."""
    return batch[torch.randint(len(batch), (len(batch),), generator=source)]
