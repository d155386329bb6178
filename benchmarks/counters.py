"""What Mamba-2's kernels wait for, by the hardware's counters: `python -m benchmarks.counters [-o FILE.json]`.

Runs both passes of the mixer of `hnet_1stage_dna`'s outer network, 131,072 rows in 16 sequences, under NVIDIA's
Nsight Compute (`ncu` on the PATH or below /opt/nvidia/nsight-compute, on a machine that lets counters be read), and
keeps of each kernel its milliseconds, the shares of the device's memory bandwidth, resident warps and issued
instructions that it reaches, and the mean number of cycles that a warp waits for each instruction, by reason.
Clocks are left as they are.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.machine import arguments_on_gpu, describe_run, write_result

ROWS = 131_072
KERNELS = "states_kernel|scan_kernel|inputs_backward_kernel|projections_backward_kernel|_conv|_gated"
LAUNCHES = 9  # of them in both passes
VALUES = {
    "milliseconds": ("gpu__time_duration.sum", 1e-6),
    "bytes": ("dram__bytes.sum", 1.0),
    "of_memory_bandwidth": ("gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed", 0.01),
    "of_resident_warps": ("sm__warps_active.avg.pct_of_peak_sustained_active", 0.01),
    "of_issued_instructions": ("smsp__issue_active.avg.pct_of_peak_sustained_active", 0.01),
    "registers": ("launch__registers_per_thread", 1.0),
}
WAITS = "smsp__average_warps_issue_stalled_", "_per_issue_active.ratio"
UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
WORK = f"""
import torch
from benchmarks.tune_mamba2 import both_passes
run = both_passes({ROWS})
for _ in range(2):
    run()
torch.cuda.synchronize()
"""


def count() -> list[str]:
    """The lines that `ncu` writes of the second run of both passes."""
    found = sorted(Path("/opt/nvidia/nsight-compute").glob("*/ncu"))
    program = shutil.which("ncu") or (str(found[-1]) if found else None)
    if program is None:
        raise SystemExit("ncu: not found, neither on the PATH nor below /opt/nvidia/nsight-compute")
    metrics = ",".join([*(name for name, _ in VALUES.values()), f"regex:{WAITS[0]}.*{WAITS[1]}"])
    command = [program, "--clock-control", "none", "--csv", "--page", "raw", "--metrics", metrics]
    command += ["-k", f"regex:{KERNELS}", "--launch-skip", str(LAUNCHES), "--launch-count", str(LAUNCHES)]
    done = subprocess.run([*command, sys.executable, "-c", WORK], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"ncu ended with exit code {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout.splitlines()


def read_counters(lines: Iterable[str]) -> list[dict[str, Any]]:
    """A line for each launch, in order, from the raw page of `ncu` as comma-separated values.

    Returns:
        `kernel`; `milliseconds`; `bytes` of device memory read and written; `of_...`, shares from 0 to 1 of what the
        device can do; `registers` of a thread; `cycles_waited` for an instruction, by reason, the longest first.
    """
    table = csv.reader(line for line in lines if not line.startswith("=="))
    names, units = next(table), next(table)
    return [_launch(names, units, values) for values in table]


def _launch(names: list[str], units: list[str], values: list[str]) -> dict[str, Any]:
    """What one launch reached."""
    raw = {
        name: float(value.replace(",", "")) * UNITS.get(unit, 1.0)
        for name, unit, value in zip(names, units, values, strict=True)
        if name in {metric for metric, _ in VALUES.values()} or (name.startswith(WAITS[0]) and value)
    }
    waits = {
        name.removeprefix(WAITS[0]).removesuffix(WAITS[1]): value
        for name, value in raw.items()
        if name.startswith(WAITS[0]) and name.endswith(WAITS[1]) and "not_issued" not in name
    }
    return {
        "kernel": values[names.index("Kernel Name")].strip("_").removesuffix("_kernel"),
        **{name: raw[metric] * scale for name, (metric, scale) in VALUES.items()},
        "cycles_waited": dict(sorted(waits.items(), key=lambda item: -item[1])),
    }


def main() -> None:
    """Count, print a line for each launch, write."""
    options = arguments_on_gpu(__doc__)
    launches = read_counters(count())
    for launch in launches:
        waits = ", ".join(f"{name} {value:.2f}" for name, value in list(launch["cycles_waited"].items())[:4])
        shares = (f"{launch[name]:.0%} {name[3:].replace('_', ' ')}" for name in VALUES if name[:3] == "of_")
        print(f"{launch['kernel']:22} {launch['milliseconds']:.3f} ms, {', '.join(shares)}; waits: {waits}")
    if options.output:
        about = describe_run("cuda", options.commit)
        write_result(options.output, about | {"rows": ROWS, "launches": launches})


if __name__ == "__main__":
    main()
