"""environment.yml, pyproject.toml and constraints.txt agree, and name no hosts."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finllm_utils.corpora.packages import CORPORA
from finllm_utils.dependencies import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
ENVIRONMENT = (REPOSITORY / "environment.yml").read_text(encoding="utf-8")
CORE = [Requirement(r) for r in PROJECT["project"]["dependencies"]]
EXTRAS = PROJECT["project"]["optional-dependencies"]
DEV = [Requirement(r) for r in EXTRAS["dev"]]
TEN_PACKAGES = (
    "jupyterlab torch transformers peft trl bitsandbytes flash-attn datasets evaluate "
    "papermill"
).split()


def pins() -> dict[str, Version]:
    found = {}
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
            assert match, f"constraints.txt: {line!r} is no exact pin"
            name = canonicalize_name(match[1])
            assert name not in found, f"{name} is pinned twice"
            found[name] = Version(match[2])
    return found


def environment_requirements() -> list[str]:
    dependencies = yaml.safe_load(ENVIRONMENT)["dependencies"]
    return next(d["pip"] for d in dependencies if isinstance(d, dict))


@pytest.mark.parametrize("requirement", CORE + DEV, ids=lambda r: r.name)
def test_every_dependency_is_pinned_within_its_range(requirement):
    pinned = pins()
    name = canonicalize_name(requirement.name)
    assert name in pinned, f"add {name} to constraints.txt"
    assert pinned[name] in requirement.specifier


def test_the_two_pins_that_bite():
    torch = next(r for r in CORE if r.name == "torch")
    assert str(torch.specifier) == "==2.13.0"
    assert pins()["xxhash"].major == 3


def test_environment_agrees_with_pyproject():
    lines = environment_requirements()
    assert lines[:2] == ["-c constraints.txt", "-e .[dev]"]
    ranges = {canonicalize_name(r.name): r.specifier for r in CORE}
    for line in lines[2:]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert requirement.specifier == ranges[name], f"{name} differs from pyproject"


def test_environment_names_the_ten_packages():
    listed = {Requirement(line).name for line in environment_requirements()[2:]}
    assert listed == set(TEN_PACKAGES) - {"flash-attn"}
    flash = Requirement(EXTRAS["fa2"][0])
    assert flash.name == "flash-attn"
    assert f'# pip install --no-build-isolation "{flash}"' in ENVIRONMENT
    python = yaml.safe_load(ENVIRONMENT)["dependencies"][0]
    wanted = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert python == f"python={wanted}"


def test_extras_are_the_documented_ones():
    assert set(EXTRAS) == {"fa2", "fa4", "ds", "npu", "ray", "track", "dev"}
    for requirements in EXTRAS.values():
        for text in requirements:
            Requirement(text)


def test_corpora_packages_are_exact_and_outside_the_dependencies():
    known = set(pins()) | {canonicalize_name(r.name) for r in CORE}
    for name, version in CORPORA.items():
        assert str(Version(version)) == version
        assert canonicalize_name(name) not in known, f"{name}: only with --no-deps"


@pytest.mark.parametrize(
    "name",
    ["constraints.txt", "pyproject.toml", "environment.yml", "Makefile", ".ci/run"],
)
def test_no_host_or_index_is_named(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for word in ("://", "index-url", "find-links", "trusted-host", "localhost"):
        assert word not in text, f"{name} names a host: {word}"


def test_console_command_exists():
    module, function = PROJECT["project"]["scripts"]["finllm"].split(":")
    path = REPOSITORY / Path(*module.split(".")).with_suffix(".py")
    assert f"def {function}(" in path.read_text(encoding="utf-8")


def test_makefile_has_the_targets_and_stamps_its_inputs():
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in "setup course test lint render lab demo bench clean".split():
        assert re.search(rf"^{target}:", text, re.MULTILINE), target
    stamp = re.search(r"^\$\(STAMP\): (.+)$", text, re.MULTILINE)[1]
    assert {"pyproject.toml", "constraints.txt"} <= set(stamp.split())
