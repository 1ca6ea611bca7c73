"""A derivation as data: steps of prose, formulas and tables; it prints itself, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy as sp
    from rich.console import Console, ConsoleOptions, RenderResult

    from lensnet.derivation.stability import BlockPoint


@dataclass(frozen=True)
class Line:
    """One formula: `left = right` as text, the whole as LaTeX, and what it says."""

    left: str
    right: str
    latex: str
    about: str = ""

    @property
    def text(self) -> str:
        return f"{self.left} = {self.right}" if self.left else self.right


@dataclass(frozen=True)
class Table:
    """Rows of cells; an empty header is not shown."""

    rows: tuple[tuple[str, ...], ...]
    header: tuple[str, ...] = ()


Part = str | Line | Table


@dataclass(frozen=True)
class Step:
    """One step of a derivation, in reading order."""

    title: str
    parts: tuple[Part, ...]

    @property
    def lines(self) -> list[Line]:
        return [part for part in self.parts if isinstance(part, Line)]


@dataclass(frozen=True)
class Derivation:
    """What was derived for a component, a stack or a repeated block.

    results: quantity -> its formula. expressions: the same as sympy expressions, for further work. numbers: named
    values (gains, slopes, ...). fixed_points: of a repeated block, ascending in q.
    """

    name: str
    title: str
    kind: str
    steps: tuple[Step, ...]
    results: Mapping[str, Line] = field(default_factory=dict)
    expressions: Mapping[str, sp.Expr] = field(default_factory=dict, repr=False)
    numbers: Mapping[str, float] = field(default_factory=dict)
    fixed_points: tuple[BlockPoint, ...] = ()

    @property
    def formula(self) -> str:
        """The derived formulas, one per line."""
        return "\n".join(line.text for line in self.results.values())

    @property
    def latex(self) -> str:
        """The derived formulas in LaTeX, several as aligned lines."""
        lines = [line.latex for line in self.results.values()]
        if len(lines) < 2:
            return "".join(lines)
        aligned = " \\\\\n".join(line.replace(" = ", " &= ", 1) for line in lines)
        return f"\\begin{{aligned}}\n{aligned}\n\\end{{aligned}}"

    def to_latex(self) -> str:
        """Every formula of every step, each step under a comment."""
        blocks = []
        for number, step in enumerate(self.steps, 1):
            if step.lines:
                formulas = [f"\\[ {line.latex} \\]" for line in step.lines]
                blocks.append("\n".join([f"% {number}. {step.title}", *formulas]))
        return "\n\n".join(blocks) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for `json`; numbers that are not finite become text."""
        from lensnet.derivation.saved import as_data

        return as_data(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from lensnet.derivation.page import page

        yield from page(self, options.max_width)

    def __str__(self) -> str:
        from lensnet.derivation.page import plain

        return plain(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex}$"
