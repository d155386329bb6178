"""Time and memory against the length of one sequence: `python -m benchmarks.long_context [-o FILE.json]`.

A batch of one sequence in bf16, forward at 2^10 to 2^20 bases and training (forward, loss and backward, no optimizer)
at 2^13 to 2^18, as dnaHNet (arXiv 2602.10603) reports its models. Weights are random and letters drawn by chance;
`--chunk-length 3` cuts at every third base in place of the router, so that the work does not depend on the weights.
A table of tab-separated values stands beside the JSON. `--quick` is a tiny model at short lengths, for the CPU, where
memory is not measured.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe_run, write_result
from benchmarks.ratio_weight import small_model
from genotok.atomic import atomic_path
from genotok.models import GenomicLM, ModelConfig
from genotok.training.block_execution import run_blocks
from genotok.training.config import CHECKPOINTING
from genotok.training.objective import ratio_loss
from genotok.training.precision import autocast, choose_device

COLUMNS = ("model", "task", "length", "ms", "bases_per_second", "peak_gib", "chunk_fraction", "failed")
SECONDS = 0.5  # spent on the repeats of one length, at least one repeat
MOST_REPEATS = 10
TARGET, RATIO_WEIGHT = 3.0, 0.02
LINEAR = 1.1  # the largest exponent of memory in length that still counts as linear


def make_model(name: str, longest: int, chunk_length: int | None, quick: bool) -> GenomicLM:
    """A preset with random weights; a tiny one-stage model of the same parts where it is to be quick."""
    config = ModelConfig.from_dict(small_model(32)) if quick else ModelConfig.preset(name)
    if chunk_length is not None and config.chunkers:
        values = config.to_dict() | {"chunkers": {"kind": "static", "length": chunk_length}}
        config = ModelConfig.from_dict(values)
    config.hyena.max_length = max(config.hyena.max_length, longest)
    torch.manual_seed(1)
    return GenomicLM(config)


def letters(model: GenomicLM, length: int) -> torch.Tensor:
    """(1, L) token ids of nucleotides."""
    choices = torch.tensor(model.tokenizer.encode("ACGT")[-4:])
    return choices[torch.randint(4, (1, length))].to(model.device)


def forward_pass(model: GenomicLM, ids: torch.Tensor, precision: str) -> list[float]:
    """Logits of a sequence; the fraction of rows that begin chunks, by stage."""
    with torch.no_grad(), autocast(model.device, precision):
        return fractions(model(ids).packed_boundaries)


def training_pass(model: GenomicLM, ids: torch.Tensor, precision: str) -> list[float]:
    """Gradients of cross-entropy and ratio loss; otherwise as `forward_pass`."""
    with autocast(model.device, precision):
        output = model(ids, labels=ids)
        loss = output.loss
        for stage in output.packed_boundaries:
            if stage.learned:
                loss = loss + RATIO_WEIGHT * ratio_loss(stage.mask.float().mean(), stage.prob.mean(), TARGET)
    loss.backward()
    model.zero_grad(set_to_none=True)
    return fractions(output.packed_boundaries)


def fractions(boundaries: list) -> list[float]:
    """The share of rows that begin chunks, by stage."""
    return [round(stage.mask.float().mean().item(), 4) for stage in boundaries]


def measure(run: Callable[[], list[float]], device: torch.device) -> dict[str, Any]:
    """Median milliseconds of a call, and on a GPU the most memory that tensors took during one."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
    chunks = run()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times, began = [], time.perf_counter()
    while not times or (len(times) < MOST_REPEATS and time.perf_counter() - began < SECONDS):
        start = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    return {"ms": statistics.median(times), "peak_gib": peak, "chunk_fraction": chunks}


def sweep(model: GenomicLM, name: str, task: str, lengths: list[int], precision: str) -> list[dict[str, Any]]:
    """A row a length, printed as it is found; the first length that memory does not hold is the last."""
    rows, one_pass = [], {"forward": forward_pass, "train": training_pass}[task]
    for length in lengths:
        row = {"model": name, "task": task, "length": length}
        try:
            ids = letters(model, length)
            found = measure(lambda ids=ids: one_pass(model, ids, precision), model.device)
            row |= found | {"bases_per_second": length / found["ms"] * 1e3}
        except torch.OutOfMemoryError:
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            row["failed"] = "out of memory"
        rows.append(row)
        print(as_line(row), flush=True)
        if "failed" in row:
            break
    return rows


