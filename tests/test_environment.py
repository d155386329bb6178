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


@pytest.mark.parametrize("recipe", ["Dockerfile", "genotok.def"])
def test_containers_hold_the_rules_environment_and_the_snakemake_that_is_tested(recipe):
    """The environment comes from envs/genotok.yaml; what is added to it agrees with the lock."""
    text = (REPOSITORY / "envs" / recipe).read_text()
    assert re.search(r"mamba env create .*--file \S*genotok\.yaml", text)
    added = dict(re.findall(r"\b([a-z-]+)=(\d[\d.]*)\b", text.split("--channel bioconda")[1].split("&&")[0]))
    assert added.keys() == {"snakemake-minimal", "pygments"}
    for name, pin in added.items():
        tested = TESTED[name.removesuffix("-minimal")].split(".")
        assert tested[: len(pin.split("."))] == pin.split("."), name


def test_both_containers_begin_alike():
    """With the same image, for a machine with CUDA or without."""
    docker, apptainer = ((REPOSITORY / "envs" / name).read_text() for name in ("Dockerfile", "genotok.def"))
    (image,) = re.findall(r"^FROM (\S+)$", docker, re.MULTILINE)
    assert f"From: {image}\n" in apptainer
    assert "CONDA_OVERRIDE_CUDA" in docker
    assert "CONDA_OVERRIDE_CUDA" in apptainer


def test_every_rule_has_an_environment_a_log_and_a_benchmark():
    """Rules made of another rule have that one's."""
    for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        rules = re.split(r"^ *(?:rule|checkpoint) \w+:$", path.read_text(), flags=re.MULTILINE)[1:]
        assert all("conda:\n" in body and "envs/genotok.yaml" in body for body in rules), path.name
        for part in ("log", "benchmark", "resources"):
            assert all(re.search(rf"^ +{part}:$", body, re.MULTILINE) for body in rules), (path.name, part)
