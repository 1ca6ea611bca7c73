"""A compiled formula: a flat list of operations over numbered registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CALL = "call:"
"""Prefix of an operation that is looked up at call time (a position operator)."""
SPECIAL = "special:"
"""Prefix of an operation found in the registry of special functions."""

Step = tuple[str, tuple[int, ...], int]
"""Operation name, where its arguments are, where its result goes."""


class TapeError(ValueError):
    """An expression that cannot be compiled, or a call that does not supply what the expression needs."""


@dataclass(frozen=True)
class Program:
    """Operations over registers; `initial` holds the constants, `inputs` says where each symbol's value goes."""

    inputs: tuple[tuple[str, int], ...]
    initial: tuple[Any, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    @property
    def operators(self) -> tuple[str, ...]:
        """Names that a call must supply as operators."""
        return tuple(sorted({op.removeprefix(CALL) for op, _, _ in self.steps if op.startswith(CALL)}))


def allocate(
    inputs: Mapping[str, int], constants: Mapping[int, Any], steps: Sequence[Step], outputs: Sequence[int]
) -> Program:
    """Drop the steps that no output needs and reuse registers, so a large intermediate lives only as long as needed.

    Args:
        inputs: slot of each symbol.
        constants: value of each constant slot.
        steps: in order; every slot is written once.
        outputs: slots to keep.
    """
    needed = set(outputs)
    kept: list[Step] = []
    for step in reversed(steps):
        if step[2] in needed:
            needed.update(step[1])
            kept.append(step)
    kept.reverse()
    last_use = {slot: index for index, (_, arguments, _) in enumerate(kept) for slot in arguments}
    register: dict[int, int] = {}
    initial: list[Any] = []
    for slot, value in constants.items():
        if slot in needed:
            register[slot] = len(initial)
            initial.append(value)
    places = []
    for name, slot in inputs.items():
        register[slot] = len(initial)
        initial.append(None)
        places.append((name, register[slot]))
    fixed = set(register)
    free: list[int] = []
    placed: list[Step] = []
    for index, (operation, arguments, slot) in enumerate(kept):
        sources = tuple(register[argument] for argument in arguments)
        for argument in set(arguments):
            if last_use[argument] == index and argument not in fixed and argument not in outputs:
                free.append(register[argument])
        if free:
            register[slot] = free.pop()
        else:
            register[slot] = len(initial)
            initial.append(None)
        placed.append((operation, sources, register[slot]))
    return Program(tuple(places), tuple(initial), tuple(placed), tuple(register[slot] for slot in outputs))