def memory_growth(
    lengths: list[int], peak_gib: list[float], held_gib: float
) -> dict[str, float | bool] | None:
    """How memory grows with length.

    Args:
        lengths: rising.
        peak_gib: the peak at each.
        held_gib: what the weights and whatever else does not depend on the length take.

    Returns:
        None for fewer than two lengths. Otherwise `bytes_a_base` and `base_gib` of a straight line through all points
        by least squares of relative errors, `worst_relative_error` of that line, the `exponent` of the growth of what
        is not `held_gib` over the last doubling(s), and whether it counts as `linear`.
    """
    if len(lengths) < 2:
        return None
    x, y = np.array(lengths, float), np.array(peak_gib, float)
    design = np.stack([x, np.ones_like(x)], 1)
    slope, base = np.linalg.lstsq(design / y[:, None], np.ones_like(y), rcond=None)[0]
    used = np.maximum(y - held_gib, 1e-9)
    exponent = math.log(used[-1] / used[-2]) / math.log(x[-1] / x[-2])
    return {
        "bytes_a_base": float(slope * 2**30),
        "base_gib": float(base),
        "worst_relative_error": float(np.abs(design @ [slope, base] / y - 1).max()),
        "exponent": exponent,
        "linear": exponent <= LINEAR,
    }


def as_line(row: dict[str, Any]) -> str:
    """The row's columns between tabs."""

    def shown(value: Any) -> str:
        return f"{value:.6g}" if isinstance(value, float) else json.dumps(value) if value else ""

    return "\t".join(
        str(row.get(name, "")) if name in COLUMNS[:3] else shown(row.get(name)) for name in COLUMNS
    )


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["hnet_1stage_dna"], help="presets")
    parser.add_argument("--forward", type=int, nargs="*", help="exponents of 2; 10 to 20")
    parser.add_argument("--train", type=int, nargs="*", help="exponents of 2; 13 to 18")
    parser.add_argument("--checkpointing", choices=CHECKPOINTING, default="none", help="in training")
    parser.add_argument("--chunk-length", type=int, help="fixed chunks in place of the model's own chunker")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a tiny model at 2^8 to 2^11 bases")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write; FILE.tsv beside it")
    options = parser.parse_args()
    defaults = (range(8, 12), range(8, 11)) if options.quick else (range(10, 21), range(13, 19))
    for name, exponents in zip(("forward", "train"), defaults, strict=True):
        given = getattr(options, name)
        setattr(options, name, [1 << exponent for exponent in (exponents if given is None else given)])
    return options


def main() -> None:
    """Sweep every model, print the rows, and write them with the growth of memory."""
    options = parsed()
    device, rows, growth = choose_device(options.device), [], {}
    print("\t".join(COLUMNS))
    for name in options.models:
        for task in ("forward", "train"):
            lengths = getattr(options, task)
            if not lengths:
                continue
            model = make_model(name, max(lengths), options.chunk_length, options.quick).to(device)
            model.train(task == "train")
            if task == "train":
                run_blocks(model, options.checkpointing, False)
            found = sweep(model, name, task, lengths, options.precision)
            rows += found
            measured = [row for row in found if row.get("peak_gib")]
            held = sum(part.nbytes for part in model.parameters()) / 2**30
            of_task = [[row[key] for row in measured] for key in ("length", "peak_gib")]
            growth[f"{name} {task}"] = memory_growth(*of_task, held)
            del model
    for key, value in growth.items():
        print(f"memory of {key}: {json.dumps(value)}", file=sys.stderr)
    if options.output:
        settings = {key: getattr(options, key) for key in ("precision", "checkpointing", "chunk_length")}
        about = describe_run(device.type, options.commit) | settings
        write_result(options.output, about | {"rows": rows, "memory_growth": growth})
        with atomic_path(options.output.with_suffix(".tsv")) as temporary:
            temporary.write_text("\n".join(["\t".join(COLUMNS), *map(as_line, rows)]) + "\n")


if __name__ == "__main__":
    main()
