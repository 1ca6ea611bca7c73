"""The kernel level as an engine of the ladder: rows from the input batch (through) and from measured Gram matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lensnet.levels.classes import AveragedPairs, StationaryPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field, Mode
from lensnet.network.geometry import Patches
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.shape import Shape
from lensnet.predict.engine import Above, Draw, LevelPrediction, Source
from lensnet.predict.kernel.banded import affordable, propagate_bands, wanted_displacements
from lensnet.predict.kernel.local import predict_locally
from lensnet.predict.kernel.propagate import Gradients, Kernels, propagate, propagate_back
from lensnet.predict.kernel.rows import effect, gram_effects, scatters, width_check
from lensnet.predict.kernel.source import input_state, patch_matrix, patched_state, sample_matrix
from lensnet.predict.kernel.stationary import input_by_class, propagate_by_class
from lensnet.predict.prediction import Check, Effect
from lensnet.quantities import gram as of_gram
from lensnet.quantities.rows import RowSample, row_sample

MOST_SAMPLES = 1536
"""Most samples (examples times positions) whose pairs are followed one by one."""
MOST_DISPLACEMENTS = 52_000_000
"""Most numbers of a pair field that is kept by displacement."""
MOST_FIELD = 1 << 24
"""Most samples of which each is followed with itself alone."""
_MOST_COMPARED = 32


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
        cut = cutting(network, source)
        examples, mode = followed(network, source, cut)
        if mode == "banded":
            wanted = wanted_displacements(network)
            assert source.batch is not None and wanted is not None
            bands = propagate_bands(network, source.batch, examples, wanted)
            bands.plan_gradients()
            kernels: Kernels = bands
        elif mode in ("stationary", "averaged"):
            assert source.batch is not None
            kind = StationaryPairs if mode == "stationary" else AveragedPairs
            layout = kind(examples, network.input.shape.positions)
            batch = source.batch[:examples]
            kernels = propagate_by_class(network, input_by_class(network, batch, layout), batch)
        elif examples == 0:
            return KernelPrediction(self.level, not_modelled(network), (_note(network, source, examples, mode),))
        else:
            given = input_state(network, source.batch, examples) if cut is None else None
            if cut is not None and source.batch is not None:
                given = patched_state(cut, source.batch, examples)
            assert given is not None
            kernels = propagate(network, given, cut)
        note = _note(network, source, examples, mode)
        gradients = None
        if source.gradients and mode in ("full", "banded") and network.nodes[-1].path in kernels.states:
            layout = kernels.states[network.nodes[-1].path].layout
            gradients = propagate_back(kernels, layout.same_place)
            if cut is not None:  # what returns to the pixels is not that of patches
                gradients.pairs.pop((cut.path, cut.ports[0]), None)
        for path in kernels.errors:
            kernels.errors[path] += subset_error(kernels.states[INPUT], network, source)
        known = scatters(source.moments.effects), kernels.hidden_inverse_width
        apart = subset_correlation_error(source.batch, examples, network.input.shape, cut)
        between, across = unlike_classes(kernels, source)
        off = max(apart, between), across
        effects = [e for node in network for e in self._effects(node, kernels, gradients, source, *known, off)]
        return KernelPrediction(self.level, effects, (note,), kernels.states, kernels, gradients)

    def local(
        self, network: Network, source: Source, through: LevelPrediction, above: Above, draw: Draw
    ) -> list[Effect]:
        """Feed every component the Gram matrices measured at its own ports in one weight draw."""
        assert isinstance(through, KernelPrediction)
        if through.kernels is None:
            return []
        return predict_locally(network, through.kernels, source, draw)

    def _effects(
        self,
        node: Node,
        kernels: Kernels,
        gradients: Gradients | None,
        source: Source,
        scatter: Mapping[tuple[str, str, str | None], float],
        behind: float,
        off: tuple[float, float],
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
        known = state.follows(sample)
        lost = error + inverse
        out += gram_effects(node.path, "forward", None, state.rows_gram(sample), sample, wide, lost, known, *off)
        for port, producer in zip(node.ports, node.inputs, strict=True) if gradients else ():
            assert gradients is not None
            pairs, layout = gradients.pairs.get((node.path, port)), kernels.gradient_layout(producer)
            if pairs is None:
                continue
            back = Covariance(np.zeros(layout.field_shape), pairs, layout)
            given = (*gradients.checks[node.path, port], width_check(behind))
            sample = rows_of(back, source)
            lost = error + gradients.errors[node.path, port] + behind
            known = back.follows(sample)
            out += gram_effects(node.path, "backward", port, back.rows_gram(sample), sample, given, lost, known, *off)
        return out


def cutting(network: Network, source: Source) -> Node | None:
    """The patch embedding that alone receives the input: then patches are followed, not pixels."""
    users = network.consumers(INPUT)
    if source.batch is None or len(users) != 1 or not isinstance(users[0][0].geometry, Patches):
        return None
    return users[0][0] if users[0][0].kind == "patch_embedding" else None


def followed(network: Network, source: Source, cut: Node | None = None) -> tuple[int, Mode]:
    """How many examples are followed, and how: pair by pair where there are few enough samples, else by bands, by
    displacement, or by averages over all positions.

    No example (0) where no batch tells these.
    """
    batch = network.input.batch if source.batch is None else len(source.batch)
    shapes = [node.shape for node in network] + ([] if cut is not None else [network.input.shape])
    most_places = max(shape.position_count for shape in shapes)
    examples = min(batch, MOST_SAMPLES // most_places)
    if examples >= min(batch, 2):
        return examples, "full"
    if source.batch is None:
        return 0, "full"
    if network.input.shape.kind == "ids":
        return min(batch, max(1, MOST_FIELD // most_places)), "averaged"
    wanted = wanted_displacements(network) if cut is None else None
    if wanted is not None:
        examples = affordable(network, batch, wanted)
        if examples:
            return examples, "banded"
    examples = min(batch, int((MOST_DISPLACEMENTS / (4 * most_places)) ** 0.5))
    if examples >= min(batch, 2):
        return examples, "stationary"
    return min(batch, max(1, MOST_FIELD // most_places)), "averaged"


def _note(network: Network, source: Source, examples: int, mode: Mode) -> str:
    """The sentence of the report that says how positions were followed."""
    batch = network.input.batch if source.batch is None else len(source.batch)
    shown = f"{examples} of {batch}" if examples < batch else f"{batch}"
    if examples == 0:
        return "kernel level: too many positions to follow every pair of them, and no batch to average over"
    if mode == "full":
        return f"kernel level: all pairs of samples followed (full mode), {shown} examples"
    if mode == "banded":
        return f"kernel level: the pairs that later components ask for, exactly (banded mode), {shown} examples"
    if mode == "averaged":
        return (
            "kernel level: averages over pairs of equal and of different positions (averaged mode), forward only, "
            f"{shown} examples"
        )
    return f"kernel level: pairs followed by displacement (stationary mode), forward only, {shown} examples"


def subset_error(given: Covariance, network: Network, source: Source) -> float:
    """How far the average over the examples followed may be from that over the whole batch (two standard errors)."""
    batch = network.input.batch if source.batch is None else len(source.batch)
    power = given.second_moment.reshape(len(given.second_moment), -1).mean(axis=1)
    if len(power) >= min(batch, source.rows) or len(power) < 2 or not power.mean() > 0:
        return 0.0
    return float(2 * power.std(ddof=1) / power.mean() * np.sqrt(1 / len(power) - 1 / batch))


def subset_correlation_error(batch: Field | None, examples: int, shape: Shape, cut: Node | None = None) -> float:
    """The same of the average cosine of two examples, read off the input (off its patches), where all are known."""
    if batch is None or shape.kind == "ids" or not 1 < examples < len(batch):
        return 0.0
    some = batch[:_MOST_COMPARED]
    x = sample_matrix(some, shape) if cut is None else patch_matrix(cut, some)
    x = (x / np.maximum(np.sqrt((x**2).sum(axis=1, keepdims=True)), 1e-300)).reshape(len(some), -1)
    cosine = x @ x.T / np.diag(x @ x.T).mean()
    every, few = (cosine[:n, :n][np.triu_indices(n, 1)] for n in (len(some), examples))
    chance = 2 * float(every.std(ddof=1)) * np.sqrt(1 / len(few) - 1 / len(every)) if len(every) > 1 else 0.0
    return float(max(chance, abs(every.mean() - few.mean())))


def unlike_classes(kernels: Kernels, source: Source) -> tuple[float, float]:
    """How far classes of pairs leave the average cosine of two examples, and of two positions, from what it is, in
    cosines: read off the convolutions of the input, where both are known."""
    between, across = [0.0], [0.0]
    for state in kernels.states.values():
        known = state.population
        if known is None or known.near is None or not known.plain:
            continue
        sample = rows_of(state, source)
        exact, by_class = known.near.gram(sample.examples, sample.places), state.by_class(sample)
        if exact is not None:
            for away, read in ((between, of_gram.correlation), (across, of_gram.position_cosine)):
                away.append(abs(read(exact, sample) - read(by_class, sample)))
    return float(np.nanmax(between)), float(np.nanmax(across))


def rows_of(state: Covariance, source: Source) -> RowSample:
    """The rows at which numbers are read: of the examples that are followed, those that are measured."""
    examples = state.layout.examples if source.batch is None else len(source.batch)
    whole = row_sample(examples, state.layout.positions, source.rows)
    return RowSample(min(whole.examples, state.layout.examples), whole.places)


def not_modelled(network: Network) -> list[Effect]:
    return [effect(node.path, "second_moment", "forward", None, None, 0.0, (), 0.0) for node in network]


__all__ = ["INPUT", "Check", "KernelEngine", "KernelPrediction"]
