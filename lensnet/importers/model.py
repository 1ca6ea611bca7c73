"""A model that was imported: its network, and how to measure it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

import lensnet.importers.rules  # noqa: F401  registers the rules
from lensnet.catalog.component import Component
from lensnet.importers.build import network_of, spec_of, text_of
from lensnet.importers.capture import Captured, ImportRefused, capture
from lensnet.importers.draft import Draft, Unmapped
from lensnet.importers.laws import TensorLaw, law_of, with_biases
from lensnet.importers.mapping import Mapper, Ungrouped
from lensnet.importers.untouched import unwrapped
from lensnet.language.source import SpecError
from lensnet.network.graph import Network

Weights = Literal["auto", "designed", "built"]


@dataclass
class ImportedModel:
    """`network`: as any other. `spec`: its file as plain data. `draft`: where each component stands in the captured
    graph. `laws`: of every parameter by name. `built`: whether the given weights are measured, or draws from these.
    `synthetic`: whether the example inputs were drawn for a size, not given."""

    name: str
    captured: Captured
    draft: Draft
    network: Network
    spec: dict[str, Any]
    laws: dict[str, TensorLaw]
    built: bool
    model: nn.Module
    notes: list[str] = field(default_factory=list)
    synthetic: bool = True

    @property
    def text(self) -> str:
        """The network file, with the declared input."""
        return text_of(self.spec)


def import_model(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = False,
    weights: Weights = "auto",
    name: str = "",
    components: Mapping[str, Component] | None = None,
) -> ImportedModel:
    """Capture and map; `components` beside those of the catalogue, whose `matches:` come first.

    Raises ImportRefused with a reason in one line; the model is left as it was.
    """
    model = unwrapped(model)
    captured = capture(model, args, kwargs, training)
    laws = laws_of(model, captured.parameters)
    built = weights == "built" or (weights == "auto" and trained(laws, captured.parameters))
    name = name or type(model).__name__
    try:
        draft = _drawn(captured, laws, components, fresh=not built)
        spec, network = _written(draft, name, _about(model, captured, built))
    except (Unmapped, SpecError) as error:
        if bad := _not_finite(captured.parameters):
            raise ImportRefused(f"no law describes weights that are not finite: {', '.join(bad[:6])}") from error
        raise ImportRefused(
            f"{type(model).__name__} was captured, but is no network that can be described: {error}"
        ) from error
    except Exception as error:  # an operation that nobody has thought of must not end in a traceback
        raise ImportRefused(f"the graph could not be read: {type(error).__name__}: {str(error)[:200]}") from error
    notes = [_route(captured), *captured.notes, *draft.notes, *_ties(captured.parameters, draft)]
    return ImportedModel(name, captured, draft, network, spec, laws, built, model, list(dict.fromkeys(notes)))


def _not_finite(parameters: Mapping[str, Tensor]) -> list[str]:
    """Names of the parameters and buffers that hold NaN or infinity."""
    return [
        name for name, tensor in parameters.items()
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all()
    ]  # fmt: skip


def _written(draft: Draft, name: str, about: str) -> tuple[dict[str, Any], Network]:
    """The file and its network; without shared weights where the language has no way to share them."""
    spec = spec_of(draft, _network_name(name), about)
    try:
        return spec, network_of(text_of(spec), name)
    except SpecError:
        if not any("weights_of" in item for item in spec["body"]):
            raise
    spec = spec_of(draft, _network_name(name), about, sharing=False)
    return spec, network_of(text_of(spec), name)


def _drawn(
    captured: Captured, laws: Mapping[str, TensorLaw], components: Mapping[str, Component] | None = None,
    fresh: bool = True,
) -> Draft:  # fmt: skip
    """The network with the examples on the first axis of the input; on the second (torch's default for sequences), or
    with a single example that has no axis (packed patches), where that lets more of the model be described."""

    def read(axis: int | None, said: str) -> Draft:
        draft = _walked(captured, laws, axis, components, fresh)
        draft.notes += [said] if said else []
        return draft

    ranks = {value.ndim for value in captured.inputs.values() if torch.is_tensor(value) and value.is_floating_point()}
    best, last, first = None, None, None
    for axis, rank, said in _READINGS:
        if rank and rank not in ranks:
            continue
        last = axis, said
        try:
            draft = read(*last)
        except (Unmapped, AssertionError) as error:
            first = first or error
            continue
        if best is None or _opaque(draft) < _opaque(best[0]):
            best = draft, last
        if not any("positions" in item.reason or "tokens" in item.reason for item in best[0].items):
            break
    if best is None:
        assert first is not None
        raise first
    return best[0] if best[1] == last else read(*best[1])  # a walk rewrites the graph: the last one has to be this


_READINGS: tuple[tuple[int | None, int, str], ...] = (
    (0, 0, ""),
    (1, 3, "the examples are taken to lie along the second axis of the input"),
    (None, 2, "the input is taken as the places of a single example"),
)
"""Axis of the examples, rank of a float input that may be read so, and what is said of it."""


def _walked(
    captured: Captured, laws: Mapping[str, TensorLaw], axis: int | None, components: Mapping[str, Component] | None,
    fresh: bool,
) -> Draft:  # fmt: skip
    """Once operation by operation; what nothing describes there a second time by what it answers."""
    first = Mapper(captured, laws, axis, components, fresh).run()
    failed = [item.output for item in first.items if item.component.startswith("opaque")]
    if not failed:
        return first
    try:
        second = Mapper(captured, laws, axis, components, fresh, failed).run()
        if _opaque(second) < _opaque(first):
            return second
    except Ungrouped:
        return first
    except (Unmapped, AssertionError):
        pass
    return Mapper(captured, laws, axis, components, fresh).run()  # a walk rewrites the graph


def _opaque(draft: Draft) -> int:
    return sum(item.component.startswith("opaque") for item in draft.items)


def _route(captured: Captured) -> str:
    how = {"export": "torch.export", "draft export": "torch.export in draft mode", "trace": "an eager trace"}
    return f"captured by {how[captured.route]}"


def laws_of(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, TensorLaw]:
    """The law of every parameter and buffer; one tensor under two names is read once."""
    known: dict[int, TensorLaw] = {}
    out: dict[str, TensorLaw] = {}
    for name, tensor in parameters.items():
        if id(tensor) not in known:
            known[id(tensor)] = law_of(tensor)
        out[name] = known[id(tensor)]
    if any(tensor.is_meta for tensor in parameters.values()):
        from lensnet.importers.initialisers import declared

        out |= declared(model, {name for name, tensor in parameters.items() if tensor.is_meta})
    return with_biases(out, parameters)


def trained(laws: Mapping[str, TensorLaw], parameters: Mapping[str, Tensor]) -> bool:
    """Whether most numbers stand in matrices that no law of independent entries describes."""
    structured = sum(parameters[name].numel() for name, law in laws.items() if law.kind == "structured")
    total = sum(parameters[name].numel() for name, law in laws.items() if law.kind in ("structured", "random"))
    return structured > 0.25 * max(total, 1)


def _network_name(name: str) -> str:
    import re

    clean = re.sub(r"[^\w-]", "-", name).strip("-")
    return clean[:60] if clean and clean[0].isalpha() else f"model-{clean}"[:60]


def _about(model: nn.Module, captured: Captured, built: bool) -> str:
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    weights = "the given weights" if built else "fresh draws from the laws of its initialisation"
    return f"Imported from {kind}, captured by {captured.route}; weights: {weights}."


def _ties(parameters: Mapping[str, Tensor], draft: Draft) -> list[str]:
    users: dict[int, list[str]] = {}
    for item in draft.items:
        for name in item.owns:
            if name in parameters:
                users.setdefault(id(parameters[name]), []).append(item.path)
    tied = [paths for paths in users.values() if len(set(paths)) > 1]
    return [
        f"{' and '.join(paths[:3])}{' and more' * (len(paths) > 3)} share their weights; "
        "the network file shares them too where it can"
        for paths in tied[:8]
    ]


__all__ = ["ImportedModel", "import_model"]
