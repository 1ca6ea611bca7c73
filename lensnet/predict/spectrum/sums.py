"""Neurons that are no function of one Gaussian: signals that meet, and signals multiplied by a number per sample.

A sum of independent parts has the sum of their covariances, whatever their laws; typical ones stand for the means,
since each part is a sample of its own. A part whose neurons are not Gaussian is taken as if they were: with half of the
energy behind a rectifier, 48 samples and 96 neurons, that leaves 3 % of the coding rate and 4 % of the effective rank,
with a third of it in codes of positions nothing that could be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lensnet.algebra.random_matrix.neurons import Neurons
from lensnet.levels.covariance import Matrix
from lensnet.levels.ladder import Level
from lensnet.network.graph import Node
from lensnet.predict.constants import constants_for
from lensnet.predict.environment import static_symbols
from lensnet.predict.prediction import Check
from lensnet.quantities.rows import RowSample

AFFINE = 1e-6
"""Largest relative residual of a matrix that others explain."""
MOST_FOREIGN = 0.4
FOLLOWED = "layers before one that mixes positions or dependent branches are wide (sum of rows/width at most 0.05)"


@dataclass(frozen=True)
class Output:
    """Neurons at an output.

    Attributes:
        gram: E z z^T over the rows of `sample`, typical for a draw of all layers before, `(R, R)`.
        neurons: independent ones with that covariance; None where the Gram matrix is the sample matrix itself.
        behind: sum over the finite layers before this one of min(rows/width, 1).
        checks: what the numbers rest on.
        foreign: share of the energy in neurons that are taken as Gaussian and are not.
    """

    gram: Matrix
    sample: RowSample
    neurons: Neurons | None
    behind: float = 0.0
    checks: tuple[Check, ...] = ()
    foreign: float = 0.0

    @property
    def inverse_width(self) -> float:
        return 0.0 if self.neurons is None else 1.0 / self.neurons.count

    @property
    def total(self) -> float:
        """`behind`, this layer counted."""
        return self.behind + min(len(self.gram) * self.inverse_width, 1.0)


@dataclass(frozen=True)
class Part:
    """What comes in at one port: `gram`, `(R, R)`, and `mean`, `(R,)`, of the kernel level, and the neurons there."""

    gram: Matrix
    mean: Matrix
    output: Output


def from_parts(node: Node, gram: Matrix, parts: Sequence[Part]) -> Output | None:
    """The output of a component that adds independent parts, or multiplies every sample by a number; None where the
    kernel's covariances say that it does something else.

    Args:
        gram: what the kernel level says of the output, `(R, R)`.
        parts: every input.
    """
    known = all(part.gram.shape == gram.shape and part.output.neurons is not None for part in parts)
    if node.component.coherence.kind != "linear" or not parts or not known:
        return None
    if len(parts) == 1:
        (part,) = parts
        scaled = _scaled(part, gram, np.zeros_like(part.mean)) or _scaled(part, gram, part.mean)
        return scaled or _with_more(part, gram, node.shape.channels)
    shares = shares_of(node, gram, parts)
    if shares is None:
        return None
    typical = sum((a * part.output.gram for a, part in zip(shares, parts, strict=True)), np.zeros_like(gram))
    energy = [a * float(np.trace(part.output.gram)) for a, part in zip(shares, parts, strict=True)]
    foreign = sum(e * _foreign(part.output) for e, part in zip(energy, parts, strict=True))
    return _taken_as_gaussian(typical, [part.output for part in parts], energy, foreign, node.shape.channels)


def shares_of(node: Node, gram: Matrix, parts: Sequence[Part]) -> list[float] | None:
    """The squared factor of every part of a sum; None for what is no sum, parts that depend on each other, and factors
    that are no numbers."""
    if node.component.coherence.kind != "linear":
        return None
    env = {**static_symbols(node), **constants_for(node)}
    formulas = [node.component.coherence.factor_formula(port) for port in node.ports]
    if any(set(formula.uses) - set(env) for formula in formulas) or any(
        part.gram.shape != gram.shape for part in parts
    ):
        return None
    shares = [float(np.mean(formula.evaluate(env, {}))) ** 2 for formula in formulas]
    missing = gram - sum(a * part.gram for a, part in zip(shares, parts, strict=True))
    return shares if np.max(np.abs(missing), initial=0.0) <= AFFINE * np.max(np.abs(gram), initial=0.0) else None


def _scaled(part: Part, gram: Matrix, mean: Matrix) -> Output | None:
    """Every sample times a number of its own, without its mean: the neurons stay what they were."""
    output = part.output
    assert output.neurons is not None
    kernel = part.gram - np.outer(mean, mean)
    before, after = np.diag(kernel), np.diag(gram)
    factor = np.sqrt(np.divide(after, before, out=np.zeros_like(after), where=before > 0))
    both = np.outer(factor, factor)
    if np.max(np.abs(both * kernel - gram), initial=0.0) > AFFINE * np.max(np.abs(gram), initial=0.0):
        return None
    draws = None if output.neurons.draws is None else factor[:, None] * (output.neurons.draws - mean[:, None])
    typical = both * (output.gram - np.outer(mean, mean))
    return replace(output, gram=typical, neurons=Neurons(typical, output.neurons.count, draws))


def _with_more(part: Part, gram: Matrix, channels: int) -> Output | None:
    """With something added that has nothing to do with the signal: codes of positions, noise, what a mask makes."""
    more = gram - part.gram
    if float(np.linalg.eigvalsh(more)[0]) < -AFFINE * float(np.max(np.abs(gram))):
        return None
    own, added = float(np.trace(part.output.gram)), float(np.trace(more))
    foreign = own * _foreign(part.output) + added
    return _taken_as_gaussian(part.output.gram + more, [part.output], [own + added], foreign, channels)


def _foreign(output: Output) -> float:
    return 1.0 if output.neurons is None or output.neurons.draws is not None else output.foreign


def _taken_as_gaussian(
    typical: Matrix, before: Sequence[Output], energy: Sequence[float], foreign: float, channels: int
) -> Output:
    """What is not known of a part counts with the part's share of the energy."""
    total = max(sum(energy), 1e-300)
    checks = [check for output in before for check in output.checks if check.text != FOLLOWED]
    lost = [
        (e / total, c) for e, output in zip(energy, before, strict=True) for c in output.checks if c.text == FOLLOWED
    ]
    if lost:
        margin = 1 - sum(share * (1 - (0.0 if c.margin is None else c.margin)) for share, c in lost)
        checks.append(Check(FOLLOWED, margin, Level.FLUCTUATION))
    if foreign > 0:
        text = f"neurons are Gaussian over the samples (but for {MOST_FOREIGN:.0%} of their energy at most)"
        checks.append(Check(text, 1 - foreign / total / MOST_FOREIGN, Level.FLUCTUATION))
    behind = max(output.behind for output in before)
    return Output(typical, before[0].sample, Neurons(typical, channels), behind, distinct(checks), foreign / total)


def distinct(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Each text once, with its least margin."""
    found: dict[str, Check] = {}
    for check in checks:
        before = found.get(check.text)
        if before is None or (check.margin is not None and (before.margin is None or check.margin < before.margin)):
            found[check.text] = check
    return tuple(found.values())
