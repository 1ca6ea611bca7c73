"""Who feeds whom: references become paths, forks are made explicit, the components are put in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from lensnet.language.document import Document
from lensnet.language.source import Problem, did_you_mean
from lensnet.network.graph import INPUT
from lensnet.network.placed import Expansion, Placed, Reference, Unread

FORK_SUFFIX = ".fork"
NOWHERE = "?"  # the producer of a reference that leads nowhere


class Wired(NamedTuple):
    """A placed component (None: a fork) with the paths of its producers, and of the component whose weights it uses."""

    path: str
    placed: Placed | Unread | None
    inputs: tuple[str, ...]
    shares: str | None = None


def wire(expansion: Expansion, document: Document) -> tuple[list[Wired], list[Problem]]:
    """Components in topological order with explicit forks, and what is wrong with the wiring.

    Raises nothing: unknown names, cycles and outputs that nobody uses come back as problems. What feeds itself in a
    circle, or is fed by it, comes last and is fed from NOWHERE.
    """
    problems: list[Problem] = []
    by_path = {placed.path: placed for placed in expansion.placed}
    inputs: dict[str, tuple[str, ...]] = {}
    shares: dict[str, str] = {}
    for placed in expansion.placed:
        found = [_resolve(reference, by_path, expansion.outputs) for reference in placed.sources]
        for reference, path in zip(placed.sources, found, strict=True):
            if path is None and expansion.names_known:
                options = [name.split(".")[-1] for name in (*by_path, *expansion.outputs)]
                options = [INPUT, *(name for name in options if not name.isdigit())]
                told, help = f"no component is called '{reference.name}'", did_you_mean(reference.name, options)
                problems.append(document.problem(reference.place, told, help))
        inputs[placed.path] = tuple(path or NOWHERE for path in found)
        if placed.shares is not None:
            lender = _resolve(placed.shares, by_path, {})
            if lender is None or lender == INPUT:
                message, help = f"no component is called '{placed.shares.name}'", "it lends its weights, so it has some"
                problems.append(document.problem(placed.shares.place, message, help))
            elif lender != placed.path:
                shares[placed.path] = lender
    order = _in_order([placed.path for placed in expansion.placed], inputs)
    if len(order) < len(inputs):
        cycle = _cycle(inputs, set(order))
        message = "these components feed each other in a circle: " + " -> ".join((*cycle, cycle[0]))
        problems.append(document.problem(by_path[cycle[0]].place, message, "a signal can only flow forward"))
        rest = [path for path in inputs if path not in set(order)]
        inputs |= {path: (NOWHERE,) * len(inputs[path]) for path in rest}
        order += rest
    if not problems and expansion.names_known and expansion.sources_known:
        problems += _unused(order, inputs, by_path, document)
    return _with_forks(order, inputs, by_path, shares), problems


def _resolve(reference: Reference, paths: Mapping[str, Placed | Unread], outputs: Mapping[str, str]) -> str | None:
    """The producer that a reference means; a group's name means the end of the group."""
    name = reference.name
    if reference.exact or name == INPUT:
        return name
    for depth in range(len(reference.prefix), -1, -1):
        candidate = ".".join((*reference.prefix[:depth], name))
        if candidate in paths:
            return candidate
        if candidate in outputs:
            return outputs[candidate]
        parts = candidate.split(".")
        for end in range(len(parts) - 1, depth, -1):
            group = ".".join(parts[:end])
            if isinstance(paths.get(group), Unread):
                return group  # nobody knows what is in it
    return None


def _in_order(paths: Sequence[str], inputs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Topological order that keeps the order of the spec where it can."""
    place = {path: index for index, path in enumerate(paths)}
    waiting = {path: sum(source in place for source in inputs[path]) for path in paths}
    users: dict[str, list[str]] = {}
    for path in paths:
        for source in inputs[path]:
            users.setdefault(source, []).append(path)
    ready = [place[path] for path in paths if waiting[path] == 0]
    heapify(ready)
    order: list[str] = []
    while ready:
        path = paths[heappop(ready)]
        order.append(path)
        for user in users.get(path, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                heappush(ready, place[user])
    return order


def _cycle(inputs: Mapping[str, tuple[str, ...]], done: set[str]) -> list[str]:
    """One circle among the components that could not be put in order."""
    path = next(name for name in inputs if name not in done)
    seen: list[str] = []
    while path not in seen:
        seen.append(path)
        path = next(source for source in inputs[path] if source in inputs and source not in done)
    return seen[seen.index(path) :][::-1]


def _unused(
    order: Sequence[str],
    inputs: Mapping[str, tuple[str, ...]],
    by_path: Mapping[str, Placed | Unread],
    document: Document,
) -> list[Problem]:
    used = {source for sources in inputs.values() for source in sources}
    last = list(by_path)[-1]
    return [
        document.problem(
            by_path[path].place,
            f"the output of '{path}' is never used",
            "name it in the `from:` of another component, or take it out; the last component is the network's output",
        )
        for path in order
        if path not in used and path != last
    ]


def _with_forks(
    order: Sequence[str],
    inputs: Mapping[str, tuple[str, ...]],
    by_path: Mapping[str, Placed | Unread],
    shares: Mapping[str, str],
) -> list[Wired]:
    uses: dict[str, int] = {}
    for sources in inputs.values():
        for source in sources:
            uses[source] = uses.get(source, 0) + 1
    forked = {path for path, count in uses.items() if count > 1 and path != NOWHERE}
    out: list[Wired] = []
    if INPUT in forked:
        out.append(Wired(INPUT + FORK_SUFFIX, None, (INPUT,)))
    for path in order:
        sources = tuple(source + FORK_SUFFIX if source in forked else source for source in inputs[path])
        out.append(Wired(path, by_path[path], sources, shares.get(path)))
        if path in forked:
            out.append(Wired(path + FORK_SUFFIX, None, (path,)))
    return out
