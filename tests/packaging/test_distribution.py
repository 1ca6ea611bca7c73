"""What is shipped: a wheel carries components/ and specs/; an editable install reads the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LIST_DATA = """
import json, sys
from pathlib import Path
import lensnet
from lensnet.catalog.catalog import catalog
from lensnet.catalog.locate import bundled_specs, data_folder
print(json.dumps({
    "package": str(Path(lensnet.__file__).parent),
    "folder": str(data_folder("components")),
    "components": sorted(catalog()),
    "specs": sorted(bundled_specs()),
}))
"""


def run(*command, cwd, python_path=None):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    if python_path:
        environment["PYTHONPATH"] = str(python_path)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a clone has, so that building leaves nothing behind in the real one."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("lensnet", "components", "specs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(checkout), cwd=out)
    (built,) = out.glob("*.whl")
    return built


def data_files(folder):
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.yaml")}


def test_the_wheel_carries_every_component_and_network(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in data_files("components") | data_files("specs"):
        assert f"lensnet/_data/{name}" in names
    assert "lensnet/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.split("/")[0] in ("components", "specs", "tests", "examples") for name in names)


def test_an_installed_wheel_finds_its_data_from_anywhere(wheel, tmp_path):
    target = tmp_path / "site"
    run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel),
        cwd=tmp_path,
    )  # fmt: skip
    found = json.loads(run(sys.executable, "-c", LIST_DATA, cwd=tmp_path, python_path=target))
    assert Path(found["package"]) == target / "lensnet"
    assert Path(found["folder"]) == target / "lensnet" / "_data" / "components"
    assert set(found["components"]) >= {Path(name).stem for name in data_files("components")}
    assert "alexnet" in found["specs"]
    # The command itself, as the console script calls it, from a folder that holds no spec.
    run(str(target / "bin" / "lensnet"), "lint", "alexnet", cwd=tmp_path, python_path=target)


def test_only_a_standard_build_copies_the_data(checkout):
    program = (
        "from hatch_build import ShipData; import json; data = {}\n"
        "hook = ShipData('.', {}, None, None, '.', 'wheel')\n"
        "for version in ('editable', 'standard'):\n"
        "    data[version] = {'force_include': {}}; hook.initialize(version, data[version])\n"
        "print(json.dumps(data))"
    )
    data = json.loads(run(sys.executable, "-c", program, cwd=checkout))
    assert data["editable"]["force_include"] == {}
    assert set(data["standard"]["force_include"]) == {"components", "specs"}


def test_a_checkout_on_the_path_sees_a_file_added_later(checkout, tmp_path):
    """What an editable install comes down to: a path file that names the checkout."""
    (checkout / "components" / "activation" / "brand_new.yaml").write_text("component: brand_new\nfunction: x*phi(x)\n")
    (checkout / "specs" / "brand_new.yaml").write_text("network: brand-new\n")
    found = json.loads(run(sys.executable, "-c", LIST_DATA, cwd=tmp_path, python_path=checkout))
    assert "brand_new" in found["components"] and "brand_new" in found["specs"]
    assert Path(found["folder"]) == checkout / "components"
