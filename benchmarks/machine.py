"""What a benchmark ran on, what that device can do, how calls are timed on it, and where the result goes."""

import argparse
import json
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genotok.atomic import atomic_path

FLAT_LIST = re.compile(r"\[\n[\d\s.,eE+-]*\]")  # over lines, as no string of JSON goes


def describe_run(device: str, commit: str | None = None) -> dict[str, Any]:
    """Device, versions, commit and command, as JSON values.

    Args:
        device: of the run.
        commit: of the code; None for what git says, `-dirty` behind it where the tree has changes.
    """
    on_gpu = device != "cpu" and torch.cuda.is_available()
    module = Path(sys.argv[0]).stem
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit or _commit(),
        "command": shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]]),
    }


def arguments_on_gpu(description: str) -> argparse.Namespace:
    """The command line of a benchmark that needs a CUDA device: `output`, a path or None, and `commit`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: these benchmarks need one")
    return arguments


def median_milliseconds(run: Callable[[], object], repeats: int, warmup: int) -> float:
    """The median time of a call on the CUDA device, between device events."""
    for _ in range(warmup):
        run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def recorded(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of a call, which has been made twice before on a stream of its own."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def ceilings() -> dict[str, float]:
    """Copy speed (TB/s, read and written) and bf16 matrix products (TFLOP/s) of the device, on random data."""
    source = torch.randn(1 << 29, device="cuda").to(torch.bfloat16)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / median_milliseconds(lambda: target.copy_(source), 20, 3) / 1e9
    a, b = torch.randn(2, 8192, 8192, device="cuda").to(torch.bfloat16)
    product = 2 * 8192**3 / median_milliseconds(lambda: a @ b, 20, 3) / 1e9
    return {"copy_tb_s": copy, "matmul_tflop_s": product}


def write_result(path: Path, values: dict[str, Any]) -> None:
    """Write a result as JSON, a list of numbers on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = FLAT_LIST.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", json.dumps(values, indent=1))
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")


def _commit() -> str | None:
    """The commit of the working tree; None where there is no repository."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
