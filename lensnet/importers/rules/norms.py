"""Normalisations."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.draft import Beam, Unmapped, Value
from lensnet.importers.layout import CHANNELS
from lensnet.importers.operations import argument, arguments
from lensnet.importers.rulebook import rule
from lensnet.importers.rules.activations import module_name
from lensnet.importers.rules.layout import turned
from lensnet.importers.rules.patches import windowed

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def _affine(mapper: Mapper, weight: Any, bias: Any) -> dict[str, float]:
    out = {}
    scale, shift = mapper.constant(weight, 1.0), mapper.constant(bias, 0.0)
    if scale != 1:
        out["scale"] = scale
    if shift != 0:
        out["shift"] = shift
    return out


def _over_channels(mapper: Mapper, source: Any, shape: Any) -> Beam:
    beam = mapper.beam(source)
    if len(shape) != 1 or not beam.layout.roles(-1) <= {CHANNELS} or beam.layout.sizes[-1] != beam.channels:
        raise Unmapped("a norm over something else than all channels")
    return beam


@rule("layer_norm")
def layer_norm(mapper: Mapper, node: Node) -> Value:
    source, beam = windowed(mapper, node, arguments(node)[0])
    shape = argument(node, 1, "normalized_shape")
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    if len(shape) == 1 and beam.channels != shape[0] == beam.layout.sizes[-1]:
        parameters = {"eps": argument(node, 4, "eps", 1e-5), **_affine(mapper, weight, bias)}
        return _per_head(mapper, node, source, beam, -1, parameters, True, [weight, bias])
    beam = _over_channels(mapper, source, shape)
    parameters = {"eps": argument(node, 4, "eps", 1e-5), **_affine(mapper, weight, bias)}
    return mapper.one(node, "layernorm", parameters, beam, source, owns=[weight, bias])


@rule("rms_norm")
def rms_norm(mapper: Mapper, node: Node) -> Value:
    source, shape = windowed(mapper, node, arguments(node)[0])[0], argument(node, 1, "normalized_shape")
    weight, eps = argument(node, 2, "weight"), argument(node, 3, "eps")
    eps = 1.1920929e-07 if eps is None else eps
    if len(shape) == 1 and mapper.beam(source).channels != shape[0] == mapper.beam(source).layout.sizes[-1]:
        parameters = {"eps": eps, **_affine(mapper, weight, None)}
        return _per_head(mapper, node, source, mapper.beam(source), -1, parameters, False, [weight])
    beam = _over_channels(mapper, source, shape)
    return mapper.one(node, "rmsnorm", {"eps": eps, **_affine(mapper, weight, None)}, beam, source, owns=[weight])


@rule("cluster norm")
def written_out(mapper: Mapper, node: Node) -> Value:
    cluster = mapper.clusters[node]
    info, source, beam = cluster.info, cluster.source, mapper.beam(cluster.source)
    axis, centred = info["axis"], bool(info["centred"])
    if len(beam.positions) == 1 and {(a.role, a.size) for a in beam.layout.axes[axis]} == {(0, beam.positions[0])}:
        source, beam = turned(mapper, node, source)
    if not beam.layout.roles(axis) <= {CHANNELS} or not beam.layout.roles(axis):
        raise Unmapped("a norm over something else than channels")
    owns = [one for one in (info["gain"], info["shift"]) if one is not None]
    affine = _affine(mapper, info["gain"], info["shift"])
    if info["length"]:
        affine["scale"] = affine.get("scale", 1.0) / sqrt(beam.layout.sizes[axis])
    if beam.layout.sizes[axis] != beam.channels:
        return _per_head(mapper, node, source, beam, axis, {"eps": info["eps"], **affine}, centred, owns)
    if "shift" in affine and not centred:
        raise Unmapped("a root-mean-square norm with a shift")
    kind = "layernorm" if centred else "rmsnorm"
    name = module_name(mapper, node)
    return mapper.one(node, kind, {"eps": info["eps"], **affine}, beam, source, name=name, owns=owns)


@rule("cluster response")
def global_response(mapper: Mapper, node: Node) -> Value:
    cluster = mapper.clusters[node]
    info, beam = cluster.info, mapper.beam(cluster.source)
    places = {atom.role for axis in info["axes"] for atom in beam.layout.axes[axis]}
    if places != set(range(len(beam.positions))) or not beam.layout.roles(info["channels"]) <= {CHANNELS}:
        raise Unmapped("lengths over something else than all positions")
    return mapper.one(node, "global_response_norm", {"eps": info["eps"]}, beam, cluster.source)


def _per_head(
    mapper: Mapper, node: Node, source: Node, beam: Beam, axis: int, parameters: dict[str, float], centred: bool,
    owns: list[Any],
) -> Value:  # fmt: skip
    """A norm over the channels of one head: the innermost part of the channels."""
    pieces = beam.layout.axes[axis]
    if len(pieces) != 1 or pieces[0].role != CHANNELS or pieces[0].stride != 1 or beam.channels % pieces[0].size:
        raise Unmapped("a norm over something else than the channels of a head")
    if "shift" in parameters:
        raise Unmapped("a norm of single heads with a shift")
    found: dict[str, Any] = {"heads": beam.channels // pieces[0].size, **parameters}
    found |= {"centred": True} if centred else {}
    name = module_name(mapper, node) if node in mapper.clusters else ""
    return mapper.one(node, "head_norm", found, beam, source, name=name, owns=owns)


@rule("batch_norm")
def batch_norm(mapper: Mapper, node: Node) -> Value:
    source, weight, bias, mean, variance, training = arguments(node)[:6]
    eps = argument(node, 7, "eps", 1e-5)
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    if not beam.layout.roles(1) <= {CHANNELS} or beam.layout.sizes[1] != beam.channels:
        raise Unmapped("a batch norm over something else than channels")
    parameters: dict[str, Any] = {"eps": eps, **_affine(mapper, weight, bias)}
    if not training and mapper.law(mean).kind in ("random", "structured"):
        # statistics that were gathered channel by channel do to their data what those of the batch do to the batch
        mapper.notes.append(
            "batch norms that have gathered statistics are predicted as if they were those of this batch"
        )
    elif not training:
        parameters["mode"] = "eval"
        centre, spread = mapper.constant(mean, 0.0), mapper.constant(variance, 1.0)
        parameters |= {"running_mean": centre} if centre else {}
        parameters |= {"running_var": spread} if spread != 1 else {}
    return mapper.one(node, "batchnorm", parameters, beam, source, owns=[weight, bias])


@rule("group_norm")
def group_norm(mapper: Mapper, node: Node) -> Value:
    source, groups = arguments(node)[0], int(argument(node, 1, "num_groups"))
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    if not beam.layout.roles(1) <= {CHANNELS} or beam.layout.sizes[1] != beam.channels:
        raise Unmapped("a group norm over something else than channels")
    parameters = {"groups": groups, "eps": argument(node, 4, "eps", 1e-5), **_affine(mapper, weight, bias)}
    return mapper.one(node, "groupnorm", parameters, beam, source, owns=[weight, bias])


@rule("instance_norm")
def instance_norm(mapper: Mapper, node: Node) -> Value:
    source, weight, bias = arguments(node)[:3]
    beam = mapper.beam(source)
    assert isinstance(source, Node)
    parameters = {"eps": argument(node, 7, "eps", 1e-5), **_affine(mapper, weight, bias)}
    return mapper.one(node, "instancenorm", parameters, beam, source, owns=[weight, bias])
