"""The environment of the workflow's rules, beside what the package needs."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]
# What conda calls by another name.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch"}
# What a rule never imports, and what comes with pytorch.
NOT_IN_RULES = {"snakemake", "pygments", "triton"}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


NEEDED = {
    canonical(requirement.name): requirement
    for requirement in map(
        Requirement, tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    )
}
PINNED = dict(
    re.match(r"\s*(\S+?)\s*=\s*([\d.]+)$", line).groups()
    for line in yaml.safe_load((REPOSITORY / "envs" / "genotok.yaml").read_text())["dependencies"]
    if line != "pip" and not line.startswith("python ")
)
TESTED = {
    canonical(line.split("==")[0]): line.split("==")[1].split()[0]
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines()
    if "==" in line and not line.startswith("#")
}


def test_the_environment_lists_what_the_package_needs():
    wanted = {CONDA_NAMES.get(name, name) for name in NEEDED.keys() - NOT_IN_RULES}
    assert {canonical(name) for name in PINNED} == {canonical(name) for name in wanted}


@pytest.mark.parametrize("name", sorted(NEEDED.keys() - NOT_IN_RULES))
def test_versions_are_those_that_are_tested(name):
    """The environment's version is a beginning of the lock's, and the package takes it."""
    pins = {canonical(key): value for key, value in PINNED.items()}
    pin, tested = pins[canonical(CONDA_NAMES.get(name, name))], TESTED[name]
    parts = pin.split(".")
    assert tested.split("+")[0].split(".")[: len(parts)] == parts
    assert NEEDED[name].specifier.contains(Version(tested).public)
