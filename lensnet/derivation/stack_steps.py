"""The steps of a stack as text: component after component forward, then backward, then both composed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import sympy as sp
from sympy.core.function import AppliedUndef

from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.algebra.tape import compile_tape
from lensnet.derivation.effects_of_function import Q
from lensnet.derivation.notation import latex, symbol_latex, text
from lensnet.derivation.result import Line, Part, Step, Table
from lensnet.derivation.stability import BlockMap
from lensnet.derivation.stack import Stack
from lensnet.derivation.stack_backward import BackwardStack, P

LONGEST = 8
"""Components of a stack whose formulas are put into each other."""
_LONGEST_FORMULA = 250


def length(stack: Stack) -> int:
    """Components, forks not counted."""
    return sum(not node.component.is_fork for node in stack.network)


def written(left: str, expression: sp.Expr, about: str = "") -> Line:
    """`left = expression`."""
    return Line(left, text(expression), f"{symbol_latex(left)} = {latex(expression)}", about)


def forward_step(stack: Stack, which: tuple[str, ...] = ("m", "q")) -> Step:
    """Every component's own map, each in the moments of what stands before it."""
    parts: list[Part] = []
    if len(stack.network) > 1:
        kinds = tuple((node.path, node.kind) for node in stack.network if not node.component.is_fork)
        parts.append(Table(kinds))
    entering = "q" if stack.m == 0 else "q and mean m"
    parts.append(
        f"What comes in has second moment {entering}. Behind each component, with m_ for means (0 where none is given) "
        "and q_ for second moments:"
    )
    parts += _definitions(stack.definitions, which)
    parts += [f"Taken for granted: {assumption}." for assumption in stack.assumptions]
    return Step("Forward, component by component", tuple(parts))


def backward_step(backward: BackwardStack) -> Step:
    """The gradient on its way back."""
    lead = (
        "The gradient of the output has second moment p; p_x is that in front of component x. Weights that are fresh "
        "and independent make cross terms vanish where branches join."
    )
    return Step("Backward, from the output to the input", (lead, *_definitions(backward.definitions, ("p",))))


def _definitions(definitions: Mapping[sp.Symbol, sp.Expr], which: tuple[str, ...]) -> list[Part]:
    return [written(symbol.name, value) for symbol, value in definitions.items() if symbol.name.split("_")[0] in which]


def agreement(stack: Stack, map_: BlockMap, expressions: Mapping[str, sp.Expr]) -> tuple[float, int] | None:
    """Largest relative difference of the composed formulas from the engine over a range of q, and how many q.

    None where a formula holds an average that is not worked out, or a quantity without a value.
    """
    q = np.array([0.03, 0.4, 1.0, 7.0])
    values = {**stack.symbols.values, P.name: 1.0, Q.name: q}
    truth = {
        "second_moment": lambda: map_(q),
        "backward_second_moment": lambda: np.array([map_.gradient(float(value)) for value in q]),
    }
    worst = []
    for name, engine in truth.items():
        expression = expressions.get(name)
        if expression is None:
            continue
        plain = {symbol.name for symbol in expression.free_symbols} <= set(values)
        if not plain or any(call.func.__name__ not in SPECIAL_FUNCTIONS for call in expression.atoms(AppliedUndef)):
            return None
        worst.append(float(np.max(np.abs(compile_tape(expression)(values) / engine() - 1))))
    return (max(worst), q.size) if worst and map_.modelled else None


def composed_step(
    stack: Stack, map_: BlockMap, results: Mapping[str, Line], expressions: Mapping[str, sp.Expr], wanted: int
) -> Step:
    """All put into each other, or why not; `wanted` results were asked for."""
    if length(stack) > LONGEST:
        return Step(
            "Composed",
            (
                f"This stack has {length(stack)} components. Put into each other, their formulas explode (four GELU "
                f"layers already take 9,000 operations), so that is shown for up to {LONGEST}: choose a part with --at "
                "or with --from and --to. The steps above say the same thing, one at a time.",
            ),
        )
    parts: list[Part] = ["Each put into the next:", *results.values()] if results else []
    checked = agreement(stack, map_, expressions)
    if checked is not None:
        parts.append(
            f"Checked: with the values of this network, at {checked[1]} values of q, the formulas and the engine "
            f"differ by at most {checked[0]:.0e} of the value."
        )
    if len(results) < wanted:
        parts.append("What is missing here is too long to be read in one piece; the steps above say the same.")
    return Step("Composed", tuple(parts))


def symbols_step(stack: Stack, shown: list[sp.Expr], defined: set[sp.Symbol]) -> Step:
    """Gains, scales and side quantities that the formulas use, with their values in this network."""
    names = {symbol.name for expression in shown for symbol in expression.free_symbols - defined}
    rows = []
    for name, about in stack.symbols.meanings.items():
        if name in names:
            value = stack.symbols.values.get(name)
            rows.append((name, "" if value is None else f"{value:.6g}", about))
    return Step("Symbols", (Table(tuple(rows)),))


def composed_results(stack: Stack, backward: BackwardStack | None, which: tuple[str, ...]) -> dict[str, sp.Expr]:
    """mean, second_moment, backward_second_moment of a stack short enough, in the symbols of its input."""
    if length(stack) > LONGEST:
        return {}
    out: dict[str, sp.Expr] = {}
    if "m" in which:
        out["mean"] = stack.composed(stack.output.mean)
    if "q" in which:
        out["second_moment"] = stack.composed(stack.output.second)
    if backward is not None:
        out["backward_second_moment"] = backward.composed()
    return {name: value for name, value in out.items() if value.count_ops() <= _LONGEST_FORMULA}
