"""Waiting for what a running workflow writes."""

import subprocess
import time
from pathlib import Path


def wait_for(path: Path, process: subprocess.Popen, log: Path, seconds: float = 200) -> None:
    """Wait until a file or folder is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"snakemake ended before {path} was there:\n{log.read_text()[-4000:]}"
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)
