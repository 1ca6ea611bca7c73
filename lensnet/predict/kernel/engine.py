"""The kernel level as an engine of the ladder: rows from the input batch (through) and from measured Gram matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lensnet.levels.covariance import Covariance
from lensnet.levels.ladder import Level
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.engine import Above, Draw, LevelPrediction, Source
from lensnet.predict.kernel.local import predict_locally
from lensnet.predict.kernel.propagate import Gradients, Kernels, propagate, propagate_back
from lensnet.predict.kernel.rows import effect, gram_effects, scatters, width_check
from lensnet.predict.kernel.source import input_state
from lensnet.predict.prediction import Check, Effect
from lensnet.quantities.rows import RowSample, row_sample

MOST_SAMPLES = 4096
"""Most samples (examples times positions) whose pairs are followed one by one."""


@dataclass
class KernelPrediction(LevelPrediction):
    """`kernels`: the states by path (also in `states`); `gradients`: for one question to all examples."""

    kernels: Kernels | None = None
    gradients: Gradients | None = None


class KernelEngine:
    """Covariances between samples, forward and backward."""

    level = Level.KERNEL
    needs: tuple[Level, ...] = ()

    def through(self, network: Network, source: Source, above: Above) -> KernelPrediction:
        """Predict every component from the batch (or from the declared input)."""
        examples, note = followed(network, source)
        if examples == 0:
            return KernelPrediction(self.level, not_modelled(network), (note,))
        kernels = propagate(network, input_state(network, source.batch, examples))
        gradients = None
        if source.gradients and network.nodes[-1].path in kernels.states:
            layout = kernels.states[network.nodes[-1].path].layout
            gradients = propagate_back(kernels, layout.same_place)
        known = scatters(source.moments.effects), kernels.hidden_inverse_width
        effects = [e for node in network for e in self._effects(node, kernels, gradients, source, *known)]
        return KernelPrediction(self.level, effects, (note,), kernels.states, kernels, gradients)

    def local(
        self, network: Network, source: Source, through: LevelPrediction, above: Above, draw: Draw
    ) -> list[Effect]:
        """Feed every component the Gram matrices measured at its own ports in one weight draw."""
        assert isinstance(through, KernelPrediction)
        return [] if through.kernels is None else predict_locally(network, through.kernels, source, draw)

    def _effects(
        self,
        node: Node,
        kernels: Kernels,
        gradients: Gradients | None,
        source: Source,
        scatter: Mapping[tuple[str, str, str | None], float],
        behind: float,
    ) -> list[Effect]:
        state = kernels.states.get(node.path)
        if state is None:
            return [effect(node.path, "second_moment", "forward", None, None, 0.0, (), 0.0)]
        checks, error, inverse = kernels.checks[node.path], kernels.errors[node.path], kernels.inverse_width[node.path]
        out = [
            effect(
                node.path, "second_moment", "forward", None, state.second_moment, error, checks,
                scatter.get((node.path, "forward", None), 0.0),
            )
        ]  # fmt: skip
        sample = rows_of(state, source)
        wide = (*checks, width_check(inverse))
        out += gram_effects(node.path, "forward", None, state.rows_gram(sample), sample, wide, error + inverse)
        for port, producer in zip(node.ports, node.inputs, strict=True) if gradients else ():
            assert gradients is not None
            pairs, before = gradients.pairs.get((node.path, port)), kernels.states[producer]
            if pairs is None:
                continue
            back = Covariance(np.zeros(before.layout.field_shape), pairs, before.layout)
            given = (*gradients.checks[node.path, port], width_check(behind))
            sample = rows_of(back, source)
            lost = error + gradients.errors[node.path, port] + behind
            out += gram_effects(node.path, "backward", port, back.rows_gram(sample), sample, given, lost)
        return out


def followed(network: Network, source: Source) -> tuple[int, str]:
    """How many examples are followed pair by pair, and the sentence that says so."""
    batch = network.input.batch if source.batch is None else len(source.batch)
    most_places = max([shape.position_count for shape in (network.input.shape, *(node.shape for node in network))])
    examples = min(batch, max(MOST_SAMPLES // most_places, 0))
    if examples < min(batch, 2):
        return 0, f"kernel level: {most_places:,} positions are too many to follow every pair of them"
    shown = f"{examples} of {batch}" if examples < batch else f"{batch}"
    return examples, f"kernel level: all pairs of samples followed, {shown} examples"


def rows_of(state: Covariance, source: Source) -> RowSample:
    """The rows at which numbers are read: the same that are measured."""
    examples = state.layout.examples if source.batch is None else len(source.batch)
    return row_sample(min(examples, state.layout.examples), state.layout.places, source.rows)


def not_modelled(network: Network) -> list[Effect]:
    return [effect(node.path, "second_moment", "forward", None, None, 0.0, (), 0.0) for node in network]


__all__ = ["INPUT", "Check", "KernelEngine", "KernelPrediction"]
