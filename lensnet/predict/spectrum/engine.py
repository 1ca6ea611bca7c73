"""The spectrum level as an engine of the ladder: eigenvalues at finite width, from the kernel's covariances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lensnet.algebra.random_matrix.neurons import Neurons
from lensnet.levels.covariance import Covariance
from lensnet.levels.ladder import Level
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.engine import Above, Draw, LevelPrediction, Source
from lensnet.predict.kernel.engine import KernelPrediction
from lensnet.predict.prediction import Effect
from lensnet.predict.spectrum.gaussian import Channel
from lensnet.predict.spectrum.jacobian import jacobian_effects
from lensnet.predict.spectrum.layers import Layers
from lensnet.predict.spectrum.rows import infinite_width_effects, spectrum_effects
from lensnet.predict.spectrum.sums import Output
from lensnet.quantities.rows import RowSample, row_sample


@dataclass
class SpectrumPrediction(LevelPrediction):
    """`layers`: the neurons at every output."""

    layers: Layers | None = None


class SpectrumEngine:
    """Rank, stable and effective rank, participation ratio and coding rate of the sample matrix at every output.

    The rows at level `kernel` are the same numbers at infinite width, for comparison.
    """

    level = Level.SPECTRUM
    needs = (Level.KERNEL,)

    def through(self, network: Network, source: Source, above: Above) -> SpectrumPrediction:
        """From the kernel states, which start at the batch (or the declared input)."""
        kernel = above[Level.KERNEL]
        states: Mapping[str, Covariance] = kernel.states
        samples = {node.path: _rows(states[node.path], node, source) for node in network if node.path in states}
        known = kernel.kernels.checks if isinstance(kernel, KernelPrediction) and kernel.kernels else {}
        layers = Layers(network, states, samples, known)
        effects: list[Effect] = []
        for node in network:
            output = layers.outputs.get(node.path)
            if output is not None:
                gram = states[node.path].rows_gram(samples[node.path])
                assert gram is not None
                effects += spectrum_effects(node.path, output, node.shape.channels)
                effects += infinite_width_effects(node.path, output, gram, node.shape.channels)
        effects += jacobian_effects(network, source.moments.signals)
        return SpectrumPrediction(self.level, effects, (), layers.outputs, layers)

    def local(
        self, network: Network, source: Source, through: LevelPrediction, above: Above, draw: Draw
    ) -> list[Effect]:
        """From the Gram matrix measured at the input of the last layer with fresh weights: neurons behind it are
        exactly independent given that matrix."""
        assert isinstance(through, SpectrumPrediction) and through.layers is not None
        effects: list[Effect] = []
        for node in network:
            output = self._local(network, through.layers, node, draw, source.rows)
            if output is not None:
                effects += spectrum_effects(node.path, output, node.shape.channels)
                effects += infinite_width_effects(node.path, output, output.gram, node.shape.channels)
        return effects

    def _local(self, network: Network, layers: Layers, node: Node, draw: Draw, rows: int) -> Output | None:
        state = layers.states.get(node.path)
        if state is None or state.population is None or node.path not in layers.outputs:
            return None
        known, step = state.population, layers.steps.get(state.population.origin)
        if step is None or known.origin not in network:
            return None
        origin, sample = network[known.origin], layers.samples[node.path]
        gram = draw.grams.get(origin.inputs[0])
        if row_sample(sample.examples, origin.shapes_in[0].positions, rows) != sample:
            return None
        if gram is None or gram.shape != (sample.count, sample.count) or not np.isfinite(gram).all():
            return None
        channel = Channel.of(state, sample)
        covariance = step(np.asarray(gram, dtype=float))
        population, checks = channel.second_moments(covariance), layers.outputs[node.path].checks
        if layers.outputs[node.path].neurons is None:
            return Output(population, sample, None, checks=checks)
        return Output(population, sample, Neurons(population, known.width, channel.draws(covariance)), checks=checks)


def _rows(state: Covariance, node: Node, source: Source) -> RowSample:
    examples = state.layout.examples if source.batch is None else min(len(source.batch), state.layout.examples)
    return row_sample(examples, node.shape.positions, source.rows)


__all__ = ["INPUT", "SpectrumEngine", "SpectrumPrediction"]
