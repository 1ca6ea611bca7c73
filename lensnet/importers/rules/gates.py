"""The gate of a mixture of experts, known by the shares that it gives to random ratings."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.draft import Unmapped, Value, sizes_of
from lensnet.importers.layout import CHANNELS
from lensnet.importers.patterns.experts import Mixture
from lensnet.importers.rerun import before, run
from lensnet.importers.rulebook import rule
from lensnet.measure.layers.experts import sparsemixer

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_ATEN = torch.ops.aten
_NEAR = (0.02, 0.002, 0.01, 0.04, 0.1, 0.2)  # twice the jitter of people's sparsemixers


def gate_of(mapper: Mapper, found: Mixture) -> dict[str, Any]:
    """`chosen`: the node with the numbers of the experts, None where every expert has a share; `parameters`: those of
    the gate, none where it is unlike any that is known."""
    shares, sizes = found.shares, sizes_of(found.ratings)
    source = torch.Generator().manual_seed(0)
    ratings = torch.randn(sizes, generator=source)
    numbers = [node for node in found.routing if _whole_numbers(node, shares)]
    ends = [shares, *numbers]
    order = sorted(set().union(*(before(end, [found.ratings], found.routing) for end in ends)),
                   key={node: index for index, node in enumerate(mapper.graph.nodes)}.__getitem__)  # fmt: skip
    made, *chosen = run(mapper, order, {found.ratings: ratings}, ends)
    if tuple(made.shape) == sizes:
        return {"chosen": None, "parameters": _like_known(ratings, made)}
    for node, index in zip(numbers, chosen, strict=True):
        index = index if index.dim() == ratings.dim() else index.unsqueeze(-1)
        value = made if made.dim() == ratings.dim() else made.unsqueeze(-1)
        if index.shape != value.shape or int(index.max()) >= sizes[-1]:
            continue
        known = _like_known(ratings, torch.zeros(sizes).scatter(-1, index, value))
        if known:  # the experts that are not chosen do not run, and send nothing back
            return {"chosen": node, "parameters": known | {"sparse": True}}
    fitting = [node for node, index in zip(numbers, chosen, strict=True)
               if index.shape == made.shape and int(index.max()) < sizes[-1]]  # fmt: skip
    if not fitting:
        raise Unmapped("it is not told which experts are chosen")
    return {"chosen": fitting[0], "parameters": {}}


def _whole_numbers(node: Node, like: Node) -> bool:
    value: Any = node.meta.get("val")
    known = torch.is_tensor(value) and value.dtype == torch.int64 and all(isinstance(n, int) for n in value.shape)
    return known and prod(value.shape) == prod(sizes_of(like))


def _like_known(ratings: Tensor, shares: Tensor) -> dict[str, Any]:
    """Parameters of `top_k_gate` with which it gives these shares; nothing where there are none."""
    used = shares != 0
    kept = int(used.sum(-1).max())
    if not (used.sum(-1) == kept).all() or not kept:
        return {}
    for soft, whole in product((True, False), (True, False)):
        score = ratings.softmax(-1) if soft else ratings.sigmoid()
        score = torch.where(used, score, 0.0)
        score = score / score.sum(-1, keepdim=True) if whole else score
        factor = float(shares.sum() / score.sum())
        if torch.allclose(shares, factor * score, rtol=1e-3, atol=1e-5):
            out: dict[str, Any] = {"active": kept, "renormalize": whole}
            out |= {} if soft else {"score": "sigmoid"}
            out |= {"factor": float(f"{factor:.6g}")} if abs(factor - 1) > 1e-4 else {}
            best = ratings >= ratings.topk(kept, -1).values[..., -1:]
            return out if bool((best == used).all()) else out | {"grouped": True}
    for near in _NEAR:
        if torch.allclose(shares, sparsemixer(ratings, kept, near), rtol=1e-4, atol=1e-5):
            return {"active": kept, "score": "sparsemixer", "renormalize": False, "near": near}
    return {}


def spread(mapper: Mapper, found: Mixture, gate: dict[str, Any]) -> Node:
    """The shares with a place for every expert, zero for those that are not chosen: where the model keeps those of the
    chosen ones alone, they are laid out and taken up again, which changes nothing."""
    shares, chosen, sizes = found.shares, gate["chosen"], sizes_of(found.ratings)
    if chosen is None:
        return shares
    place = {node: index for index, node in enumerate(mapper.graph.nodes)}
    last = max(shares, chosen, key=place.__getitem__)
    users = list(shares.users)
    if any(place[user] <= place[last] for user in users if user not in (chosen, last)):
        raise Unmapped("shares that are used before it is known whose they are")
    node = last.next
    index, value = chosen, shares
    if len(sizes_of(index)) < len(sizes):
        index = mapper.before(node, _ATEN.unsqueeze.default, (index, -1))
    if len(sizes_of(value)) < len(sizes):
        value = mapper.before(node, _ATEN.unsqueeze.default, (value, -1))
    blank = mapper.before(node, _ATEN.new_zeros.default, (value, list(sizes)))
    whole = mapper.before(node, _ATEN.scatter.src, (blank, -1, index, value))
    taken = mapper.before(node, _ATEN.gather.default, (whole, -1, index))
    if sizes_of(taken) != sizes_of(shares):
        taken = mapper.before(node, _ATEN.reshape.default, (taken, list(sizes_of(shares))))
    for user in users:
        if user not in (chosen, value):
            user.replace_input_with(shares, taken)
    found.routing |= {index, value, blank, whole}
    gate["value"] = value
    return whole


@rule("cluster gate")
def gate(mapper: Mapper, node: Node) -> Value:
    cluster = mapper.clusters[node]
    parameters = dict(cluster.info["parameters"])
    if not parameters:
        raise Unmapped("a gate whose shares are neither a softmax nor sigmoids of the best ratings")
    if parameters.pop("grouped", False):
        mapper.notes.append("experts that are chosen in groups are taken as the best of all")
    beam = mapper.beam(cluster.source)
    if beam.layout.roles(-1) != {CHANNELS} or beam.layout.sizes[-1] != beam.channels:
        raise Unmapped("ratings along something else than the channels")
    return mapper.one(node, "top_k_gate", parameters, beam, cluster.source)
