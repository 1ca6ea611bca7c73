"""The neurons at every output of a network whose layers are finite, one after the other.

A layer of n neurons hands on its sample matrix G = (1/n) sum z z^T, not the population covariance K = E z z^T. The next
Gaussian has the covariance P = g^2 G + b^2, a random matrix, and the population behind the activation is F(P), F its
dual map, element by element. To first order in the noise,

    F(P) = F(P0) + F'(P0) o (P - P0),        P0 = g^2 K + b^2,

and F' varies little between different samples, so with its average m the population is F(P0) + g^2 m (G - K): a fixed
matrix plus a sample matrix, whose typical eigenvalues random-matrix theory knows. They are put into the eigenbasis of
F(P0), and the next layer draws its neurons from that. What this leaves out is of second order in the noise, and what
does not commute with F(P0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lensnet.algebra.random_matrix.neurons import Neurons
from lensnet.levels.covariance import Covariance, Matrix, Rows
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import FullPairs
from lensnet.network.graph import Network, Node
from lensnet.predict.kernel.environment import KernelPlace
from lensnet.predict.kernel.forward import forward
from lensnet.predict.prediction import Check
from lensnet.predict.spectrum.attention import ATTENTION, LEAST_UNLIKE, looked_at, unlike, with_floor
from lensnet.predict.spectrum.gaussian import Channel
from lensnet.predict.spectrum.sums import AFFINE, FOLLOWED, Output, Part, distinct, from_parts, shares_of
from lensnet.quantities.rows import RowSample
from lensnet.quantities.spectra import DISTORTION

_ONE_GAUSSIAN = "neurons are functions of one Gaussian vector over the samples"
_MOST_BEHIND = 0.05
_MOST_BENT = 0.02


@dataclass(frozen=True)
class Affine:
    """P = gain K + offset between the Gram matrix that goes into a layer and the covariance of its Gaussian."""

    gain: float
    offset: float

    @classmethod
    def between(cls, before: Matrix, after: Matrix) -> Affine | None:
        """None where the layer does more than that (it mixes positions)."""
        if before.shape != after.shape:
            return None
        spread = before - before.mean()
        size = float(np.sum(spread**2))
        if size > 0:
            gain = float(np.sum(spread * after)) / size
        else:
            gain = float(after.mean() / before.mean()) if before.mean() else 0.0
        found = cls(gain, float(after.mean() - gain * before.mean()))
        missing = np.max(np.abs(found(before) - after), initial=0.0)
        return found if missing <= AFFINE * np.max(np.abs(after), initial=0.0) and gain >= 0 else None

    def __call__(self, gram: Matrix) -> Matrix:
        return self.gain * gram + self.offset


@dataclass(frozen=True)
class _Origin:
    """The Gaussian that a layer's fresh weights make: typical covariance, and where its noise came from."""

    covariance: Matrix
    before: Output | None = None
    step: Affine | None = None
    behind: float = 0.0
    checks: tuple[Check, ...] = ()


