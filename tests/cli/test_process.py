"""The command line as its own process: what it imports, how it ends, how a pipe may close."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sympy", "scipy", "networkx", "numpy", "matplotlib", "pandas", "sklearn")

PROBE = """
import sys
from lensnet.cli.app import run_app
try:
    run_app(sys.argv[1:])
except SystemExit as left:
    status = left.code
print("IMPORTED", status, *(name for name in {heavy} if name in sys.modules), file=sys.stderr)
"""


def lensnet(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lensnet", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["lint", "tanh_critical"], ["show", "tanh_critical"], ["schema"],
     ["components"], ["components", "linear"], ["cite", "tanh_critical"], ["new", "network", "mine"]],
    ids=" ".join,
)  # fmt: skip
def test_verbs_that_only_read_import_nothing_heavy(arguments: list[str]) -> None:
    code = PROBE.replace("{heavy}", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stderr.splitlines()[-1] == "IMPORTED 0"


def test_bundled_specs_are_found_from_any_folder_and_errors_have_a_place(tmp_path: Path) -> None:
    done = lensnet("lint", "tanh_critical", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "network: wrong\ninput: {source: gaussian, channels: 4}\nbody:\n  - {component: linaer, units: 3}\n"
    )
    done = lensnet("run", "wrong.yaml", folder=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("wrong.yaml:4:") and "did you mean 'linear'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_not_an_error() -> None:
    """`lensnet schema | head -1`: more output than a pipe holds, read by nobody."""
    with subprocess.Popen(
        [sys.executable, "-m", "lensnet", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as job:
        assert job.stdout is not None and job.stderr is not None
        job.stdout.read(10)
        job.stdout.close()
        errors = job.stderr.read()
        assert job.wait(timeout=120) == 0
    assert errors == b""
