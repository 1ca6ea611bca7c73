"""Proofs: the kernel formula of a component with its two samples in one place, against the formula of the moments."""

from __future__ import annotations

import re

import sympy as sp
from sympy.core.function import AppliedUndef

from lensnet.algebra.worker import AlgebraFailed, AlgebraTimeout, run
from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.levels.ladder import Level

LIMIT = 4.0
"""Seconds for one simplification."""

# Functions of pairs of samples -> the function of one sample that they are when the two coincide.
_ON_ONE_SAMPLE = {
    "gather_same": "gather",
    "scatter_same": "scatter",
    "mean_same": "mean_positions",
    "everywhere_same": "everywhere",
}
_SAMPLE = re.compile(r"(.+)_[12]")
_ONE = ("same", "same_place", "same_place_out", "same_example")


def proof(name: str, direction: str) -> str | None:
    """What was proved, in words; None where the two formulas were not seen to be equal (which proves nothing)."""
    component = catalog()[name]
    pairs = _formulas(component, direction)
    if not pairs:
        return None
    words = [_proved(component, low, high) for low, high in pairs]
    known = [word for word in words if word is not None]
    return known[-1] if len(known) == len(words) else None


def _formulas(component: Component, direction: str) -> list[tuple[sp.Expr, sp.Expr]]:
    """(kernel, moments) expressions: one pair forward, one for every port backward."""
    if direction == "forward":
        low = component.effects(Level.KERNEL).get("kernel")
        high = component.effects(Level.MOMENTS).get("second_moment")
        return [(low.formula.expression, high.formula.expression)] if low and high else []
    models = component.port_effects(Level.KERNEL, "backward_kernel")
    out = []
    for port, low in models.items():
        high = component.backward_effect(Level.MOMENTS, port)
        if high is None:
            return []
        out.append((low.formula.expression, high.formula.expression))
    return out


def _proved(component: Component, low: sp.Expr, high: sp.Expr) -> str | None:
    below = coincide(low, component, high)
    if _equal(below, high):
        return "k -> q: the formulas are identical"
    wide = high.subs({symbol: 0 for symbol in high.free_symbols if symbol.name == "drawn"})
    if _equal(below, wide):
        return "k -> q and one draw's statistics: the formulas are identical"
    channels = next((symbol for symbol in wide.free_symbols if symbol.name == "channels"), None)
    if channels is None or any(symbol.name in ("fan_in", "fan_out", "w2") for symbol in wide.free_symbols):
        return None
    positive = sp.Symbol("channels", positive=True)
    try:
        difference = run("limit", (below - wide).subs(channels, positive), positive, sp.oo, limit=LIMIT)
        zero = run("simplify", difference, limit=LIMIT) == 0
    except (AlgebraTimeout, AlgebraFailed):
        return None
    return "k -> q and channels -> oo: the limit is zero" if zero else None


def coincide(expression: sp.Expr, component: Component, like: sp.Expr) -> sp.Expr:
    """A kernel formula where both samples are the same: k -> q, m_1 and m_2 -> m, pair operators -> field operators.

    Operators become those that the moments' formula (`like`) names.
    """
    operators = {part.func.__name__: part.func for part in like.atoms(AppliedUndef)}
    ports = component.ports_in if len(component.ports_in) > 1 else []
    symbols = {symbol: _one_sample(symbol, ports) for symbol in expression.free_symbols}
    out = expression.subs(symbols, simultaneous=True)
    return out.replace(
        lambda part: isinstance(part, AppliedUndef) and _ON_ONE_SAMPLE.get(part.func.__name__) in operators,
        lambda part: operators[_ON_ONE_SAMPLE[part.func.__name__]](*part.args),
    )


def _one_sample(symbol: sp.Symbol, ports: list[str]) -> sp.Expr:
    name = symbol.name
    if name in _ONE:
        return sp.Integer(1)
    if name == "k":
        return _symbol("q")
    if name.startswith("k_") and name[2:] in ports:
        return _symbol(f"q_{name[2:]}")
    if name.startswith("k_"):
        first, second = _two_ports(name[2:], ports)
        return (
            _symbol(f"k_{min(first, second, key=ports.index)}_{max(first, second, key=ports.index)}")
            if first
            else symbol
        )
    sample = _SAMPLE.fullmatch(name)
    return _symbol(sample.group(1)) if sample else symbol


def _two_ports(name: str, ports: list[str]) -> tuple[str, str]:
    return next(((a, b) for a in ports for b in ports if f"{a}_{b}" == name), ("", ""))


def _symbol(name: str) -> sp.Symbol:
    return sp.Symbol(name, real=True)


def _equal(a: sp.Expr, b: sp.Expr) -> bool:
    names = {symbol.name: symbol for symbol in b.free_symbols}
    a = a.subs({symbol: names[symbol.name] for symbol in a.free_symbols if symbol.name in names})
    if a == b:
        return True
    try:
        return bool(run("simplify", a - b, limit=LIMIT) == 0)
    except (AlgebraTimeout, AlgebraFailed):
        return False
