"""Attention, known by its answers: which keys a query sees, the biases and the factor of the logits are read off what
it does to tokens of its own, and on random tokens it must give what softmax(factor q k + bias) v gives."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.box import Box
from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.layout import LayoutError
from lensnet.importers.probe import in_order
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.logits import named_bias
from lensnet.network.windows import Windows

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_UNSEEN = 1e-12
"""A share of the softmax below this is none."""


@rule("cluster attended")
def attended(mapper: Mapper, node: Node) -> Value:
    ends = mapper.clusters[node].info["sources"]
    if len(ends) != 3:
        raise Unmapped(f"a softmax between {len(ends)} signals")
    box = _Attention(mapper, node, ends)
    for query, key, value in box.orders():
        found = box.read(query, key, value)
        if found is not None:
            heads, factor, bias = found
            length = box.beams[query].positions
            parameters = {"heads": heads} | named_bias(bias[None, None], Windows(length), heads)
            factor *= sqrt(box.beams[query].channels // heads)
            parameters |= {} if abs(factor - 1) < 1e-4 else {"factor": float(f"{factor:.6g}")}
            taps = [(ends[place], box.beams[place]) for place in (query, key, value)]
            return mapper.add(node, "attend", parameters, taps, box.made(box.beams[query]))
    raise Unmapped("a softmax that is no attention of one sequence to one other")


class _Attention(Box):
    """A group that may be attention, as a function of three sequences."""

    def __init__(self, mapper: Mapper, root: Node, ends: list[Node]) -> None:
        super().__init__(mapper, root, ends, "attention")
        self.examples = self.beams[0].layout.order(self.beams[0].positions)[2][0]
        if len({(beam.channels, beam.positions) for beam in self.beams}) > 1:
            raise Unmapped("a softmax between signals of different shapes")
        self.channels, (self.tokens,) = self.beams[0].channels, self.beams[0].positions

    def made(self, like: Beam) -> Beam:
        """The output is laid out as the queries, or examples first: what it answers tells whether that is so."""
        sizes = sizes_of(self.root)
        plain = like.plain()
        return like.laid(plain) if plain.sizes == sizes else super().made(like)

    def run(self, *plain: Tensor, order: tuple[int, int, int]) -> Tensor:
        return in_order(self(plain, order), self.made(self.beams[order[0]]))

    def blank(self) -> Tensor:
        return torch.zeros(self.examples, self.tokens, self.channels)

    def orders(self) -> list[tuple[int, int, int]]:
        """Which ends may be queries, keys and values: without values nothing comes out."""
        source = torch.Generator().manual_seed(1)
        tried = [torch.randn(self.blank().shape, generator=source) for _ in self.ends]
        out = []
        for value in range(3):
            given = [one if place != value else 0 * one for place, one in enumerate(tried)]
            try:
                dark = not bool(self(given, (0, 1, 2)).any())
            except (LayoutError, RuntimeError, IndexError, TypeError) as error:
                raise Unmapped(f"a softmax that cannot be tried out ({type(error).__name__})") from None
            if dark:
                rest = [place for place in range(3) if place != value]
                out += [(rest[0], rest[1], value), (rest[1], rest[0], value)]
        return out

    @torch.no_grad()
    def read(self, query: int, key: int, value: int) -> tuple[int, float, Tensor] | None:
        """Heads, factor on the logits, and what is added to them (heads, queries, keys), minus infinity where a key is
        hidden; None where these three do not explain what comes out."""
        order = (query, key, value)
        source = torch.Generator().manual_seed(0)
        width = self._width(order, source)
        if not width or self.channels % width:
            return None
        heads = self.channels // width
        even = self._shares(self.blank(), self.blank(), width, order)
        bias = torch.where(even > _UNSEEN, even.clamp_min(_UNSEEN).log(), -torch.inf)
        ask, answer = self.blank(), self.blank()
        ask[..., ::width] = 1.0
        answer[..., ::width] = torch.randn(self.tokens, 1, generator=source)
        tilted = self._shares(ask, answer, width, order)
        seen = even > _UNSEEN
        count = seen.sum(-1, keepdim=True).clamp_min(1)
        rise = torch.where(seen, tilted.clamp_min(_UNSEEN).log() - bias, 0.0)
        key_of = torch.where(seen, answer[0, :, 0].expand_as(seen), 0.0)
        rise, key_of = (torch.where(seen, one - one.sum(-1, keepdim=True) / count, 0.0) for one in (rise, key_of))
        factor = float((rise * key_of).sum() / key_of.square().sum().clamp_min(1e-9))
        tried = [torch.randn(ask.shape, generator=source) for _ in order]
        found = self.run(*tried, order=order)
        q, k, v = (one.unflatten(-1, (heads, width)).transpose(1, 2) for one in tried)
        wanted = (((factor * q @ k.mT) + bias).softmax(-1) @ v).transpose(1, 2).flatten(2)
        alike = torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.std()))
        return (heads, factor, bias) if alike else None

    def _width(self, order: tuple[int, int, int], source: torch.Generator) -> int:
        """Channels of a head: as many as feel that queries and keys differ in their first channel."""
        ask, answer = self.blank(), self.blank()
        light = torch.randn(self.tokens, 1, generator=source) + self.blank()
        dark = self.run(ask, answer, light, order=order)
        ask[..., 0], answer[..., 0] = 1.0, torch.randn(self.tokens, generator=source)
        felt = (self.run(ask, answer, light, order=order) - dark).abs().amax((0, 1)) > 1e-5
        return int(felt.sum()) if bool(felt[: int(felt.sum())].all()) else 0

    def _shares(self, query: Tensor, key: Tensor, width: int, order: tuple[int, int, int]) -> Tensor:
        """What every query takes of every key, (heads, queries, keys): channels and examples each light one key."""
        parts = []
        at_once = self.examples * width
        for start in range(0, self.tokens, at_once):
            light = self.blank().unflatten(-1, (-1, width))
            for place in range(start, min(start + at_once, self.tokens)):
                light[(place - start) // width, place, :, (place - start) % width] = 1.0
            out = self.run(query, key, light.flatten(2), order=order).unflatten(-1, (-1, width))
            parts.append(out.permute(2, 1, 0, 3).flatten(2))
        return torch.cat(parts, -1)[..., : self.tokens]
