"""The way back from a head whose matrix is the table that the signal was read from.

Asked for word w alone, the head sends back row w of the table. For all words but those that came in that is a vector
which the signal knows nothing of, and the rules of independent gradients hold. For the few that did it is part of the
signal: a norm takes off its share along what passes, and where it reaches the embedding it meets what the head has
multiplied. Both count to leading order in the channels, among V words as 1/V.

So the gradient of each such word is followed as what it is made of: a multiple of row w, and of the signals that norms
have seen. Fresh weights end that (behind them it is a Gaussian of its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.pairs import FullPairs, Pairs
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import Network, Node
from lensnet.predict.kernel.cross import is_linear, linear_factor

if TYPE_CHECKING:
    from lensnet.predict.kernel.propagate import Kernels

Array = NDArray[np.float64]
Places = NDArray[np.intp]
MOST_WORDS = 4096
"""Among more words than these the few that came in are not looked at."""


def is_tied(node: Node) -> bool:
    """Whether the matrix of a component is the table of another one, of another kind."""
    return node.shares is not None and node.component.spec.ties is not None


@dataclass(frozen=True)
class Part:
    """What a gradient holds of one signal: `weight[n, w]` times its sample `at[n]`, for the question to word w.

    `centred`: the signal without its mean.
    """

    path: str
    centred: bool
    at: Places
    weight: Array


@dataclass(frozen=True)
class Known:
    """The gradient at an edge for the question to one word that came in: `rows[n, w]` times row w, and parts.

    `asked`: the sample at the output of `head` from which it came, `(N,)`. `lost`: no rule says what became of it.
    """

    head: str
    asked: Places
    rows: Array
    parts: tuple[Part, ...] = ()
    lost: bool = False

    def spread(self, source: Places, factor: Array) -> Known:
        """`factor[n]` times the gradient of sample `source[n]`."""
        parts = (replace(part, at=part.at[source], weight=factor[:, None] * part.weight[source]) for part in self.parts)
        return replace(self, asked=self.asked[source], rows=factor[:, None] * self.rows[source], parts=tuple(parts))


class TiedHeads:
    """Follows what gradients know of the rows that came in, component by component."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels
        self._met: dict[tuple[str, str], Array | None] = {}

    def gathered(self, known: Sequence[Known | None]) -> Known | None:
        """Of a value that is used several times."""
        found = [one for one in known if one is not None]
        if len(found) < 2:
            return found[0] if found else None
        first = found[0]
        alike = all(one.head == first.head and np.array_equal(one.asked, first.asked) for one in found)
        if not alike or any(one.lost for one in found):
            return replace(first, lost=True)
        rows = np.sum([one.rows for one in found], axis=0)
        return replace(first, rows=rows, parts=tuple(part for one in found for part in one.parts))

    def passed(self, node: Node, port: str, known: Known | None, arriving: Pairs) -> tuple[Known | None, Pairs | None]:
        """At a port of a component, from what is known at its output; and what that adds to the covariance there.

        arriving: covariance of the gradient at the output of the head that it came from.
        """
        if is_tied(node):
            return self._asked(node), None
        if known is None or node.component.coherence.kind == "fresh":
            return None, None
        state, place = self.kernels.states[node.inputs[node.ports.index(port)]], self.kernels.place(node)
        factor = linear_factor(place, self.kernels.states, port) if is_linear(node) else None
        if known.lost or factor is None or not isinstance(state.layout, FullPairs):
            return replace(known, lost=True), None
        if not isinstance(node.geometry, Pointwise):
            return self._gathering(node, known, factor), None
        factor = state.layout.flat(factor)
        if not node.component.scale_invariant:
            return known.spread(np.arange(len(factor)), factor), None
        return self._norm(node, known, factor, arriving)

    def met(self, path: str, head: str) -> Array | None:
        """E (signal)(row) of every sample at an output with every row that came in, `(N, words)`."""
        if (path, head) not in self._met:
            assert self.kernels.cross is not None
            embedding, _, first = self.words(head)
            found = self.kernels.cross.moment(path, embedding.path)
            if found is not None:
                shape = self.kernels.states[path].layout.count, self.kernels.states[embedding.path].layout.count
                found = np.broadcast_to(found, shape)[:, first]
            self._met[path, head] = found
        return self._met[path, head]

    def words(self, head: str) -> tuple[Node, Places, Places]:
        """The embedding, which word each of its samples has, and a sample of each word."""
        node = self.network[head]
        assert node.shares is not None
        embedding = self.network[node.shares]
        ids = self.kernels.states[embedding.inputs[0]]
        first, word = np.unique(np.argmax(ids.layout.whole(ids.pairs), axis=1), return_inverse=True)
        return embedding, word, first

    def tangent(self, head: Node, known: Known, arriving: Pairs) -> Array | None:
        """Sum over the table of (derivative by its use in the head) (derivative by its use as embedding), `(E, E)`,
        per unit of a weight's variance; None where no rule reaches."""
        embedding, word, _ = self.words(head.path)
        source = head.inputs[0]
        met = self.met(source, head.path)
        if known.lost or met is None:
            return None
        own = np.arange(len(word)), word
        products = met[:, word] * known.rows[own]
        for part in known.parts:
            between = self._between(source, False, part)
            if between is None:
                return None
            products = products + between * part.weight[own]
        made, given = self.kernels.place(head).made, self.kernels.states[embedding.path].layout
        summed = products * made.whole(arriving)[:, known.asked]
        split = summed.reshape(made.examples, made.places, given.examples, given.places).sum(axis=(1, 3))
        return np.asarray(embedding.shape.channels * (split + split.T))

    @property
    def network(self) -> Network:
        return self.kernels.network

    def _asked(self, head: Node) -> Known | None:
        layout = self.kernels.states[head.path].layout
        if head.shape.channels > MOST_WORDS or not isinstance(layout, FullPairs):
            return None
        words = len(self.words(head.path)[2])
        return Known(head.path, np.arange(layout.count), np.ones((layout.count, words)))

    def _gathering(self, node: Node, known: Known, factor: float) -> Known:
        """Through a pool, or one position that is picked: every sample goes into one output at most."""
        place = self.kernels.place(node)
        shares = place.operators.left(np.eye(place.given.count))
        if np.any((shares != 0).sum(axis=0) > 1):
            return replace(known, lost=True)
        shares = place.made.first(factor) * shares
        source = np.argmax(shares != 0, axis=0)
        return known.spread(source, shares[source, np.arange(len(source))])

    def _norm(self, node: Node, known: Known, factor: Array, arriving: Pairs) -> tuple[Known, Pairs | None]:
        """g' = f (g - x (x.g)/|x|^2): what is along the signal goes."""
        formula = node.component.coherence.factor_formula(node.ports[0])
        centred = "v" in formula.uses
        if formula.tape.operators or not (centred or "q" in formula.uses):  # not of each sample by itself
            return replace(known, lost=True), None
        source, samples = node.inputs[0], np.arange(len(factor))
        state, met = self.kernels.states[source], self.met(source, known.head)
        between = [found for part in known.parts if (found := self._between(source, centred, part)) is not None]
        if met is None or len(between) < len(known.parts):
            return replace(known, lost=True), None
        along = known.rows * met
        for part, moments in zip(known.parts, between, strict=True):
            along = along + np.diagonal(moments)[:, None] * part.weight
        scale = float(node.parameters.get("scale", 1.0))
        along = along * (factor / scale)[:, None] ** 2 if scale else 0.0 * along
        own = state.covariance if centred else state.layout.whole(state.pairs)
        lost = (along * met) @ known.rows.T
        for part, moments in zip(known.parts, between, strict=True):
            lost = lost + (along @ part.weight.T) * moments
        asked = np.ix_(known.asked, known.asked)
        more = factor[:, None] * factor[None, :] * ((along @ along.T) * own - lost - lost.T)
        parts = (*known.parts, Part(source, centred, samples, -along))
        made = replace(known, parts=parts).spread(samples, factor)
        return made, np.broadcast_to(arriving, (known.asked.max() + 1,) * 2)[asked] * more

    def _between(self, path: str, centred: bool, part: Part) -> Pairs | None:
        """E (signal)(signal of a part), `(N, N of the part's edge)`."""
        assert self.kernels.cross is not None
        both = centred or part.centred
        found = (self.kernels.cross.covariance if both else self.kernels.cross.moment)(path, part.path)
        if found is None:
            return None
        layouts = self.kernels.states[path].layout, self.kernels.states[part.path].layout
        return np.broadcast_to(found, (layouts[0].count, layouts[1].count))[:, part.at]
