"""How long the quick verbs take from start to end, beside what was asked: `python tests/benchmarks/bench_cli.py`."""

from __future__ import annotations

from tests.benchmarks.fresh_process import cpu_seconds

ASKED = 0.4
VERBS = (["--help"], ["lint", "alexnet"], ["lint", "gpt2_small"], ["show", "resnet18"])


def main() -> None:
    for arguments in VERBS:
        seconds = cpu_seconds(["-m", "lensnet", *arguments])
        print(f"lensnet {' '.join(arguments):20}{seconds * 1e3:8.0f} ms   {seconds / ASKED:5.2f} of what was asked")


if __name__ == "__main__":
    main()
