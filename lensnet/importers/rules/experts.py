"""Mixtures of experts: their gate, and the bank, known by what it does between its two layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value, sizes_of
from lensnet.importers.laws import TensorLaw
from lensnet.importers.layout import CHANNELS
from lensnet.importers.operations import arguments, name_of
from lensnet.importers.patterns.cluster import Cluster, between
from lensnet.importers.patterns.experts import Finder, Mixture, held
from lensnet.importers.rerun import before, concrete, run
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.gates import gate_of, spread
from lensnet.importers.rules.initial import initial

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu, "gelu": F.gelu, "relu": F.relu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "sigmoid": torch.sigmoid, "identity": lambda x: x,
}  # fmt: skip
_CLOSE = 2e-3  # gelu by tanh is gelu
_TRIED = 16  # numbers that are looked at until one is felt
_GRID = torch.linspace(-3.0, 3.0, 13)


def mixtures(mapper: Mapper) -> Iterator[Cluster]:
    """The gate and the experts of every mixture, as two groups."""
    finder = Finder(mapper.graph, mapper.is_signal, mapper)
    for found in finder.mixtures():
        try:
            yield from _groups(mapper, finder, found)
        except (Unmapped, RuntimeError, IndexError, ValueError, TypeError, KeyError, AttributeError) as error:
            mapper.notes.append(f"a mixture of experts is read operation by operation: {str(error)[:120]}")


def _groups(mapper: Mapper, finder: Finder, found: Mixture) -> Iterator[Cluster]:
    bank = _bank(mapper, found)
    entries = {min(found.depth.get(user, 2), 2) for user in found.weighing}
    inside = entries == {0}
    if inside and (found.chooses and bank.get("gated") is None or any("bias" in key for key in bank)):
        raise Unmapped("experts that give something where they are fed nothing")
    if not inside and entries - {2}:
        raise Unmapped("shares that enter between the layers of the experts")
    bank |= {"inside": True} if inside else {}
    rated = sizes_of(found.ratings)
    tokens = prod(rated[:-1])
    gate = gate_of(mapper, found) if found.chooses else None
    found.root = finder.summed(found, tokens * bank["units"])
    if prod(sizes_of(found.root)) != tokens * bank["units"]:
        raise Unmapped("experts whose outputs are not added up")
    shares = found.shares
    if gate is not None:
        shares = spread(mapper, found, gate)
        members = between(shares, found.ratings) & (found.routing | {shares})
        yield Cluster("cluster gate", shares, members, found.ratings, gate)
        bank |= {} if gate["chosen"] is None else {"active": sizes_of(gate["value"])[-1]}
        if (
            inside and gate["chosen"] is None and gate["parameters"]
        ):  # a closed expert is fed nothing, and feels nothing
            bank["active"], gate["parameters"]["sparse"] = gate["parameters"]["active"], True
    elif sizes_of(shares) != rated:
        raise Unmapped("shares that are not one number for each expert")
    members, todo = set[Node](), [found.root]
    while todo:
        node = todo.pop()
        if node not in members and node not in (found.source, shares) and mapper.is_signal(node):
            members.add(node)
            todo += node.all_input_nodes
    info = {"sources": [found.source, shares], "bank": bank}
    yield Cluster("cluster experts", found.root, members, found.source, info)


def _bank(mapper: Mapper, found: Mixture) -> dict[str, Any]:
    """Parameters of `experts`, and the tensors that it owns."""
    width, count = sizes_of(found.ratings)[-1], found.experts
    channels = sizes_of(arguments(found.ratings)[1 if name_of(found.ratings) == "addmm" else 0])[-1]
    end = arguments(found.second[0])[1 if name_of(found.second[0]) == "addmm" else 0]
    order = before(end, found.first)
    firsts = [one for one in found.first if end is one or any(one in node.all_input_nodes for node in order)]
    activation, gated, offset, lanes = _between_layers(mapper, order, firsts, end)
    sizes = [sum(mapper.captured.parameters[name].numel() for name in _owners(mapper, layer))
             for layer in (found.first, found.second)]  # fmt: skip
    hidden = sizes[0] // (count * channels * (1 + gated))
    units = sizes[1] // (count * max(hidden, 1))
    if sizes != [count * channels * hidden * (1 + gated), count * hidden * units]:
        raise Unmapped(f"experts of unequal sizes, or other than {width}")
    out: dict[str, Any] = {"experts": count, "hidden": hidden, "units": units, "activation": activation}
    out |= {"gated": True} if gated else {}
    for slot, node, fan_in in zip(("inner", "value"), lanes, (channels, channels), strict=False):
        biases = _biases(mapper, found, node, 1)
        if slot == "value" and offset:
            biases = TensorLaw("random", offset + (biases.mean if biases else 0.0), biases.std if biases else 0.0)
        out |= initial(_law(mapper, node), biases, fan_in, f"{slot}_")
    out |= initial(_law(mapper, found.second[0]), _biases(mapper, found, found.second[0], 2), hidden, "outer_")
    return out


def _weight(mapper: Mapper, node: Node) -> Node:
    given = [one for one in arguments(node)[:3] if isinstance(one, Node)]
    given = given[1:] if name_of(node) == "addmm" else given[:2]
    return next(found for one in given if (found := held(one, mapper)) is not None)


def _law(mapper: Mapper, node: Node) -> TensorLaw:
    return mapper.law(_weight(mapper, node))


def _owners(mapper: Mapper, products: Sequence[Node]) -> set[str]:
    names = {mapper.owner(_weight(mapper, node)) for node in products}
    if None in names:
        raise Unmapped("weights that are computed")
    return {name for name in names if name is not None}


def _biases(mapper: Mapper, found: Mixture, layer: Node, depth: int) -> TensorLaw | None:
    """The law of what is added behind a product of this layer."""
    if name_of(layer) == "linear" and len(arguments(layer)) > 2 and arguments(layer)[2] is not None:
        return mapper.law(arguments(layer)[2])
    if name_of(layer) == "addmm":
        return mapper.law(arguments(layer)[0])
    for user in layer.users:
        if name_of(user) == "add":
            (other,) = [one for one in arguments(user)[:2] if one is not layer] or [None]
            while isinstance(other, Node) and not mapper.static(other) and name_of(other) in ("index", "unsqueeze"):
                other = arguments(other)[0]
            if mapper.static(other):
                return mapper.law(other)
    return None


def _between_layers(
    mapper: Mapper, order: Sequence[Node], firsts: Sequence[Node], end: Node
) -> tuple[str, bool, float, list[Node]]:
    """(activation, gated, what is added to the value before it is multiplied, products that make the activated and the
    other part), from what the operations between two layers do to numbers."""
    source = torch.Generator().manual_seed(1)
    given = [torch.randn(concrete(one.meta["val"].shape), generator=source) for one in firsts]

    def made(values: Sequence[Tensor]) -> Tensor:
        return torch.as_tensor(run(mapper, order, dict(zip(firsts, values, strict=True)), [end])[0]).flatten()

    for number in range(_TRIED):  # the slope of a rectifier is zero at every second number
        with torch.enable_grad():
            leaves = [one.clone().requires_grad_() for one in given]
            slopes = torch.autograd.grad(made(leaves)[number], leaves, allow_unused=True)
        felt = [(lane, place) for lane, slope in enumerate(slopes) if slope is not None
                for place in slope.flatten().nonzero().flatten().tolist()]  # fmt: skip
        if felt:
            break
    if not 1 <= len(felt) <= 2:
        raise Unmapped("experts with something else than an activation between two layers")

    def at(*numbers: float) -> float:
        for (lane, place), value in zip(felt, numbers, strict=True):
            given[lane].view(-1)[place] = value
        with torch.no_grad():
            return float(made(given)[number])

    if len(felt) == 1:
        return _named(torch.tensor([at(float(u)) for u in _GRID])), False, 0.0, [firsts[felt[0][0]]]
    for turned in (False, True):
        shown = torch.tensor([[at(*((v, float(u)) if turned else (float(u), v))) for u in _GRID] for v in (0.0, 1, 2)])
        act = shown[1] - shown[0]
        if torch.allclose(shown[2] - shown[1], act, atol=1e-4) and not torch.allclose(act, act[:1], atol=1e-4):
            offset = float((shown[0] * act).sum() / act.square().sum())
            if torch.allclose(shown[0], offset * act, atol=1e-3):
                lanes = [firsts[lane] for lane, _ in (felt[::-1] if turned else felt)]
                return _named(act), True, round(offset, 5), lanes
    raise Unmapped("experts with a gate that is not linear in one of its parts")


def _named(values: Tensor) -> str:
    for name, function in _ACTIVATIONS.items():
        if torch.allclose(values, function(_GRID), atol=_CLOSE, rtol=0):
            return name
    raise Unmapped("experts with an activation that is not known")


@rule("cluster experts")
def experts(mapper: Mapper, node: Node) -> Value:
    info = mapper.clusters[node].info
    x, shares = (mapper.beam(one) for one in info["sources"])
    bank = dict(info["bank"])
    if x.layout.roles(-1) != {CHANNELS} or shares.layout.roles(-1) != {CHANNELS} or shares.channels != bank["experts"]:
        raise Unmapped("experts of something else than all channels")
    layout, units = x.layout.with_axis(-1, CHANNELS, bank["units"]), bank["units"]
    layout = layout if layout.sizes == sizes_of(node) else layout.reshaped(sizes_of(node))
    inside = mapper.clusters[node].members
    owns = [one for member in inside for one in member.all_input_nodes if mapper.owner(one) is not None]
    taps = list(zip(info["sources"], (x, shares), strict=True))
    made = Beam("", layout, x.positions, units)
    return mapper.add(node, "experts", bank, taps, made, owns=list(dict.fromkeys(owns)))
