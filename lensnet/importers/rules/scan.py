"""A selective scan, known by its answers: what it does to impulses gives its decays, its skip and the bias of its
steps, and on random inputs it must give what the recurrence gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from lensnet.importers.box import Box
from lensnet.importers.draft import Beam, Unmapped, Value
from lensnet.importers.layout import LayoutError
from lensnet.importers.operations import name_of
from lensnet.importers.probe import in_order
from lensnet.importers.rulebook import rule

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_SHORT = -3.0
"""A step before its softplus that lets the slowest and the fastest state be seen."""


@rule("cluster scan")
def selective_scan(mapper: Mapper, node: Node) -> Value:
    ends = mapper.clusters[node].info["ends"]
    box = _Box(mapper, node, ends)
    first = next(one for one in mapper.clusters[node].members if name_of(one) == "exp")
    for order in permutations(range(len(ends))):
        found = box.read([box.beams[place] for place in order], order)
        if found is not None:
            taps = [(ends[place], box.beams[place]) for place in order]
            made = box.made(box.beams[order[0]])
            return mapper.add(node, "selective_scan", found, taps, made, name=mapper.name_for(first, "scan"))
    raise Unmapped("sums that run along the tokens, and are no selective scan")


@dataclass
class _Scan:
    """What the recurrence needs beside its inputs: decays (heads, states), skip (channels,), bias (heads,)."""

    decays: Tensor
    skip: Tensor
    bias: Tensor
    groups: int

    def __call__(self, x: Tensor, step: Tensor, b: Tensor, c: Tensor) -> Tensor:
        heads, states = self.decays.shape
        time = F.softplus(step + self.bias)
        rows = x.unflatten(-1, (heads, -1))
        write, read = (
            one.unflatten(-1, (self.groups, states)).repeat_interleave(heads // self.groups, -2) for one in (b, c)
        )
        held, out = x.new_zeros(()), []
        for t in range(x.shape[1]):
            new = (time[:, t, :, None] * write[:, t])[:, :, None] * rows[:, t, ..., None]
            held = torch.exp(-self.decays * time[:, t, :, None])[:, :, None] * held + new
            out.append((held * read[:, t, :, None]).sum(-1))
        return torch.stack(out, 1).flatten(-2) + self.skip * x


class _Box(Box):
    """The operations of a scan as a function of four signals (N, T, C)."""

    def __init__(self, mapper: Mapper, root: Node, ends: Sequence[Node]) -> None:
        super().__init__(mapper, root, ends, "a scan")
        self.softplus = next(node for node in self.order if name_of(node) == "softplus")
        if any(beam.positions != self.beams[0].positions for beam in self.beams):
            raise Unmapped("a scan over something else than one sequence")

    def read(self, beams: Sequence[Beam], order: Sequence[int]) -> dict[str, Any] | None:
        """The component's parameters where the four signals, in this order, are x, step, b and c; else None."""
        x, step, b, c = beams
        if b.channels != c.channels or x.channels % step.channels or x.positions[0] < 2:
            return None
        try:
            scan = self._scan(beams, order)
            return None if scan is None else _parameters(scan)
        except (LayoutError, RuntimeError, IndexError):
            return None

    @torch.no_grad()
    def _scan(self, beams: Sequence[Beam], order: Sequence[int]) -> _Scan | None:
        x, step, b, c = beams
        made, tokens = self.made(x), x.positions[0]
        examples = x.layout.order(x.positions)[2][0]

        def blank(beam: Beam) -> Tensor:
            return torch.zeros(examples, tokens, beam.channels)

        def run(*plain: Tensor) -> Tensor:
            return in_order(self(plain, order), made)

        zero = [blank(beam) for beam in beams]
        before = self(zero, order, self.softplus)
        bias = in_order(before, step.laid(_as(step, tuple(before.shape))))[0, 0]
        ones = torch.ones_like(zero[0])
        skip = run(ones, zero[1], zero[2], zero[3])[0, 0]
        # the first token writes to one state, and the second reads it: what is left of it after one step
        x_first, write_first, read_second = blank(x), blank(b), blank(c)
        x_first[:, 0], read_second[:, 1] = 1.0, 1.0
        even = _SHORT - bias + zero[1]
        write_first[:, 0, 0] = 1.0
        seen = run(x_first, even, write_first, read_second)[0, 1].unflatten(-1, (step.channels, -1))[:, 0]
        each = int((seen != 0).sum())
        if each == 0 or step.channels % each or b.channels % (step.channels // each):
            return None
        groups = step.channels // each
        states = b.channels // groups
        time = float(F.softplus(torch.tensor(_SHORT)))
        left = torch.empty(step.channels, states)
        for start in range(0, states, examples):
            write_first[:] = 0.0
            some = range(start, min(start + examples, states))
            for place, state in enumerate(some):
                write_first[place, 0, state::states] = 1.0
            answer = run(x_first, even, write_first, read_second)[:, 1].unflatten(-1, (step.channels, -1))[..., 0]
            left[:, some.start : some.stop] = answer[: len(some)].T
        decays = -torch.log(left / time) / time
        scan = _Scan(decays, skip, bias, groups)
        source = torch.Generator().manual_seed(0)
        tried = [torch.randn(one.shape, generator=source) for one in zero]
        tried[1] = 0.5 * tried[1] + even
        wanted, found = scan(*tried), run(*tried)
        return scan if torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.std())) else None


def _as(beam: Beam, sizes: tuple[int, ...]) -> Any:
    return beam.layout if beam.layout.sizes == sizes else beam.layout.reshaped(sizes)


def _parameters(scan: _Scan) -> dict[str, Any]:
    heads = scan.decays.mean(1), scan.decays.mean(0)
    by_head = float(heads[0].std(correction=0)) > float(heads[1].std(correction=0))
    low, high = _ends(heads[0] if by_head else heads[1])
    out: dict[str, Any] = {"groups": scan.groups} if scan.groups > 1 else {}
    skip = float(scan.skip.square().mean().sqrt())
    out |= {"skip": _short(skip)} if skip != 1 else {}
    spread = float(scan.bias.std(correction=0)) if len(scan.bias) > 1 else 0.0
    out |= {"step_bias": _short(float(scan.bias.mean())), "step_spread": _short(spread)}
    if spread > 0 and float(((scan.bias - scan.bias.mean()) / spread).pow(4).mean()) > 2.4:
        out["step_law"] = "normal"
    out |= {"decay_low": _short(low), "decay_high": _short(high)}
    return out | ({"decay_by": "head"} if by_head else {})


def _ends(values: Tensor) -> tuple[float, float]:
    """The ends of as many evenly spaced numbers of the same mean and spread."""
    count = len(values)
    if count < 2:
        return float(values[0]), float(values[0])
    half = float(values.std(correction=0)) * (3 * (count - 1) / (count + 1)) ** 0.5
    return max(float(values.mean()) - half, 0.0), float(values.mean()) + half


def _short(value: float) -> float:
    return float(f"{value:.5g}")
