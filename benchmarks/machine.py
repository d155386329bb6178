"""What a benchmark ran on, and where its result goes."""

import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from genotok.atomic import atomic_path


def describe_run(device: str) -> dict[str, Any]:
    """Device, versions, commit and command, as JSON values."""
    on_gpu = device != "cpu" and torch.cuda.is_available()
    module = Path(sys.argv[0]).stem
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
        "command": shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]]),
    }


def write_result(path: Path, values: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")


def _commit() -> str | None:
    """The commit of the working tree; None where there is no repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
