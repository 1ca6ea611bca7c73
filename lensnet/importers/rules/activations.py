"""Functions of one number: those of the catalogue, and formulas of the network's own."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.fx import Node

from lensnet.importers.draft import Unmapped, Value
from lensnet.importers.layout import CHANNELS
from lensnet.importers.operations import argument, arguments, name_of, table
from lensnet.importers.rulebook import RULES, rule

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper


def pointwise(mapper: Mapper, node: Node) -> Value:
    entry = table()["pointwise"][name_of(node)]
    source = arguments(node)[0]
    assert isinstance(source, Node)
    if name_of(node) == "gelu" and node.kwargs.get("approximate", "none") != "none":
        entry = "gelu_tanh"
    if isinstance(entry, str):
        return mapper.one(node, entry, {}, mapper.beam(source), source)
    return defined(mapper, node, source, name_of(node), entry["function"])


for _name in table()["pointwise"]:
    RULES[_name] = pointwise


def defined(mapper: Mapper, node: Node, source: Node, name: str, function: str, path: str = "") -> Value:
    """A component of this network alone: `name`, or `name_2`, ... where another formula has that name."""
    chosen, count = name, 1
    while chosen in mapper.define and mapper.define[chosen]["function"] != function or _catalogued(chosen):
        count += 1
        chosen = f"{name}_{count}"
    mapper.define[chosen] = {"function": function}
    return mapper.one(node, chosen, {}, mapper.beam(source), source, name=path)


def _catalogued(name: str) -> bool:
    from lensnet.catalog.catalog import catalog

    return name in catalog()


@cache
def known_function(text: str) -> str | None:
    """The activation of the catalogue (at its defaults) that a formula equals, on a grid."""
    from lensnet.catalog.catalog import catalog
    from lensnet.catalog.effects import CompiledFormula
    from lensnet.language.formula import FormulaError

    x = np.linspace(-6, 6, 97)
    try:
        with np.errstate(all="ignore"):
            wanted = np.asarray(CompiledFormula(text, frozenset({"x"})).evaluate({"x": x}, {}), float)
    except (FormulaError, ValueError):
        raise Unmapped(f"no component can hold the formula {text[:80]}") from None
    for name in ("gelu_tanh", "gelu", "silu", "square", "mish", "hardswish"):
        known = catalog()[name].function
        assert known is not None
        defaults = {key: float(each.default) for key, each in catalog()[name].parameters.items() if each.default}
        with np.errstate(all="ignore"):
            names = frozenset({"x", *defaults})
            here = np.asarray(CompiledFormula(known, names).evaluate({"x": x, **defaults}, {}), float)
        if np.allclose(here, wanted, rtol=1e-5, atol=1e-6):
            return name
    return None


@rule("cluster function")
def written_out(mapper: Mapper, node: Node) -> Value:
    cluster = mapper.clusters[node]
    text = cluster.info["function"]
    name = known_function(text)
    where = module_name(mapper, node)
    if name is not None:
        return mapper.one(node, name, {}, mapper.beam(cluster.source), cluster.source, name=where)
    return defined(mapper, node, cluster.source, "activation", text, where)


def module_name(mapper: Mapper, node: Node) -> str:
    """The module's own name where the group is all that it does."""
    from lensnet.importers.draft import module_of

    path, _, call = module_of(node)
    members = mapper.clusters[node].members
    inside = [one for one in members if module_of(one)[::2] == (path, call)]
    everything = mapper.alone.get((path, call), 0)
    if path and len(inside) >= everything:
        return path + (f"@{call}" if call else "")
    return ""


@rule("leaky_relu")
def leaky_relu(mapper: Mapper, node: Node) -> Value:
    return _with(mapper, node, "leaky_relu", {"slope": argument(node, 1, "negative_slope", 0.01)})


@rule("elu")
def elu(mapper: Mapper, node: Node) -> Value:
    return _with(mapper, node, "elu", {"alpha": argument(node, 1, "alpha", 1.0)})


@rule("celu")
def celu(mapper: Mapper, node: Node) -> Value:
    alpha = float(argument(node, 1, "alpha", 1.0))
    text = f"where(x > 0, x, {alpha}*(exp(min(x, 0)/{alpha}) - 1))"
    return defined(mapper, node, arguments(node)[0], "celu", text)


@rule("softplus")
def softplus(mapper: Mapper, node: Node) -> Value:
    return _with(mapper, node, "softplus", {"beta": argument(node, 1, "beta", 1.0)})


@rule("hardtanh")
def hardtanh(mapper: Mapper, node: Node) -> Value:
    low, high = argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
    return _with(mapper, node, "hardtanh", {"low": low, "high": high})


@rule("clamp", "clip", "clamp_min", "clamp_max")
def clamp(mapper: Mapper, node: Node) -> Value:
    name = name_of(node)
    low = argument(node, 1, "min") if name != "clamp_max" else None
    high = (
        argument(node, 2, "max")
        if name in ("clamp", "clip")
        else argument(node, 1, "max")
        if name == "clamp_max"
        else None
    )
    low, high = (None if bound is None else mapper.number(bound) for bound in (low, high))
    low, high = (None if bound is not None and abs(bound) == float("inf") else bound for bound in (low, high))
    text = "x"
    if low is None and high is None:
        return mapper.beam(arguments(node)[0])
    text = text if low is None else f"max({text}, {low!r})"
    text = text if high is None else f"min({text}, {high!r})"
    return defined(mapper, node, arguments(node)[0], "clamp", text)


