"""Operators over positions and ports, as they act on a field that is the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from lensnet.network.geometry import Adaptive, Collapse, Flatten, Patches, Window, WindowTranspose
from lensnet.network.graph import Node

_AVERAGES = ("mean_positions", "mean_batch", "everywhere")
_OVER_PORTS = ("sum_ports", "sum_pairs")


def without_operators(node: Node, expression: sp.Expr, env: Mapping[str, Any]) -> sp.Expr:
    """gather and scatter as the number of taps, averages as what they average, sums over ports written out.

    True for uniform fields away from the edges. Operators that are more than that (the maximum of a window) stay.
    """
    forth, back = _taps(node)

    def replaced(call: AppliedUndef) -> sp.Expr:
        name, inside = call.func.__name__, call.args[0]
        if name in _OVER_PORTS:
            return sp.Add(*(_at_port(inside, env, index) for index in range(_count(name, env))))
        if name in _AVERAGES:
            return inside
        return (forth if name == "gather" else back) * inside

    known = (*_AVERAGES, *_OVER_PORTS, "gather", "scatter")
    for _ in range(10):  # they may stand in each other
        calls = [call for call in expression.atoms(AppliedUndef) if call.func.__name__ in known]
        if not calls:
            break
        expression = expression.xreplace({call: replaced(call) for call in calls})
    return expression


def _taps(node: Node) -> tuple[sp.Expr, sp.Expr]:
    """Terms that an output gathers, and outputs that an input feeds (on average over positions)."""
    match node.geometry:
        case Window(kernel=kernel, stride=stride):
            return sp.Integer(prod(kernel)), sp.Rational(prod(kernel), prod(stride))
        case WindowTranspose(kernel=kernel, stride=stride):
            return sp.Rational(prod(kernel), prod(stride)), sp.Integer(prod(kernel))
        case Patches(patch=patch):
            return sp.Integer(prod(patch)), sp.S.One
        case Collapse() | Flatten():
            return sp.Integer(node.shapes_in[0].position_count), sp.S.One
        case Adaptive():
            ratio = sp.Rational(node.shapes_in[0].position_count, node.shape.position_count)
            return ratio, sp.S.One
    return sp.S.One, sp.S.One


def _count(name: str, env: Mapping[str, Any]) -> int:
    return len(env["q"]) if name == "sum_ports" else len(env["k"])


def _at_port(expression: sp.Expr, env: Mapping[str, Any], index: int) -> sp.Expr:
    return expression.xreplace(
        {
            symbol: env[symbol.name][index]
            for symbol in expression.free_symbols
            if isinstance(env.get(symbol.name), list) and index < len(env[symbol.name])
        }
    )
