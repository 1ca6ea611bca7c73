"""Data flows one way: which package may import which, read from the import statements."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lensnet

PACKAGE = Path(lensnet.__file__).parent

# package -> packages of lensnet that it may import
ALLOWED = {
    "expressions": set(),
    "language": {"expressions"},
    "levels": set(),
    "quantities": {"levels"},
    "algebra": {"expressions"},
    "catalog": {"expressions", "language", "algebra", "quantities"},
    "network": {"language", "catalog"},
    "predict": {"algebra", "catalog", "levels", "network", "quantities"},
    "measure": {"catalog", "network", "quantities", "levels"},
    "construct": {"network", "measure", "quantities"},
    "compare": {"network", "levels", "quantities"},
    "report": {"compare", "network", "levels", "quantities"},
    "ladder": {"algebra", "catalog", "language", "levels", "network", "predict", "measure", "predicting"},
    "importers": {"language", "catalog", "network", "measure", "compare", "report", "quantities"},
}
HEAVY = ("torch", "sympy", "scipy", "sklearn", "matplotlib", "pandas")


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = ast.walk(tree)
    lazy = set()
    if top_level_only:
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                lazy |= {id(inner) for inner in ast.walk(function)}
            if isinstance(function, ast.If) and "TYPE_CHECKING" in ast.unparse(function.test):
                lazy |= {id(inner) for inner in ast.walk(function)}
    names: set[str] = set()
    for node in nodes:
        if id(node) in lazy:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_stands_before_it(package: str) -> None:
    """At import time; a report that is asked to show itself fetches its display then."""
    for file in (PACKAGE / package).rglob("*.py"):
        for name in imports(file, top_level_only=True):
            if name.startswith("lensnet."):
                other = name.split(".")[1]
                assert other == package or other in ALLOWED[package], f"{file.name} imports {name}"


def test_predict_never_sees_a_measurement_and_measure_never_a_formula() -> None:
    for file in (PACKAGE / "predict").rglob("*.py"):
        assert not any(name.startswith(("lensnet.measure", "torch")) for name in imports(file)), file
    for file in (PACKAGE / "measure").rglob("*.py"):
        assert not any(name.startswith("lensnet.predict") for name in imports(file)), file


def test_the_measured_steps_of_an_algorithm_see_no_formula() -> None:
    """Objectives and operations get the numbers of a problem (spectrum, start), never the effects of a step."""
    for file in (PACKAGE / "measure" / "steps").rglob("*.py"):
        forbidden = ("lensnet.algebra", "lensnet.language", "lensnet.catalog")
        assert not any(name.startswith(forbidden) for name in imports(file)), file


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["lint", "lenet5"], ["show", "lenet5"], ["show", "gd_quadratic"], ["schema"], ["components"]],
    ids=" ".join,
)
def test_light_verbs_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lensnet.cli import main\n"
        f"sys.argv = ['lensnet', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('HEAVY', found, file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "HEAVY []" in result.stderr, result.stderr[-2000:]


LINTED = """
import sys
from lensnet.cli import main
sys.argv = ["lensnet", "lint", "x_plus_x"]
try:
    main()
except SystemExit:
    pass
modules = sorted(sys.modules)
from lensnet.catalog.catalog import catalog
print({"modules": modules, "components": sorted(catalog()._read)}, file=sys.stderr)
"""


def test_lint_loads_what_the_network_needs_and_nothing_else() -> None:
    """No level, no numbers, no drawing; of the catalogue, the files of the components that it names, and the fork."""
    result = subprocess.run([sys.executable, "-c", LINTED], capture_output=True, text=True, check=False)
    found = ast.literal_eval(result.stderr.splitlines()[-1])
    packages = {name.split(".")[1] for name in found["modules"] if name.startswith("lensnet.")}
    assert packages <= {"cli", "language", "catalog", "network", "quantities", "levels"}
    assert not set(found["modules"]) & {"numpy", "networkx", "rich", *HEAVY}
    assert found["components"] == ["fork", "linear", "relu", "residual", "sum"]


SYMBOLIC = {
    "lensnet.expressions.symbolic",
    "lensnet.algebra.fixed_points",
    "lensnet.algebra.worker",
    "lensnet.algebra.transport",
}
COMPUTING = ("expressions", "language", "algebra", "catalog", "network", "predict", "measure", "compare", "report")


@pytest.mark.parametrize("package", COMPUTING)
def test_computing_waits_for_no_computer_algebra(package: str) -> None:
    """What needs sympy lies in four modules, and no other module needs those to be imported."""
    for file in (PACKAGE / package).rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        found = {name for name in imports(file, top_level_only=True) if name.startswith("sympy") or name in SYMBOLIC}
        assert module in SYMBOLIC or not found, f"{module} imports {sorted(found)}"


PLAIN_NETWORK = """
network: plain
input: {source: gaussian, channels: 64, batch: 8}
body:
  - repeat: 3
    name: layer
    body:
      - {name: dense, component: linear, units: 64, gain: sqrt(2)}
      - {name: ACTIVATION, component: ACTIVATION}
"""


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_predicting_needs_no_computer_algebra_and_no_torch(activation: str, tmp_path: Path) -> None:
    """Nor scipy, whose functions few formulas ask for: each of the three takes longer to load than all the rest."""
    file = tmp_path / "plain.yaml"
    file.write_text(PLAIN_NETWORK.replace("ACTIVATION", activation))
    kernels = f"import numpy as np\nimport lensnet\nlensnet.load({str(file)!r}).nngp(np.eye(8, 64))\n"
    code = (
        f"import sys\nfrom lensnet.cli import main\nsys.argv = ['lensnet', 'predict', {str(file)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"{kernels if activation == 'relu' else ''}"
        "found = [name for name in ('sympy', 'torch', 'scipy.special') if name in sys.modules]\n"
        "print('HEAVY', found, file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "HEAVY []" in result.stderr, (result.stdout + result.stderr)[-2000:]
    assert "layer.2.dense" in result.stdout


def test_files_stay_small_enough_to_hold_in_the_head() -> None:
    long = {str(file): n for file in PACKAGE.rglob("*.py") if (n := len(file.read_text().splitlines())) > 400}
    assert not long
