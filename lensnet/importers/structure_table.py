"""The table of what was learned: every weight matrix beside a random one of the same entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from lensnet.importers.structure import Response, Structure
from lensnet.report.numbers import short

_MOST = 16


def learned_lines(found: Sequence[Structure]) -> Iterator[Any]:
    """A headline, the matrices that are no random ones, and the names of the others."""
    learned = [one for one in found if one.learned]
    if not found:
        return
    yield Text("")
    if learned:
        head = f"{len(learned)} of {len(found)} weight matrices {'is' if len(learned) == 1 else 'are'} not random"
    else:
        head = f"none: the {len(found)} weight matrices cannot be told from random ones"
    yield Text.assemble(("structure ", "bold"), head)
    if learned:
        yield _table(learned[:_MOST])
        if len(learned) > _MOST:
            yield Text(f"  and {len(learned) - _MOST} more", style="dim")
        yield Text(
            "above the edge: singular values that no random matrix has (the largest over the edge), and their share of "
            "the power; ranks | of the same entries shuffled; M.-P.: distance of the spectrum from Marchenko-Pastur's "
            "law | largest by chance; q, p: power made of this signal and gradient over that of random weights",
            style="dim",
        )
    rest = [one.parameter for one in found if not one.learned]
    if rest and learned:
        yield Text(f"  cannot be told from random: {', '.join(rest[:12])}{', ...' * (len(rest) > 12)}")


def _table(learned: Sequence[Structure]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    table.add_column("  weights", overflow="fold")
    names = ["above the edge", "power", "stable rank", "eff. rank", "M.-P."]
    if any(one.forward is not None for one in learned):
        names += ["q", "p"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for one in learned:
        table.add_row(*_cells(one)[: len(names) + 1])
    return table


def _cells(one: Structure) -> list[str]:
    above = f"{one.outliers} of {one.count}" + (f" x{one.edge:.2g}" if one.outliers else "")
    return [
        f"  {one.parameter}",
        above,
        f"{one.share:.0%}" if one.outliers else "",
        f"{short(one.stable_rank)} | {short(one.random_stable_rank)}",
        f"{one.effective_rank:.0f} | {one.random_effective_rank:.0f}",
        f"{one.distance:.2f} | {one.chance:.2f}",
        *(_response(way) for way in (one.forward, one.backward)),
    ]


def _response(one: Response | None) -> str:
    if one is None or one.verdict == "agrees":
        return "" if one is None else "~ 1"
    return f"x{one.ratio:.2g}" + ("" if one.learned else " ?")
