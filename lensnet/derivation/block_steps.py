"""A repeated block as text: when it keeps the second moment, where its fixed points lie, where the edge of chaos is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sympy as sp

from lensnet.algebra.fixed_points import solve_for
from lensnet.algebra.worker import AlgebraFailed, AlgebraTimeout, run
from lensnet.derivation.effects_of_function import Q
from lensnet.derivation.normal_form import tidy
from lensnet.derivation.notation import EXPECTATION, latex, text
from lensnet.derivation.result import Line, Part, Step, Table
from lensnet.derivation.section import Block
from lensnet.derivation.stability import BlockMap, BlockPoint, Edge, phase
from lensnet.derivation.stack import Stack
from lensnet.derivation.stack_steps import written
from lensnet.network.graph import Node

_LONGEST_SOLUTION = 90
_LONGEST_FACTOR = 24
_NOTHING = 1e-9
_FACTOR = sp.Symbol("A", positive=True)


def preserved_step(stack: Stack, composed: sp.Expr, block: Block | None) -> tuple[Step, dict[str, sp.Expr]]:
    """The condition q' = q, solved for a gain (or for the branch scale) where sympy can; else the growth per block."""
    parts: list[Part] = ["The block keeps the second moment when what leaves it is what entered:"]
    parts.append(Line(text(composed), "q", f"{latex(composed)} = q"))
    growth = sp.cancel(composed / Q) if not composed.has(EXPECTATION) else composed / Q
    homogeneous = Q not in growth.free_symbols
    solutions: dict[str, sp.Expr] = {}
    for gain in _gains(stack, composed):
        found = _solved(composed, gain)
        if found is not None:
            solutions[gain.name], factor = found
            parts.append(f"sympy solves this for {gain.name}:")
            where = "" if Q in found[0].free_symbols else "whatever q is: the block is positively homogeneous"
            parts.append(written(gain.name, found[0], where))
            if factor is not None:
                parts.append(written(_FACTOR.name, factor, f"the factor of {gain.name}**2 in q'"))
                solutions[gain.name] = found[0].subs(_FACTOR, factor)
            break
    if not solutions and homogeneous:
        parts.append("No positive value of a gain or scale does that: every block adds to what it gets.")
    elif not solutions:
        parts.append(
            "There is no solution in closed form, since the gains stand inside an average. Which q is kept at the "
            "gains of this network follows numerically, below."
        )
    if homogeneous:
        parts += _growth(stack, sp.expand(growth), block)
    return Step("When q is preserved", tuple(parts)), solutions


def _gains(stack: Stack, composed: sp.Expr) -> list[sp.Symbol]:
    """Symbols that a designer turns, the last ones in the signal's way first."""
    tunable = [s for s in composed.free_symbols if s.name in stack.symbols.values and not s.name.startswith(_FIXED)]
    order = list(stack.symbols.values)
    return sorted(tunable, key=lambda symbol: (not symbol.name.startswith("g"), -order.index(symbol.name)))


_FIXED = ("sigma_b", "b_0", "eps")


def _solved(composed: sp.Expr, gain: sp.Symbol) -> tuple[sp.Expr, sp.Expr | None] | None:
    """The positive gain with q' = q; where q' = A*gain**2 + B with a long A, in A, which comes second."""
    factor = None
    groups = sp.collect(sp.expand(composed), gain, evaluate=False)
    if set(groups) <= {gain**2, sp.S.One} and gain**2 in groups:
        if groups[gain**2].has(EXPECTATION) or len(text(groups[gain**2])) > _LONGEST_FACTOR:
            factor = sp.factor_terms(groups[gain**2])
            composed = _FACTOR * gain**2 + groups.get(sp.S.One, sp.S.Zero)
    if composed.has(EXPECTATION):
        return None
    try:
        solutions = solve_for(sp.Eq(composed, Q), gain)
    except (AlgebraTimeout, AlgebraFailed):
        return None
    for solution in solutions:
        value = solution.subs({symbol: sp.Rational(7, 10) for symbol in solution.free_symbols}).evalf()
        if value.is_real and value > 0 and len(text(solution)) <= _LONGEST_SOLUTION:
            return solution, factor
    return None


def _growth(stack: Stack, growth: sp.Expr, block: Block | None) -> list[Part]:
    """The factor per block, after all of them, and what a branch scale of 1/sqrt(depth) makes of it."""
    value = float(growth.subs({s: stack.symbols.values[s.name] for s in growth.free_symbols}))
    if abs(value - 1) < 1e-9:
        return ["With the values of this network the factor is 1: a signal of any size stays."]
    parts: list[Part] = ["Per block every q is multiplied by the same factor:", written("growth", growth)]
    if block is None or len(block.paths) < 2:
        return [*parts, f"Here {value:.6g}."]
    depth = len(block.paths)
    parts.append(f"Here {value:.6g}, after all {depth} blocks {value**depth:.6g}.")
    scale = next((s for s in growth.free_symbols if s.name == "b"), None)
    if scale is None:
        return parts
    rest, gain = growth.coeff(scale, 0), growth.coeff(scale, 2)
    if rest != 1 or sp.expand(growth - rest - gain * scale**2) != 0:
        return parts
    limit = _limit()
    kappa = float(gain.subs({s: stack.symbols.values[s.name] for s in gain.free_symbols}))
    parts.append(
        "The skip alone makes 1, the branch adds kappa*b**2 to it, here with "
        f"b = {stack.symbols.values[scale.name]:.6g}. With b = 1/sqrt(depth) the whole stack multiplies q by"
    )
    parts.append(written("kappa", gain, f"{kappa:.6g} here"))
    if limit is not None:
        parts.append(
            Line("(1 + kappa/depth)**depth", f"{text(limit)} for depth -> oo",
                 rf"\lim_{{L \to \infty}} \left(1 + \frac{{\kappa}}{{L}}\right)^L = {latex(limit)}",
                 f"by sympy's limit: never more than {float(sp.exp(kappa)):.4g} here, however deep")
        )  # fmt: skip
    parts.append(f"With b = 1 it would be (1 + kappa)**{depth} = {(1 + kappa) ** depth:.6g}.")
    return parts


