"""The derivation of a network: a part of it in symbols, or its repeated blocks with their fixed points."""

from __future__ import annotations

import sympy as sp

from lensnet.derivation.block_steps import edge_step, points_step, preserved_step
from lensnet.derivation.errors import DeriveError
from lensnet.derivation.result import Derivation, Line, Step
from lensnet.derivation.section import Block, part_at, part_between, repeated_blocks
from lensnet.derivation.stability import BlockMap, BlockPoint
from lensnet.derivation.stack import Stack
from lensnet.derivation.stack_backward import BackwardStack
from lensnet.derivation.stack_steps import (
    backward_step,
    composed_results,
    composed_step,
    forward_step,
    symbols_step,
    written,
)
from lensnet.language.source import did_you_mean
from lensnet.network.graph import Network

_WHICH = {None: ("m", "q"), "mean": ("m",), "second_moment": ("q",), "backward_second_moment": ()}
_LONGEST = 40
_LEFT = {"mean": "m'", "second_moment": "q'", "backward_second_moment": "p'"}


def derive_network(
    network: Network, quantity: str | None, at: str | None, first: str | None, last: str | None
) -> Derivation:
    """A part (`at`, or from `first` to `last`), or every repeated block, or (without one) the whole network.

    Raises DeriveError for names that are not there, parts with several inputs, components without effect models.
    """
    if quantity not in _WHICH:
        raise DeriveError(f"nothing is derived for {quantity!r}", did_you_mean(str(quantity), [n for n in _WHICH if n]))
    blocks = repeated_blocks(network)
    if at is not None and (first or last):
        raise DeriveError("--at names a part, and so do --from and --to", "use one of the two")
    if at is not None:
        block = next((block for block in blocks if at == block.name or at in block.paths), None)
        if block is not None:
            return _block(network, block, quantity, at if at in block.paths else block.typical)
        return _part(network, part_at(network, at), quantity)
    if first is not None or last is not None:
        return _part(network, part_between(network, first, last), quantity)
    if not blocks:
        return _part(network, part_between(network, None, None), quantity)
    found = [_block(network, block, quantity, block.typical) for block in blocks]
    return found[0] if len(found) == 1 else _joined(network, blocks, found)


def _part(network: Network, part: Network, quantity: str | None) -> Derivation:
    stack, steps, results, expressions = _symbolic(BlockMap(network, part), quantity)
    return Derivation(network.name, part.name, "stack", tuple(steps), results, expressions, dict(stack.symbols.values))


def _block(network: Network, block: Block, quantity: str | None, path: str) -> Derivation:
    part = part_at(network, path)
    map_ = BlockMap(network, part)
    stack, steps, results, expressions = _symbolic(map_, quantity)
    numbers = dict(stack.symbols.values)
    points: list[BlockPoint] = []
    if map_.modelled and quantity in (None, "second_moment"):
        if "second_moment" in expressions:
            step, solutions = preserved_step(stack, expressions["second_moment"], block)
            steps.append(step)
            expressions |= {f"preserving {name}": value for name, value in solutions.items()}
        points = map_.points()
        if map_.growth is not None:
            numbers["growth"] = map_.growth
        steps.append(points_step(map_, points))
        edge = edge_step(stack, map_, points) if map_.growth is None else None
        if edge is not None:
            steps.append(edge[0])
            numbers |= edge[1]
    title = f"{path}, one of {len(block.paths)} repetitions"
    return Derivation(network.name, title, "block", tuple(steps), results, expressions, numbers, tuple(points))


def _symbolic(map_: BlockMap, quantity: str | None) -> tuple[Stack, list[Step], dict[str, Line], dict[str, sp.Expr]]:
    part = map_.part
    if len(part) > _LONGEST:
        groups = dict.fromkeys(node.path.split(".")[0] for node in part)
        raise DeriveError(
            f"{part.name} has {len(part)} components: more formulas than anybody reads",
            f"choose a part with --at or with --from and --to: {', '.join(list(groups)[:8])}",
        )
    stack = Stack(part, map_.centred, map_.gaussian)
    which = _WHICH[quantity]
    backward = BackwardStack(stack) if quantity in (None, "backward_second_moment") else None
    expressions = composed_results(stack, backward, which)
    results = {name: written(_LEFT[name], value) for name, value in expressions.items()}
    steps = [forward_step(stack, which or ("m", "q"))]
    if backward is not None:
        steps.append(backward_step(backward))
    if len(part) > 1:
        steps.append(composed_step(stack, map_, results, expressions, len(which) + (backward is not None)))
    shown = [*stack.definitions.values(), *(backward.definitions.values() if backward else ()), *expressions.values()]
    known = {*stack.definitions, *(backward.definitions if backward else ())}
    steps.append(symbols_step(stack, shown, known))
    return stack, steps, results, expressions


def _joined(network: Network, blocks: list[Block], found: list[Derivation]) -> Derivation:
    """Several repeated blocks, one after the other."""
    steps: list[Step] = []
    results: dict[str, Line] = {}
    expressions: dict[str, sp.Expr] = {}
    numbers: dict[str, float] = {}
    for block, derivation in zip(blocks, found, strict=True):
        steps += [Step(f"{block.name}: {step.title}", step.parts) for step in derivation.steps]
        results |= {f"{block.name}.{name}": line for name, line in derivation.results.items()}
        expressions |= {f"{block.name}.{name}": value for name, value in derivation.expressions.items()}
        numbers |= {f"{block.name}.{name}": value for name, value in derivation.numbers.items()}
    points = tuple(point for derivation in found for point in derivation.fixed_points)
    title = ", ".join(f"{block.name} ({len(block.paths)} times)" for block in blocks)
    return Derivation(network.name, title, "block", tuple(steps), results, expressions, numbers, points)
