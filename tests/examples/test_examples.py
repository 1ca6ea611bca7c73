"""Every script in examples/ runs, prints something and ends well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


# Experiments take minutes at full size; small ones of three kinds show that what they share works.
SMALL = {
    "three_gaussians": ["--layers", "3"],
    "adding_a_class": ["--layers", "1"],
    "label_corruption": ["--seeds", "1", "--epochs", "1"],
}


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    run(script, [], tmp_path)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_experiment_runs_and_leaves_a_figure(name, tmp_path):
    run(EXAMPLES / "coding_rate" / f"{name}.py", SMALL[name], tmp_path)
    assert (tmp_path / f"{name}.png").exists()


def run(script, arguments, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", str(script), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