def _limit() -> sp.Expr | None:
    kappa, depth = sp.Symbol("kappa", positive=True), sp.Symbol("depth", positive=True)
    try:
        limit: sp.Expr = run("limit", (1 + kappa / depth) ** depth, depth, sp.oo)
    except (AlgebraTimeout, AlgebraFailed):
        return None
    return tidy(limit)


def points_step(map_: BlockMap, points: Sequence[BlockPoint]) -> Step:
    """All fixed points with stability and phase, found with the engine's own maps."""
    parts: list[Part] = []
    if map_.growth is not None:
        gradient = map_.gradient(1.0)
        kept = abs(map_.growth - 1) < _NOTHING
        told = "every q is a fixed point" if kept else f"q = 0 is the only fixed point, {points[0].stability}"
        parts.append(
            f"The engine's own map is q -> {map_.growth:.6g}*q (probed from q = 1e-6 to 1e4): {told}. The gradient's "
            f"second moment is multiplied by {gradient:.6g} per block: {phase(gradient)}."
        )
        return Step("Fixed points", tuple(parts))
    parts.append(
        f"The engine's own map q -> q', searched from {map_.found.low:g} to {map_.found.high:g}. slope: what an error "
        "in q is multiplied by per block; chi: what the gradient's second moment is multiplied by per block, on its "
        "way back."
    )
    if points:
        rows = tuple(
            (f"{point.q:.6g}", f"{point.slope:.4f}", point.stability, f"{point.gradient:.6f}", point.phase)
            for point in points
        )
        parts.append(Table(rows, ("q*", "slope", "", "chi", "phase")))
    else:
        parts.append("There is none in this range: the second moment always grows, or always shrinks:")
        probes = (0.1, 1.0, 10.0, 100.0)
        after = [f"{float(q):.6g}" for q in map_(np.array(probes))]
        parts.append(Table(tuple((f"{q:g}", left) for q, left in zip(probes, after, strict=True)), ("q", "q'")))
    for point in points:
        if point.q > 0:
            parts.append(f"Inside the block at q* = {point.q:.6g}: {_inside(map_, point.q)}.")
    parts += _told(points)
    parts += [f"Not known here, and therefore out of regime: {doubt}." for doubt in map_.doubts]
    return Step("Fixed points", tuple(parts))


def _inside(map_: BlockMap, q: float) -> str:
    signals = map_.second_moments(q)
    nodes: list[Node] = [node for node in map_.part if not node.component.is_fork]
    return ", ".join(f"{node.path.split('.')[-1]} {signals[node.path]:.6g}" for node in nodes)


def _told(points: Sequence[BlockPoint]) -> list[Part]:
    stable = [point for point in points if point.stability == "stable"]
    parts: list[Part] = []
    if len(stable) > 1 or (stable and any(point.stability == "unstable" for point in points if point.q > 0)):
        parts.append(
            "A stable and an unstable point side by side: where a signal ends depends on where it starts, and at "
            "finite width chance decides near the unstable one."
        )
    phases = {point.phase for point in stable}
    if "ordered" in phases:
        parts.append("Ordered: gradients die out with depth, and different inputs become the same output.")
    if "chaotic" in phases:
        parts.append("Chaotic: gradients grow with depth, and nearly equal inputs are driven apart.")
    if "critical" in phases:
        parts.append("Critical: the gradient keeps its size at any depth, on average over weight draws.")
    return parts


def edge_step(stack: Stack, map_: BlockMap, points: Sequence[BlockPoint]) -> tuple[Step, dict[str, float]] | None:
    """Where the gradient factor is 1 when all gains are turned together; None where nothing is to be turned."""
    gains = {name: value for name, value in stack.symbols.values.items() if name == "g" or name.startswith("g_")}
    if not gains:
        return None
    zero = next((point for point in points if point.q == 0 and point.gradient > 0), None)
    edge = map_.edge_of_chaos([*sorted(points, key=lambda p: p.stability != "stable")])
    if edge is None and zero is not None and len(gains) == 1:
        edge = Edge(zero.gradient**-0.5, 0.0)
    if edge is None:
        return None
    numbers = {"edge of chaos q": edge.q}
    parts: list[Part] = [
        "Turn all gains by one factor and keep the biases: at the edge of chaos chi = 1 at the fixed point."
    ]
    for name, value in gains.items():
        gain = value * edge.factor
        numbers |= {f"edge of chaos {name}": gain, f"edge of chaos {name}**2": gain**2}
        parts.append(Line(name, f"{gain:.6f}", rf"{name} = {gain:.6f}", f"{name}**2 = {gain**2:.6f}"))
    if edge.q > 0:
        turned = map_.scaled(edge.factor)
        slope = turned.slope(edge.q)
        numbers["edge of chaos slope"] = slope
        parts.append(Line("q*", f"{edge.q:.6f}", f"q^* = {edge.q:.6f}", f"inside the block: {_inside(turned, edge.q)}"))
        kept = "so signals stay there" if abs(slope) < 1 else "so no signal stays there by itself"
        parts.append(f"The slope of the second moment's map there is {slope:.4f}, {kept}.")
    else:
        parts.append("There the fixed point is q = 0: the signal dies slowly, like a power of depth.")
    return Step("The edge of chaos", tuple(parts)), numbers