class Layers:
    """Outputs by path, from the kernel states of the network. `outputs` has no entry where the kernel has none.

    `checks`: what the kernel states rest on.
    """

    def __init__(
        self,
        network: Network,
        states: Mapping[str, Covariance],
        samples: Mapping[str, RowSample],
        checks: Mapping[str, tuple[Check, ...]],
    ) -> None:
        self.network, self.samples = network, samples
        self.states = {path: _with_known_neurons(state) for path, state in states.items()}
        self.steps: dict[str, Affine | None] = {}
        self.outputs: dict[str, Output] = {}
        self._origins: dict[tuple[str, RowSample], _Origin] = {}
        self._random = random_outputs(network)
        for node in network:
            found = self._output(node, samples[node.path]) if node.path in self.states else None
            if found is not None:
                self.outputs[node.path] = replace(found, checks=distinct([*checks.get(node.path, ()), *found.checks]))

    def _output(self, node: Node, sample: RowSample) -> Output | None:
        state = self.states[node.path]
        gram = state.rows_gram(sample)
        if gram is None or not np.isfinite(gram).all():
            return None
        if node.path not in self._random:
            return Output(gram, sample, None)
        if state.population is None:
            found = from_parts(node, gram, self._parts(node, sample))
            if found is not None:
                return found
            before = [self.outputs[path] for path in node.inputs if path in self.outputs]
            behind = max((output.behind for output in before), default=0.0)
            doubts = (Check(_ONE_GAUSSIAN, -1.0, Level.FLUCTUATION),)
            return Output(gram, sample, Neurons(gram, node.shape.channels), behind, doubts)
        channel, width = Channel.of(state, sample), state.population.width
        origin = self._origin(state, sample)
        population = self._population(channel, origin)
        if self._keeps_angles(state.population.origin):
            checks = (*origin.checks, _nearly_linear(channel, origin.covariance, population))
            return Output(population, sample, None, origin.behind, checks)
        neurons = Neurons(population, width, channel.draws(origin.covariance))
        return Output(population, sample, neurons, origin.behind, origin.checks)

    def _parts(self, node: Node, sample: RowSample) -> list[Part]:
        """Every input; none where one is not known."""
        out = []
        for path in node.inputs:
            state, output = self.states.get(path), self._before(node, path, sample)
            gram = None if state is None else state.rows_gram(sample)
            if state is None or gram is None or output is None:
                return []
            out.append(Part(gram, state.rows_mean(sample), output))
        return out

    def _before(self, node: Node, producer: str, sample: RowSample) -> Output | None:
        """The output that comes in. Where a component numbers the positions anew the rows are other ones by number, and
        it is worked out for those of this sample."""
        output = self.outputs.get(producer)
        if output is None or output.sample.places == sample.places:
            return output
        renumbered = self.network[producer].shape.position_count == node.shape.position_count
        return self._output(self.network[producer], sample) if renumbered else output

    def _origin(self, state: Covariance, sample: RowSample) -> _Origin:
        assert state.population is not None
        key = state.population.origin, sample
        if key not in self._origins:
            self._origins[key] = self._new_origin(key[0], state.population.rows_covariance(sample), sample)
        return self._origins[key]

    def _new_origin(self, path: str, mean: Matrix, sample: RowSample) -> _Origin:
        if path not in self.network:
            return _Origin(mean)
        if len(self.network[path].inputs) != 1:
            return self._merged(path, mean, sample)
        producer = self.network[path].inputs[0]
        before = self._before(self.network[path], producer, sample)
        self.steps[path] = step = self._step(producer, mean, sample)
        if len(self.network[path].weights) > 1:
            return self._several(path, mean, before, sample)
        if before is None:
            return _Origin(mean)
        if step is not None and before.neurons is None:
            return _Origin(step(before.gram), behind=before.total, checks=before.checks)
        if step is None or before.neurons is None:
            mixed = self._mixed(path, before)
            if mixed is None:
                return _not_followed(mean, [before])
            return _Origin(mixed, behind=before.total, checks=before.checks)
        return _Origin(step(_typical(before.neurons)), before, step, before.total, before.checks)

    def _several(self, path: str, mean: Matrix, before: Output | None, sample: RowSample) -> _Origin:
        """Weight layers inside a component (attention): the last reads a sample of Gaussian neurons."""
        mixed = None if before is None else self._mixed(path, before)
        known = _Origin(mean) if before is None else _not_followed(mean, [before])
        if before is not None and mixed is not None:
            known = _Origin(mixed, behind=before.total, checks=before.checks)
        weights, covariance = self.network[path].weights, known.covariance
        if weights.keys() == ATTENTION:
            covariance = self._looked_at(path, before if mixed is not None else None, sample, covariance)
        inner = list(weights.values())[-1].fan_in
        behind = known.behind + min(len(mean) / inner, 1.0)
        return replace(known, covariance=_typical(Neurons(with_floor(covariance), inner)), behind=behind)

    def _looked_at(self, path: str, before: Output | None, sample: RowSample, mean: Matrix) -> Matrix:
        """For one draw of queries and keys; `mean`: over draws, which stays where not every pair is followed, or hardly
        anything chosen. `before`: the input, where all its positions are among the rows."""
        node, state = self.network[path], self.states[self.network[path].inputs[0]]
        if not isinstance(state.layout, FullPairs) or unlike(mean, sample) < LEAST_UNLIKE:
            return mean
        if before is not None and before.neurons is not None and state.layout.count == len(before.gram):
            return looked_at(node, _typical(before.neurons), state.layout, sample)
        neurons = node.shapes_in[0].channels if node.inputs[0] in self._random else None
        return looked_at(node, state.pairs, state.layout, sample, neurons)

    def _mixed(self, path: str, before: Output) -> Matrix | None:
        """What a component that mixes positions makes of the typical sample matrix of its input; None where not all
        positions are among the rows."""
        node, sample, made = self.network[path], before.sample, self.samples[path]
        (shape,) = node.shapes_in
        whole = len(sample.places) == shape.position_count and len(made.places) == node.shape.position_count
        if not whole or sample.examples != made.examples:
            return None
        given = FullPairs(sample.examples, shape.positions)
        layout = FullPairs(sample.examples, node.shape.positions)
        gram = before.gram if before.neurons is None else _typical(before.neurons)
        mean = self.states[node.inputs[0]].rows_mean(sample).reshape(given.field_shape)
        place = KernelPlace(node, given, layout, measured=True, ports=[given])
        found = forward(place, [Covariance(mean, gram, given)]).state
        return None if found is None else np.asarray(found.covariance)

    def _merged(self, path: str, mean: Matrix, sample: RowSample) -> _Origin:
        """A sum of Gaussians is one whose covariance is a sum, typical covariances in place of the means."""
        parts = self._parts(self.network[path], sample)
        before = [part.output for part in parts]
        gaussian = all(output.neurons is not None and output.neurons.draws is None for output in before)
        shares = shares_of(self.network[path], mean, parts) if parts and gaussian else None
        if shares is not None:
            typical = sum((a * output.gram for a, output in zip(shares, before, strict=True)), np.zeros_like(mean))
            checks = distinct([check for output in before for check in output.checks])
            return _Origin(typical, behind=max(output.behind for output in before), checks=checks)
        return _not_followed(mean, [self.outputs[p] for p in self.network[path].inputs if p in self.outputs])

    def _keeps_angles(self, path: str) -> bool:
        """Orthogonal weights with at least as many outputs as inputs: the layer's Gram matrix is that of its input."""
        laws = list(self.network[path].weights.values()) if path in self.network else []
        return len(laws) == 1 and laws[0].distribution == "orthogonal" and laws[0].fan_out >= laws[0].fan_in

    def _step(self, producer: str, mean: Matrix, sample: Rows) -> Affine | None:
        state = self.states.get(producer)
        gram = None if state is None else state.rows_gram(sample)
        return None if gram is None else Affine.between(gram, mean)

    def _population(self, channel: Channel, origin: _Origin) -> Matrix:
        if channel.function is None or origin.before is None or origin.step is None:
            return channel.second_moments(origin.covariance)
        assert origin.before.neurons is not None
        at = origin.step(origin.before.gram)
        slope = origin.step.gain * channel.slope(at)
        if not slope > 0:
            return channel.second_moments(origin.covariance)
        spectrum, basis = origin.before.neurons.shifted_spectrum(
            channel.second_moments(at), slope, seen_at(origin.before.neurons)
        )
        values = np.empty(len(at))
        values[np.argsort(spectrum.population)] = spectrum.eigenvalues()
        return _in_basis(basis, values)


