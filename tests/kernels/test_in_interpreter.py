"""The tests of the Triton kernels where there is no GPU: in Triton's interpreter, which a process must begin with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", sorted(path.name for path in Path(__file__).parent.glob("test_triton_*.py")))
def test_in_interpreter(name):
    pytest.importorskip("triton")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name(name)),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
