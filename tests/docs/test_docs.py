"""The documentation is right: its YAML is valid, its commands and options exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

import lensnet
from lensnet.catalog.component import Component
from lensnet.cli.app import application
from lensnet.language.loading import load_component_spec

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def blocks(language):
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text())):
            if match[1] == language:
                yield pytest.param(match[2], id=f"{page.stem}-{number}")


def first_key(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return lines[0].partition(":")[0] if lines else ""


@pytest.mark.parametrize("text", list(blocks("yaml")))
def test_yaml_is_valid(text, tmp_path):
    """A whole network is built, a whole component read; a fragment of a network is put into a small one."""
    file = tmp_path / "example.yaml"
    kind = first_key(text)
    if kind == "component":
        file.write_text(text)
        spec, document = load_component_spec(file)
        assert Component(spec, document, "docs").symbols
    elif kind in ("network", "constants"):
        file.write_text(text if kind == "network" else f"network: fragment\n{text}")
        assert len(lensnet.load(file).network) > 0
    elif kind in ("define", "expect"):
        assert text.strip()


NETWORKS = {
    "shrink": "{component: shrink}",
    "bottleneck": "{component: bottleneck, inner: 128, outer: 128}",
    "half_residual": "{component: half_residual, from: [left, right]}",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_components_of_the_guide_agree_with_a_measurement(name, tmp_path):
    texts = [p.values[0] for p in blocks("yaml") if p.values[0].startswith(f"component: {name}\n")]
    (tmp_path / f"{name}.yaml").write_text(texts[0])
    (tmp_path / "network.yaml").write_text(
        "network: guide\ninput: {source: gaussian, channels: 128, batch: 32}\nbody:\n"
        "  - {name: left, component: linear, units: 128, gain: 1.2}\n"
        "  - {name: right, component: linear, units: 128}\n"
        f"  - {NETWORKS[name]}\n  - {{component: linear, units: 64}}\n"
    )
    rows = lensnet.load(tmp_path / "network.yaml").run(seeds=8, most_seeds=16).rows
    assert {row.verdict for row in rows if row.view == "local"} == {"agrees"}


def commands():
    return get_command(application()).commands


def test_commands_and_options_exist():
    known = commands()
    for page in PAGES:
        text = page.read_text()
        fenced = "".join(match[2] for match in BLOCK.finditer(text))
        for verb in re.findall(r"`lensnet ([a-z]+)", text) + re.findall(r"^\s*lensnet ([a-z]+)", fenced, re.M):
            assert verb in known, f"{page.name} speaks of `lensnet {verb}`"
        every = [one for command in known.values() for one in (command, *getattr(command, "commands", {}).values())]
        options = {name for command in every for parameter in command.params for name in parameter.opts}
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in options | {"--help", "--version", "--debug"}, f"{page.name} speaks of {option}"


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_bundled_names_are_right():
    from lensnet.catalog.locate import bundled_specs

    names = set(bundled_specs())
    for page in PAGES:
        for name in re.findall(r"specs/([a-z0-9_]+)\.yaml", page.read_text()):
            assert name in names, f"{page.name} speaks of specs/{name}.yaml"


def test_every_bundled_network_stands_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [path.stem for path in sorted((ROOT / "specs").glob("*.yaml")) if f"`{path.stem}`" not in text]
    assert not missing
