"""What a program costs from its start, imports and all, as CPU seconds of processes of their own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence


def cpu_seconds(arguments: Sequence[str], repeats: int = 5) -> float:
    """The least of several runs of `python ARGUMENTS`; one more before them leaves the bytecode behind, as use does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for _ in range(repeats + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken[1:])
