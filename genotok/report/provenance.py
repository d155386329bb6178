"""What a run was made of: software, settings, inputs and command, in one JSON file."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import genotok
from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.report.json_files import write_json

COMMAND = "GENOTOK_COMMAND"


def write_provenance(inputs: Sequence[Path], settings: dict[str, Any], output: Path) -> None:
    """Write `provenance.json`.

    Nothing in it depends on the time, the machine or the number of cores, save `command`.

    Args:
        inputs: files whose hashes are recorded.
        settings: what the run was asked to do; recorded as it is.
        output: the JSON file to write.

    Raises:
        InputError: an input cannot be read.
    """
    record = {
        **settings,
        "command": os.environ.get(COMMAND) or shlex.join(sys.argv),
        "commit": commit(Path(genotok.__file__).parent),
        "inputs": {str(path): _hash(path) for path in sorted(set(inputs))},
        "versions": versions(),
    }
    write_json(record, output)


def versions() -> dict[str, str]:
    """Python, genotok and the packages that it needs, with their versions."""
    found = {"genotok": genotok.__version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for requirement in _requirements():
        try:
            found[requirement] = metadata.version(requirement)
        except metadata.PackageNotFoundError:
            continue  # a rule's environment has no Snakemake
    return dict(sorted(found.items()))


def _requirements() -> list[str]:
    try:
        wanted = metadata.requires("genotok") or []
    except metadata.PackageNotFoundError:
        return []
    return [re.match(r"[A-Za-z0-9._-]+", line)[0] for line in wanted if "extra ==" not in line]


def commit(folder: Path) -> str | None:
    """The commit of a checkout, `+` behind it where files were changed since; None where there is no checkout."""
    source = os.environ.get("GENOTOK_SOURCE") or folder
    said = []
    for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(source), *words], capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        said.append(done.stdout.strip())
    return said[0] + ("+" if said[1] else "")


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
