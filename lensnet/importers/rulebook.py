"""The rules by which operations become components: name of an operation, or of a group, to a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.fx import Node

from lensnet.importers.draft import Value

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

Rule = Callable[["Mapper", Node], Value]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of one or more operations."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = function
        return function

    return register