def _with_known_neurons(state: Covariance) -> Covariance:
    """Without its population where a number of that is not known (a batch norm whose batch nobody has seen)."""
    known = state.population
    if known is None or np.isfinite(known.scale).all() and np.isfinite(known.shift).all():
        return state
    return replace(state, population=None)


def seen_at(neurons: Neurons) -> float:
    """s of logdet(I + s G) in the coding rate of these neurons: the scale at which energies are told apart."""
    return neurons.count / (len(neurons.covariance) * DISTORTION)


def _not_followed(mean: Matrix, before: Sequence[Output]) -> _Origin:
    """The finite width of the layers before counts for nothing: right only when it is nearly nothing."""
    behind = max((output.total for output in before), default=0.0)
    own = [check for output in before for check in output.checks]
    checks = [*own, Check(FOLLOWED, max(1 - behind / _MOST_BEHIND, -1.0), Level.FLUCTUATION)]
    return _Origin(mean, behind=behind, checks=distinct(checks))


def _nearly_linear(channel: Channel, covariance: Matrix, population: Matrix) -> Check:
    """Behind orthogonal weights only the non-linear part of a function is a sample, whose noise is left out."""
    linear = float(np.sum(channel.mean_slopes(covariance) ** 2 * np.diag(covariance)))
    energy = float(np.trace(population))
    share = max(1 - linear / energy, 0.0) if energy > 0 else 0.0
    text = f"behind orthogonal weights functions are nearly linear (at most {_MOST_BENT:.0%} of the energy is not)"
    return Check(text, max(1 - share / _MOST_BENT, -1.0), Level.FLUCTUATION)


def _typical(neurons: Neurons) -> Matrix:
    """The sample matrix of a typical draw, in the eigenbasis of the population."""
    values = np.empty(len(neurons.covariance))
    values[np.argsort(neurons.eigenvalues)] = neurons.spectrum(seen_at(neurons)).eigenvalues()
    return _in_basis(neurons.basis, values)


def _in_basis(basis: Matrix, values: Matrix) -> Matrix:
    found = (basis * values) @ basis.T
    return (found + found.T) / 2


def random_outputs(network: Network) -> set[str]:
    """Paths with weights at or somewhere before them."""
    found: set[str] = set()
    for node in network:
        if node.weights or any(path in found for path in node.inputs):
            found.add(node.path)
    return found
