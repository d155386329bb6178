"""Whether the upsampling's moving average drifts on a long sequence: `python -m benchmarks.ema_drift [-o FILE.json]`.

One sequence of 2^20 chunks, one a row, against the recurrence in float64, forwards and backwards. `router`:
probabilities over a half, as boundaries have them, so that the average forgets within a few chunks. `slow`: all
at the floor of 1e-4, so that it remembers ten thousand. `mixed`: from one to the other by chance. Errors are
those of the first and of the last 4,096 rows, relative to the norm of the exact values there: a drift would
make the last the larger. `--quick` is 2^14 chunks.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import describe_run, write_result
from genotok.kernels.backend import uses_triton
from genotok.kernels.ema import PROBABILITY_FLOOR, ema_upsample
from genotok.kernels.ragged import Ragged
from genotok.training.precision import choose_device

ENDS = 4096
TOLERANCE = 2e-5  # of float32 states
KINDS = ("router", "slow", "mixed")


def inputs(kind: str, rows: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Chunks (M, D) with a mean that is not 0, their probabilities (M,) and a gradient (M, D), float32."""
    random = torch.Generator().manual_seed(5)
    chunks = 1 + torch.randn(rows, width, generator=random)
    probability = 0.5 + 0.5 * torch.rand(rows, generator=random)
    if kind != "router":
        probability = torch.full_like(probability, PROBABILITY_FLOOR)
    if kind == "mixed":
        probability = 10 ** (-4 * torch.rand(rows, generator=random))
    return chunks, probability, torch.randn(rows, width, generator=random)


def exact(chunks: Tensor, probability: Tensor, gradient: Tensor) -> dict[str, np.ndarray]:
    """The average, and the gradients of chunks and probabilities, by the recurrence in float64.

    Probabilities are those that float32 clamps them to, since it is the accumulation that is in question.
    """
    x, to_z = chunks.double().numpy(), gradient.double().numpy()
    clamped = probability.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR).double().numpy()
    z, back = np.empty_like(x), np.empty_like(x)
    state = np.zeros(x.shape[1])
    for t, p in enumerate(clamped):
        state = state + p * (x[t] - state)
        z[t] = state
    state = np.zeros(x.shape[1])
    for t in range(len(x) - 1, -1, -1):
        state = to_z[t] + state
        back[t] = state
        state = (1 - clamped[t]) * state
    before = np.concatenate([np.zeros_like(z[:1]), z[:-1]])
    inside = ((probability >= PROBABILITY_FLOOR) & (probability <= 1 - PROBABILITY_FLOOR)).numpy()
    to_probability = (back * (x - before)).sum(1) * inside
    return {"average": z, "to_chunks": clamped[:, None] * back, "to_probability": to_probability}


def found(
    chunks: Tensor, probability: Tensor, gradient: Tensor, device: torch.device
) -> dict[str, np.ndarray]:
    """The same by `ema_upsample`, each row a chunk."""
    rows = len(chunks)
    x, p, to_z = (part.detach().clone().to(device) for part in (chunks, probability, gradient))
    x.requires_grad_()
    p.requires_grad_()
    itself = torch.arange(rows, device=device)
    z = ema_upsample(x, p, torch.ones(rows, device=device), itself, Ragged.uniform(1, rows, device))
    to_x, to_p = torch.autograd.grad(z, (x, p), to_z)
    parts = {"average": z, "to_chunks": to_x, "to_probability": to_p}
    return {name: part.detach().double().cpu().numpy() for name, part in parts.items()}


def errors(ours: np.ndarray, wanted: np.ndarray, ends: int) -> dict[str, float]:
    """Relative errors in the first and the last rows, and that of the worst stretch of as many rows."""
    stretches = len(wanted) // ends
    shape = (stretches, -1)
    gap = (ours - wanted)[: stretches * ends].reshape(shape)
    found = np.linalg.norm(gap, axis=1) / np.linalg.norm(wanted[: stretches * ends].reshape(shape), axis=1)
    return {"first": float(found[0]), "last": float(found[-1]), "worst": float(found.max())}


def measure(kind: str, rows: int, width: int, device: torch.device) -> dict[str, Any]:
    """The errors of one kind of probabilities."""
    given = inputs(kind, rows, width)
    ours, wanted = found(*given, device), exact(*given)
    ends = min(ENDS, rows // 4)
    line = {name: errors(ours[name], wanted[name], ends) for name in wanted}
    return {"kind": kind, **line, "drifts": max(part["worst"] for part in line.values()) > TOLERANCE}


def main() -> None:
    """Print the errors, and write them; exit code 1 where one is over the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1 << 20)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    rows, device, lines = 1 << 14 if options.quick else options.rows, choose_device(options.device), []
    for kind in KINDS:
        lines.append(measure(kind, rows, options.width, device))
        parts = ((name, part) for name, part in lines[-1].items() if isinstance(part, dict))
        shown = (
            f"{name} {' '.join(f'{key} {value:.1e}' for key, value in part.items())}" for name, part in parts
        )
        print(f"{kind:6}  {'  '.join(shown)}", flush=True)
    if options.output:
        about = describe_run(device.type, options.commit) | {"rows": rows, "width": options.width}
        triton = uses_triton(torch.zeros(1, device=device))
        write_result(options.output, about | {"triton": triton, "tolerance": TOLERANCE, "lines": lines})
    if any(line["drifts"] for line in lines):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
