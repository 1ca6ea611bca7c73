"""`lensnet.derive`: where an effect comes from, of a component or of a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lensnet.catalog.catalog import catalog
from lensnet.catalog.component import Component
from lensnet.catalog.locate import bundled_specs, find_spec
from lensnet.derivation.errors import DeriveError
from lensnet.derivation.result import Derivation, Step
from lensnet.derivation.sources import SOURCES
from lensnet.language.formula import FormulaError, evaluate_number
from lensnet.language.source import SpecError, did_you_mean


def derive(
    name: str | Path,
    quantity: str | None = None,
    *,
    at: str | None = None,
    first: str | None = None,
    last: str | None = None,
    overrides: Iterable[str] = (),
    expand: bool = False,
) -> Derivation:
    """The derivation of a component's effects, of a stack, or of a repeated block with its fixed points.

    name: a component of the catalogue (or the file of one), or a network file or bundled spec. quantity: `mean`,
    `second_moment`, `backward_second_moment`, `kernel` (of a pointwise component), or any other effect of it; None for
    all but the kernel. at: a path in the
    network (`block.0`); first, last: a range of components. overrides: `path=value` for a network, `parameter=value`
    for a pointwise component. expand: abbreviations of a component file written out.

    Raises DeriveError when nothing can be derived, SpecError for a file that is wrong.
    """
    component = _component(str(name))
    if component is not None:
        if at or first or last:
            raise DeriveError(f"{component.name} is a component: --at, --from and --to name parts of networks")
        return _of_component(component, quantity, overrides, expand)
    from lensnet.api import load
    from lensnet.derivation.network import derive_network

    try:
        find_spec(name)
    except SpecError as error:
        known = [*catalog(), *bundled_specs()]
        if Path(name).suffix in (".yaml", ".yml"):
            raise
        help = did_you_mean(str(name), known)
        raise DeriveError(f"no component and no network is called {str(name)!r}", help) from error
    return derive_network(load(name, overrides).network, quantity, at, first, last)


def _component(name: str) -> Component | None:
    """Of the catalogue by name, or of a component file."""
    if name in catalog():
        return catalog()[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    if not any(line.startswith("component:") for line in text.splitlines()):
        return None
    from lensnet.language.loading import load_component_spec

    spec, document = load_component_spec(path)
    return Component(spec, document, str(path.parent), spec.component)


def _of_component(component: Component, quantity: str | None, overrides: Iterable[str], expand: bool) -> Derivation:
    """With the chain from level to level at its end, before the sources; for a single quantity without."""
    found = _derived(component, quantity, overrides, expand)
    if quantity is not None or component.acts_on_state or component.spec.objective is not None:
        return found
    chain = tuple(f"- {level}: {step.told()}" for level, step in component.derivations.items())
    about = f"`lensnet ladder {component.name}` proves or measures every step."
    last = [step for step in found.steps if step.title == SOURCES]
    steps = [step for step in found.steps if step.title != SOURCES]
    return replace(found, steps=(*steps, Step("From level to level", (*chain, about)), *last))


def _derived(component: Component, quantity: str | None, overrides: Iterable[str], expand: bool) -> Derivation:
    if component.function is None:
        from lensnet.derivation.declared import derive_declared

        if list(overrides):
            raise DeriveError(f"{component.name} declares its effects: they are shown in symbols", "leave --set away")
        return derive_declared(component, quantity, expand)
    from lensnet.derivation.effects_of_function import QUANTITIES
    from lensnet.derivation.kernel_page import KERNEL, derive_kernel
    from lensnet.derivation.pointwise import derive_pointwise

    if quantity == KERNEL:
        return derive_kernel(component, _numbers(overrides))
    known = (*QUANTITIES, KERNEL)
    if quantity is not None and quantity not in known:
        raise DeriveError(
            f"{component.name} has no effect called {quantity!r}",
            did_you_mean(quantity, known) or f"it has {', '.join(known)}",
        )
    return derive_pointwise(component, quantity, _numbers(overrides))


def _numbers(overrides: Iterable[str]) -> dict[str, float]:
    out: dict[str, float] = {}
    for override in overrides:
        name, sign, value = override.partition("=")
        if not sign:
            raise DeriveError(f"--set {override}: it is written parameter=value")
        try:
            out[name.strip()] = float(evaluate_number(value.strip(), {}))
        except FormulaError as error:
            raise DeriveError(f"--set {override}: {error.message}", error.help) from error
    return out
