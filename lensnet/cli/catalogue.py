"""components, cite: what there is to build with, and where its formulas come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lensnet.cli.ending import UsageError
from lensnet.cli.options import Spec

if TYPE_CHECKING:
    from rich.text import Text

    from lensnet.catalog.component import Component

NAME = 20
"""Column of the names in the list."""


def components(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Tell everything about this one.")] = None,
    family: Annotated[str | None, typer.Option("--family", help="Only one family: activation, merge, ...")] = None,
) -> int:
    """List the components, or tell everything about one: ports, parameters, effects, assumptions, sources."""
    from lensnet.catalog.catalog import catalog
    from lensnet.cli.output import console
    from lensnet.language.source import did_you_mean

    known = catalog()
    out = console()
    if name is not None:
        from lensnet.cli.component_page import component_page

        if name not in known:
            guess = did_you_mean(name, known)
            raise UsageError(f"no component is called {name!r}" + (f"\n  = help: {guess}" if guess else ""))
        out.print(component_page(known[name], out.width))
        return 0
    families = known.families()
    if family is not None and family not in families:
        raise UsageError(f"no family is called {family!r}\n  = help: {did_you_mean(family, families)}")
    from rich.text import Text

    for title, members in families.items():
        if family in (None, title):
            out.print(Text(title, style="bold"))
            out.print(*_listing(members, out.width), sep="\n")
    out.print(Text("lensnet components NAME tells everything about one of them", style="dim"))
    return 0


def _listing(members: list[Component], width: int) -> list[Text]:
    from rich.text import Text

    from lensnet.report.words import said

    room = width - NAME - 3
    lines = []
    for component in members:
        sentence = _first_sentence(said(component.intuition) or said(component.title))
        if len(sentence) > room:
            sentence = sentence[: room - 1].rsplit(" ", 1)[0] + " …"
        lines.append(Text.assemble(f"  {component.name:<{NAME}} ", (sentence, "dim")))
    return lines


def _first_sentence(text: str) -> str:
    for end in (". ", "; ", ": "):
        if end in text and len(text.split(end)[0]) > 20:
            return text.split(end)[0]
    return text


def cite(spec: Spec) -> int:
    """List the sources that the predictions of a network rest on, and the components that use them."""
    from rich.text import Text

    from lensnet.api import load
    from lensnet.cli.output import console
    from lensnet.report.fold import fold
    from lensnet.report.words import said

    net = load(spec)
    sources: dict[str, tuple[str, dict[str, None]]] = {}
    for node in net.network:
        for key, text in cited(node.component).items():
            sources.setdefault(key, (text, {}))[1][node.path] = None
    if net.network.input.objective is not None:
        for key, text in cited(net.network.input.objective.component).items():
            sources.setdefault(key, (text, {}))[1]["input"] = None
    out = console()
    for key, (text, where) in sorted(sources.items()):
        used = ", ".join(entry.label for entry in fold(where))
        out.print(Text.assemble((said(key), "bold"), f"  {said(text)}"))
        out.print(Text(f"    used by {used}", style="dim"))
    if not sources:
        out.print(Text("Nothing is cited: every effect is derived from the components' own functions.", style="dim"))
    return 0


def cited(component: Component) -> dict[str, str]:
    """Key -> full reference of everything that the effects and assumptions of a component cite."""
    from lensnet.language.effect_spec import Effect

    keys: dict[str, None] = {}
    for quantities in component.spec.effects.values():
        for entry in quantities.values():
            for effect in [entry] if isinstance(entry, Effect) else entry.values():
                keys |= dict.fromkeys(effect.cites)
    for assumption in component.spec.assumes:
        keys |= dict.fromkeys(assumption.cites)
    return {key: component.references.get(key, "") for key in [*keys, *component.references]}