@rule("threshold")
def threshold(mapper: Mapper, node: Node) -> Value:
    edge, value = (float(one) for one in arguments(node)[1:3])
    return defined(mapper, node, arguments(node)[0], "threshold", f"where(x > {edge!r}, x, {value!r})")


@rule("softshrink", "hardshrink")
def shrink(mapper: Mapper, node: Node) -> Value:
    edge, name = float(argument(node, 1, "lambd", 0.5)), name_of(node)
    shown = f"x - {edge!r}*sign(x)" if name == "softshrink" else "x"
    return defined(mapper, node, arguments(node)[0], name, f"where(abs(x) > {edge!r}, {shown}, 0)")


@rule("rrelu")
def random_leaky(mapper: Mapper, node: Node) -> Value:
    if argument(node, 3, "training", False):
        raise Unmapped("slopes that are drawn for every number")
    slope = (float(argument(node, 1, "lower", 0.125)) + float(argument(node, 2, "upper", 1 / 3))) / 2
    return _with(mapper, node, "leaky_relu", {"slope": slope})


@rule("pow")
def power(mapper: Mapper, node: Node) -> Value:
    exponent = mapper.number(arguments(node)[1])
    if exponent is None:
        raise Unmapped("a power with a varying exponent")
    if exponent == 2:
        return _with(mapper, node, "square", {})
    text = f"x**{int(exponent) if exponent == int(exponent) else exponent!r}"
    return defined(mapper, node, arguments(node)[0], "power", text)


@rule("neg")
def neg(mapper: Mapper, node: Node) -> Value:
    return _with(mapper, node, "scale", {"factor": -1})


@rule("prelu", "_prelu_kernel")
def prelu(mapper: Mapper, node: Node) -> Value:
    return _with(mapper, node, "prelu", {"slope": mapper.constant(arguments(node)[1], 0.25)})


@rule("softmax", "_softmax", "log_softmax", "_log_softmax")
def softmax(mapper: Mapper, node: Node) -> Value:
    beam = mapper.beam(arguments(node)[0])
    axis = int(argument(node, 1, "dim", -1)) % len(beam.layout.axes)
    if not beam.layout.axes[axis]:
        return defined(mapper, node, arguments(node)[0], "alone", "0*x" if "log" in name_of(node) else "0*x + 1")
    places = [atom for atom in beam.layout.axes[axis] if isinstance(atom.role, int)]
    if places and len(places) == len(beam.layout.axes[axis]) and not name_of(node).endswith("log_softmax"):
        sizes = [beam.positions[int(atom.role)] for atom in places]
        if [atom.size for atom in places] == sizes:
            along = "all" if len(places) == len(beam.positions) else ("rows", "columns", "slices")[int(places[0].role)]
            if along == "all" or len(places) == 1:
                return _with(mapper, node, "position_softmax", {"along": along, "places": prod(sizes)})
    groups = beam.channels // beam.layout.sizes[axis]
    if beam.layout.roles(axis) != {CHANNELS} or (groups > 1 and "log" in name_of(node)):
        raise Unmapped("a softmax over something else than channels")
    return _with(mapper, node, name_of(node).removeprefix("_"), {"groups": groups} if groups > 1 else {})


@rule("dropout", "feature_dropout", "alpha_dropout")
def dropout(mapper: Mapper, node: Node) -> Value:
    beam = mapper.beam(arguments(node)[0])
    rate, training = float(argument(node, 1, "p", 0.5)), bool(argument(node, 2, "train", False))
    if not training or rate == 0:
        return beam
    if name_of(node) != "dropout":
        raise Unmapped("dropout of whole channels")
    return _with(mapper, node, "dropout", {"rate": rate})


def _with(mapper: Mapper, node: Node, component: str, parameters: dict[str, Any]) -> Value:
    source = arguments(node)[0]
    assert isinstance(source, Node)
    return mapper.one(node, component, parameters, mapper.beam(source), source)


@rule("real")
def real(mapper: Mapper, node: Node) -> Value:
    """The real part of a Fourier transform over the tokens and the channels."""
    source, axes = arguments(node)[0], set[int]()
    while (
        isinstance(source, Node)
        and source.op != "placeholder"
        and name_of(source) in ("fft_fftn", "fft_fft2", "fft_fft")
    ):
        rank = source.meta["val"].dim()
        given = argument(source, 2, "dim", [-2, -1] if name_of(source) == "fft_fft2" else -1)
        if argument(source, 1, "n" if name_of(source) == "fft_fft" else "s") is not None or argument(source, 3, "norm"):
            raise Unmapped("a Fourier transform that is cut or scaled")
        axes |= {axis % rank for axis in ([given] if isinstance(given, int) else given)}
        source = arguments(source)[0]
    beam = mapper.beam(source)
    places = {*beam.layout.axes_of(CHANNELS), *beam.layout.axes_of(0)}
    if not axes or axes != places or len(beam.positions) != 1 or len(axes) != 2 or beam.layout.copies > 1:
        raise Unmapped("the real part of something else than a Fourier transform over tokens and channels")
    assert isinstance(source, Node)
    return mapper.one(node, "fourier", {}, beam, source)
