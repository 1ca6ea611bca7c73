"""How the ladder is shown: a line for each of many components, all details of one, and the documentation's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lensnet.levels.ladder import Level

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lensnet.ladder.check import LadderReport, Rung
    from lensnet.ladder.rates import Rate
    from lensnet.ladder.steps import Step

MARKS = {
    "proven": ("∎", "bold green"),
    "verified": ("≈", "green"),
    "not modelled": ("·", "dim"),
    "fails": ("✗", "bold red"),
}
LEGEND = "∎ proven: formulas equal symbolically; ≈ verified: equal numerically; · not modelled below; ✗ fails"

_COLUMNS = (
    ("kernel → moments", Level.KERNEL),
    ("spectrum → kernel", Level.SPECTRUM),
    ("fluctuation → spectrum", Level.FLUCTUATION),
)


def render(report: LadderReport, width: int) -> Iterator[RenderableType]:
    """One component in full, or a table of many."""
    if len(report.rungs) == 1:
        yield from _in_full(report.rungs[0], report.draws)
    else:
        yield _table(report.rungs)
        yield Text(LEGEND, style="dim")
        yield Text(
            "rate: exponent of the relative variance of q over weight draws against the width (required: -1); "
            "error left: of the formula at infinite width.",
            style="dim",
        )
        for rung in report.rungs:
            if rung.keeps_scatter:
                yield Text(f"* {rung.component} keeps its scatter: {rung.keeps_scatter}", style="dim")
        for rung in report.rungs:
            if not rung.holds:
                yield Text("")
                yield from _in_full(rung, report.draws)
    yield Text("")
    yield _conclusion(report)


def _table(rungs: Sequence[Rung]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("component", no_wrap=True)
    for title, _ in _COLUMNS:
        table.add_column(title.replace(" → ", "\n→ "), no_wrap=True)
    for title in ("rate of q", "rate of p", "error left"):
        table.add_column(title, justify="right", no_wrap=True)
    for rung in rungs:
        cells = [_marks([step for step in rung.steps if step.below == level]) for _, level in _COLUMNS]
        forward = [rate for rate in rung.rates if rate.quantity == "second moment"]
        backward = [rate for rate in rung.rates if rate.quantity != "second moment"]
        name = rung.component + ("*" if rung.keeps_scatter else "")
        table.add_row(name, *cells, _exponent(forward), _exponent(backward), _left(rung.rates))
    return table


def _marks(steps: Sequence[Step]) -> Text:
    return Text.assemble(*(MARKS[step.how] for step in steps)) if steps else Text("")


def _exponent(rates: Sequence[Rate]) -> Text:
    if not rates:
        return Text("")
    worst = max(rates, key=lambda rate: (not rate.averages_itself, -9.0 if rate.slope is None else rate.slope))
    shown = "none" if worst.slope is None else f"{worst.slope:+.2f}±{worst.interval:.2f}"
    return Text(shown, style="" if worst.averages_itself else "bold red")


def _left(rates: Sequence[Rate]) -> Text:
    known = [rate for rate in rates if rate.limit_error != float("inf")]
    if not known:
        return Text("")
    worst = max(known, key=lambda rate: abs(rate.limit) / max(rate.limit_error, 1e-12))
    shown = f"{100 * worst.limit:+.2f}±{100 * worst.limit_error:.2f} %"
    return Text(shown, style="" if all(rate.within_declared for rate in known) else "bold red")


def _in_full(rung: Rung, draws: int) -> Iterator[RenderableType]:
    yield Text.assemble((rung.component, "bold"), (f"  {rung.family}", "dim"))
    if rung.note:
        yield Text(f"  {rung.note}", style="yellow")
    if rung.keeps_scatter:
        yield Padding(Text(f"its scatter does not fall with the width: {rung.keeps_scatter}"), (0, 0, 0, 2))
    for step in rung.steps:
        mark, style = MARKS[step.how]
        yield Text.assemble((f"  {mark} ", style), f"{step.below} → {step.above}  ", (step.quantity, "bold"))
        required = f"{step.derivation.rate} {'declared' if step.derivation.declared else 'required'}"
        told = step.how if step.how == "not modelled" else f"when {step.limit} ({required}): {step.how}"
        yield Padding(Text(f"{told}; {step.detail}", style="dim"), (0, 0, 0, 6))
    if rung.rates:
        yield Text(f"  rates, measured over {draws} weight draws at {_widths(rung.rates[0])}", style="dim")
    for rate in rung.rates:
        mark, style = ("✓", "green") if rate.holds else ("✗", "bold red")
        line = f"variance ~ {rate.told()}" if rate.slope is not None else rate.told()
        if rate.limit_error != float("inf"):
            line += f"; error left at infinite width {100 * rate.limit:+.2f} ± {100 * rate.limit_error:.2f} %"
        yield Text.assemble((f"  {mark} ", style), (f"{rate.quantity}: ", "bold"), line)


def _widths(rate: Rate) -> str:
    counts = ", ".join(map(str, rate.widths))
    return f"widths {counts}" if rate.grows == "channels" else f"{counts} {rate.grows}"


def _conclusion(report: LadderReport) -> Text:
    steps = [step for rung in report.rungs for step in rung.steps]
    counts = [f"{sum(step.how == how for step in steps)} {how}" for how in MARKS]
    declared = [step for rung in report.rungs if rung.holds for step in rung.steps if step.how == "fails"]
    if declared:
        counts[-1] += f" ({len(declared)} as its component says)"
    rates = [rate for rung in report.rungs for rate in rung.rates]
    line = f"{len(report.rungs)} components; steps: {', '.join(counts)}"
    if rates:
        line += f"; rates: {sum(rate.holds for rate in rates)} of {len(rates)} hold"
    if report.interrupted:
        line += "; interrupted, what was finished is shown"
    return Text(
        line, style="bold green" if report.exit_status == 0 else "bold red" if report.exit_status == 1 else "yellow"
    )


def markdown(report: LadderReport) -> str:
    """The table for the documentation."""
    titles = ["component", *(title for title, _ in _COLUMNS), "rate of q", "rate of p", "error left"]
    lines = ["| " + " | ".join(titles) + " |", "| --- | --- | --- | --- | ---: | ---: | ---: |"]
    for rung in report.rungs:
        if rung.note:
            continue  # made of others, or of an algorithm
        cells = [_words([step for step in rung.steps if step.below == level]) for _, level in _COLUMNS]
        forward = [rate for rate in rung.rates if rate.quantity == "second moment"]
        backward = [rate for rate in rung.rates if rate.quantity != "second moment"]
        numbers = [_exponent(forward).plain, _exponent(backward).plain, _left(rung.rates).plain]
        lines.append("| " + " | ".join([f"`{rung.component}`", *cells, *numbers]) + " |")
    kept = [
        f"\n`{rung.component}` keeps its scatter: {rung.keeps_scatter}." for rung in report.rungs if rung.keeps_scatter
    ]
    return "\n".join([*lines, *kept]) + "\n"


def _words(steps: Sequence[Step]) -> str:
    return ", ".join(dict.fromkeys(f"{step.quantity}: {step.how}" for step in steps)) or "not modelled"
