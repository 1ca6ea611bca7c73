"""Formulas for reading: as text in the syntax of spec files, and as LaTeX."""

from __future__ import annotations

import re
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

import lensnet.algebra.mixing  # noqa: F401  registers its functions, which have a notation of their own
from lensnet.algebra.tape import formula_latex

EXPECTATION = sp.Function("E", real=True)
"""An average over z ~ N(0, 1) that is not worked out: `E[tanh(sqrt(q)*z)**2]`."""

_NAMES = {"normal_cdf": "Phi", "normal_pdf": "phi", "owens_t": "T", "Heaviside": "step", "Abs": "abs"}
_LONGEST_FRACTION = 10**7
_DEEPEST = 9
_GREEK = {"mu", "sigma", "rho", "alpha", "beta", "gamma", "omega", "chi", "theta", "kappa", "tau", "eps", "lam"}


class _Text(StrPrinter):
    def _print_Function(self, expression: Any) -> str:
        name = expression.func.__name__
        arguments = ", ".join(self._print(argument) for argument in expression.args)
        return f"E[{arguments}]" if name == "E" else f"{_NAMES.get(name, name)}({arguments})"

    def _print_Heaviside(self, expression: Any) -> str:
        return f"step({self._print(expression.args[0])})"

    def _print_Abs(self, expression: Any) -> str:
        return f"abs({self._print(expression.args[0])})"

    def _print_LatticeOp(self, expression: Any) -> str:
        name = "max" if isinstance(expression, sp.Max) else "min"
        return f"{name}({', '.join(self._print(argument) for argument in sorted(expression.args, key=str))})"

    def _print_Rational(self, expression: Any) -> str:
        if max(abs(expression.p), expression.q) > _LONGEST_FRACTION:
            return f"{float(expression):.6g}"
        return str(super()._print_Rational(expression))

    def _print_Float(self, expression: Any) -> str:
        return f"{float(expression):.6g}"

    def _print_Piecewise(self, expression: Any) -> str:
        *cases, last = expression.args
        text = self._print(last.args[0])
        for value, condition in reversed([case.args for case in cases]):
            text = f"where({self._print(condition)}, {self._print(value)}, {text})"
        return str(text)


def text(expression: Any) -> str:
    """In the syntax of spec files, but for `E[...]` and Owen's T(h, a)."""
    return str(_Text().doprint(sp.sympify(expression, strict=True)))


def latex(expression: Any) -> str:
    """LaTeX with symbols of several letters upright and their parts as indices."""
    out = sp.sympify(expression, strict=True)
    long = {n for n in out.atoms(sp.Rational) if max(abs(n.p), n.q) > _LONGEST_FRACTION}
    out = out.xreplace({number: sp.Float(number, 6) for number in long})
    names = {symbol: sp.Symbol(symbol_latex(symbol.name), real=True) for symbol in out.free_symbols}
    averages = {call: sp.Symbol(_average(call.args[0])) for call in out.atoms(EXPECTATION)}
    return formula_latex(out.xreplace(averages).xreplace(names))


def symbol_latex(name: str) -> str:
    """`sigma_b` -> \\sigma_{b}, `fan_in` -> \\mathrm{fan}_{\\mathrm{in}}; single letters stay as they are."""
    if name.endswith("'"):
        return symbol_latex(name[:-1]) + "'"
    head, *parts = name.split("_")
    head = rf"\{head}" if head in _GREEK and head not in ("eps", "lam") else _upright(head)
    if not parts:
        return head if head.startswith("\\") or len(head) == 1 else head
    return f"{head}_{{{','.join(_upright(part) for part in parts)}}}"


def _upright(part: str) -> str:
    letters = re.fullmatch(r"([A-Za-z])(\d*)", part)
    if part.isdigit():
        return part
    if letters:
        return part if not letters.group(2) else f"{letters.group(1)}_{{{letters.group(2)}}}"
    return rf"\mathrm{{{part}}}"


def _average(inside: sp.Expr) -> str:
    return rf"\mathbb{{E}}_{{z}}\left[{latex(inside)}\right]"


def broken(formula: str, width: int) -> list[str]:
    """A formula on several lines of at most `width`: broken before + and -, then before * and /, outer ones first."""
    return _packed(formula, width, 0)


def _packed(formula: str, width: int, rank: int) -> list[str]:
    if len(formula) <= width:
        return [formula]
    if rank > _DEEPEST:
        return [formula[start : start + width] for start in range(0, len(formula), width)]
    lines: list[str] = []
    line = ""
    for part in _parts(formula, depth=rank // 2, products=bool(rank % 2)):
        if len(line) + len(part) <= width:
            line += part
            continue
        if line.strip():
            lines.append(line.rstrip())
        *before, line = _packed(part.lstrip(), width, rank + 1)
        lines += before
    return [*lines, line.rstrip()]


def _parts(formula: str, depth: int, products: bool) -> list[str]:
    """The formula cut at its operators inside `depth` brackets; every part begins with its operator."""
    level, places = 0, [0]
    for index, char in enumerate(formula):
        level += (char in "([") - (char in ")]")
        if level != depth or index == 0:
            continue
        before, after = formula[index - 1], formula[index + 1 : index + 2]
        if (
            products
            and char in "*/"
            and before != "*"
            and after != "*"
            or not products
            and char == " "
            and (after in ("+", "-") or before == ",")
        ):
            places.append(index)
    return [formula[start:end] for start, end in zip(places, [*places[1:], len(formula)], strict=True)]
