"""Everything about one component, as its file says it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lensnet.catalog.component import Component
from lensnet.language.effect_spec import Effect
from lensnet.language.objective_spec import ObjectiveSpec
from lensnet.network.initialisation import INIT_ABOUT, init_parameter_names
from lensnet.report.palette import OPTICS
from lensnet.report.words import said


def component_page(component: Component, width: int) -> Group:
    """Ports, parameters, effects as formulas, assumptions, side quantities, optics, sources."""
    return Group(*_parts(component))


def _parts(component: Component) -> Iterator[RenderableType]:
    spec = component.spec
    head = Text.assemble((component.name, "bold"), f"  {said(component.title)}", (f"  {component.family}", "dim"))
    yield head
    if component.optics:
        yield Text(f"optics: {said(component.optics)}", style="cyan")
    if component.intuition:
        yield _indented(Text(said(component.intuition), style="italic"))
    dots = "..." if component.variadic else ""
    ports = ", ".join(name + dots for name in component.ports_in)
    if component.acts_on_state:
        memory = f", with {', '.join(spec.memory)} carried along" if spec.memory else ""
        yield from _section("ports", [f"the iterate of an algorithm -> the iterate after a step{memory}"])
    elif spec.objective is None:
        yield from _section("ports", [f"{ports} -> {', '.join(spec.ports.outputs)}"])
    if component.parameters or component.weights:
        yield Text("\nparameters", style="bold")
        yield _parameters(component)
    if component.function:
        yield from _section("function", [f"y = {component.function}"])
        yield _indented(Text("every effect is derived from it by Gaussian expectation", style="dim"))
    if component.forward:
        yield from _section("forward", [f"y = {component.forward}"])
    if spec.objective is not None:
        yield from _objective(spec.objective)
    if spec.let:
        yield from _section("with", [f"{name} = {text}" for name, text in spec.let.items()])
    for level, quantities in spec.effects.items():
        yield Text(f"\neffects, {level} ({OPTICS.get(level, '')})", style="bold")
        yield _effects(quantities)
    assumptions = [_assumption(given.text, given.check, given.below) for given in spec.assumes]
    yield from _section("assumes", assumptions)
    if spec.objective is None and not component.acts_on_state:
        yield from _section("ladder", [f"{level}: {step.told()}" for level, step in component.derivations.items()])
    yield from _section("does not average itself", [spec.keeps_scatter] if spec.keeps_scatter else [])
    needs = [f"{name}: {need.about or ''} (otherwise {need.otherwise})" for name, need in spec.needs.items()]
    yield from _section("needs, declared with given: or measured", needs)
    yield from _section("sources", [f"{key}: {text}" for key, text in component.references.items()])


def _objective(objective: ObjectiveSpec) -> Iterator[RenderableType]:
    """Modes, coordinates and quantities of what steps work on."""
    counts = " x ".join(objective.axes)
    yield from _section("modes", [f"{counts}; the iterate has {objective.size} numbers"])
    told = [f"{name} = {said(text)}" for name, text in objective.spectrum.items()]
    yield from _section("of a mode", [*told, *(f"{name} = {said(text)}" for name, text in objective.per_mode.items())])
    yield from _section(
        "coordinates, at the start", [f"{k} = {said(text)}" for k, text in objective.coordinates.items()]
    )
    yield Text("\nquantities", style="bold")
    yield _effects(objective.quantities)


def _section(title: str, lines: list[str]) -> Iterator[RenderableType]:
    if lines:
        yield Text(f"\n{title}", style="bold")
        for line in lines:
            yield _indented(Text(said(line)))


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)


def _assumption(text: str, check: str | None, below: str | None) -> str:
    told = text or check or ""
    if check and text:
        told += f" [{check}]"
    return told + (f"; else the {below} level holds" if below else "")


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    return table


def _parameters(component: Component) -> Table:
    table = _table()
    for name, given in component.parameters.items():
        default = getattr(given, "default", None)
        facts = [given.type]
        if given.type == "choice":
            facts = [" | ".join(given.choices)]
        facts += [
            f"{sign} {bound}" for sign, bound in ((">=", _bound(given, "min")), ("<=", _bound(given, "max"))) if bound
        ]
        fits = component.spec.fits
        facts += [f"divides {text}" for text in fits.divides.get(name, ())]
        facts += [f"<= {text}" for text in fits.at_most.get(name, ())]
        told = said(given.about) + (f" (symbol {given.symbol})" if given.symbol else "")
        value = "required" if default is None else f"default {default}"
        table.add_row(f"  {name}", f"{', '.join(facts)}; {value}", told)
    for weight in component.weights:
        for key, kind in init_parameter_names(weight).items():
            if kind.startswith("bias") and not component.weights[weight].bias:
                continue
            table.add_row(f"  {key}", "weights" if weight == "weight" else f"weights {weight}", INIT_ABOUT[kind])
    return table


def _bound(given: object, name: str) -> str:
    bound = getattr(given, name, None)
    return "" if bound is None else f"{bound:g}"


def _effects(quantities: object) -> Table:
    table = _table()
    assert isinstance(quantities, dict)
    for quantity, entry in quantities.items():
        ports = {"": entry} if isinstance(entry, Effect) else entry
        for port, effect in ports.items():
            notes = [f"error {effect.error}" if effect.error not in (None, "0") else ""]
            notes += [f"+- {effect.floor}" if effect.floor is not None else ""]
            notes += [", ".join(effect.cites), said(effect.about)]
            note = "; ".join(part for part in notes if part)
            formula = Text(said(effect.formula))
            if note:
                formula.append(f"   [{note}]", "dim")
            table.add_row(f"  {quantity}" + (f" {port}" if port else ""), "=", formula)
    return table
