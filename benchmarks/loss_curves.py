"""Loss curves of the fast path beside those of the reference: `python -m benchmarks.loss_curves [-o FILE.json]`.

What `genotok train` runs, on real genomes, with one seed, three times a precision: with the Triton kernels;
with the torch reference of every operation (as GENOTOK_KERNELS=reference); and with the reference again, every
weight changed by one rounding at the start. Training is chaotic, routers that decide most of all: the third
curve shows how far apart runs grow that are the same by any measure, and the first must not be much farther
from the second than it is, nor farther than the stated tolerance. `--quick` is a tiny model and 20 steps; on
the CPU the first two are the same.
"""

import argparse
import contextlib
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_run, write_result
from benchmarks.ratio_weight import ROOT, small_model
from genotok.kernels.backend import reference_kernels
from genotok.shards.writer import tokenize_genomes
from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer
from genotok.training.monitor import METRICS_NAME, read_metrics
from genotok.training.precision import choose_device

# The largest and the mean difference of two curves in nats a base.
TOLERANCE = {"fp32": (0.02, 0.002), "bf16": (0.05, 0.005)}
MODEL = {
    "layout": ["m1T1", ["M2"], "m1"],
    "d_model": [256, 256],
    "d_intermediate": [512, 512],
    "attention": {"heads": 4, "rotary_dim": 32, "window": [255, -1]},
    "tokenizer": "nucleotide",
}
GENOME = ROOT / "resources" / "genomes" / "ecoli_K12.fa.gz"
PATHS = ("fast", "reference", "reference_rounded")


def train(options: argparse.Namespace, shards: Path, folder: Path, precision: str, path: str) -> list[float]:
    """The loss of each step in nats a base."""
    config = TrainConfig(
        shards=str(shards),
        model=small_model(32) if options.quick else MODEL,
        steps=options.steps,
        batch_size=options.batch_size,
        target_chunk_length=[3.0],
        seed=1,
        device=options.device,
        precision=precision,
        threads=1,
        log_every=1,
        compile=options.compile and path == "fast",
    )
    with contextlib.nullcontext() if path == "fast" else reference_kernels():
        trainer = Trainer(config, folder)
        if path == "reference_rounded":
            round_weights(trainer.model)
        trainer.run()
    records = read_metrics(folder / METRICS_NAME)
    return [record["bits_per_base"] * math.log(2) for record in records if record["split"] == "train"]


@torch.no_grad()
def round_weights(model: torch.nn.Module) -> None:
    """Move every weight to the next float32 in a direction drawn by chance."""
    random = torch.Generator().manual_seed(7)
    for weight in model.parameters():
        up = torch.randint(2, weight.shape, generator=random).to(weight.device) * 2.0 - 1
        weight.copy_(torch.nextafter(weight, up * math.inf))


def difference(one: list[float], other: list[float]) -> dict[str, float]:
    """How far apart two curves are, in nats a base: at most, in the mean, at step 10, and in the mean of the end."""
    gaps = [abs(a - b) for a, b in zip(one, other, strict=True)]
    end = max(len(gaps) // 10, 1)
    return {
        "largest": max(gaps),
        "mean": statistics.fmean(gaps),
        "largest_of_first_10": max(gaps[:10]),
        "mean_of_last_tenth": abs(statistics.fmean(one[-end:]) - statistics.fmean(other[-end:])),
    }


def compared(curves: dict[str, list[float]], precision: str) -> dict[str, Any]:
    """The differences of the curves of one precision, and whether they are within the tolerance."""
    largest, mean = TOLERANCE[precision]
    found = difference(curves["fast"], curves["reference"])
    return {
        "precision": precision,
        "tolerance": {"largest": largest, "mean": mean},
        "agrees": found["largest"] <= largest and found["mean"] <= mean,
        "fast_and_reference": found,
        "reference_and_rounded_reference": difference(curves["reference_rounded"], curves["reference"]),
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=TOLERANCE)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--compile", action="store_true", help="blocks of the fast path")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.window = 20, 128
    return options


def main() -> None:
    """Train, print the differences, and write them with the curves; exit code 1 where curves do not agree."""
    options, lines, curves = parsed(), [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenize_genomes([GENOME], folder / "shards", window=options.window)
        for precision in options.precisions:
            curves[precision] = {
                path: train(options, folder / "shards", folder / f"{precision}_{path}", precision, path)
                for path in PATHS
            }
            lines.append(compared(curves[precision], precision))
    for line in lines:
        print(
            "\n".join(
                f"{line['precision']} {key}: {value}" for key, value in line.items() if key != "precision"
            )
        )
    if options.output:
        about = describe_run(choose_device(options.device).type, options.commit)
        about |= {"model": small_model(32) if options.quick else MODEL}
        settings = {key: getattr(options, key) for key in ("steps", "window", "batch_size", "compile")}
        write_result(options.output, about | settings | {"precisions": lines, "curves": curves})
    if not all(line["agrees"] for line in lines):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
