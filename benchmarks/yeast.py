"""Bits per base on a chromosome that training does not see, by time: `python -m benchmarks.yeast FASTA...`.

Trains a preset on all contigs but yeast's chromosome XVI with what `genotok train` runs, for so many steps as fill
--seconds (found by a trial run, without validation), or for --steps; then evaluates the whole chromosome in windows
with `genotok evaluate`. On the way, every --validations-th part of the run looks at the chromosome as well, which
chooses nothing: the schedule is fixed beforehand. Seconds are those of training steps, without validation.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_run, write_result
from genotok.evaluation.bits_per_base import evaluate
from genotok.shards.manifest import read_manifest
from genotok.shards.writer import tokenize_genomes
from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer
from genotok.training.monitor import METRICS_NAME, SPEED_NAME, read_metrics

RESULTS = Path(__file__).parent / "results"
TRIAL_STEPS = 40


def settings(options: argparse.Namespace, shards: Path, steps: int, trial: bool = False) -> TrainConfig:
    """Of a run."""
    return TrainConfig(
        shards=str(shards),
        model=options.model,
        steps=steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        stage_learning_rates=options.stage_learning_rates,
        weight_decay=options.weight_decay,
        target_chunk_length=options.target_chunk_length,
        seed=options.seed,
        device=options.device,
        log_every=max(steps // 50, 1),
        validate_every=0 if trial else max(steps // options.validations, 1),
        validation_windows=1_000_000,
        checkpoint_every=0,
        loader_workers=options.loader_workers,
        compile=options.compile,
    )


def steps_in(options: argparse.Namespace, shards: Path, scratch: Path) -> int:
    """How many steps fill the time, by the second half of a trial run."""
    config = settings(options, shards, TRIAL_STEPS, trial=True)
    config.log_every = TRIAL_STEPS // 2
    Trainer(config, scratch / "trial").run()
    last = read_metrics(scratch / "trial" / SPEED_NAME)[-1]
    return int(options.seconds * last["steps"] / last["seconds"])


def curve(folder: Path, bases_a_step: int) -> list[dict[str, Any]]:
    """Seconds of training, bases read, and bits per base on the chromosome, at each validation."""
    speed = read_metrics(folder / SPEED_NAME)
    found = []
    for record in read_metrics(folder / METRICS_NAME):
        if record["split"] == "valid":
            seconds = sum(part["seconds"] for part in speed if part["step"] <= record["step"])
            line = {"step": record["step"], "bases": record["step"] * bases_a_step, "seconds": seconds}
            found.append({**line, "bits_per_base": record["bits_per_base"]})
    return found


def run(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Train and evaluate."""
    shards = scratch / "shards"
    contig = options.held_out
    tokenize_genomes(options.fasta, shards, window=options.window, stride=options.stride, valid=[contig])
    _, manifest = read_manifest(shards)
    steps = options.steps or steps_in(options, shards, scratch)
    config = settings(options, shards, steps)
    trainer = Trainer(config, scratch / "run")
    trainer.run()
    precision = trainer.precision.name
    del trainer
    metrics = evaluate(
        scratch / "run",
        shards,
        split="valid",
        batch_size=options.batch_size,
        device=options.device,
        orders=(2,),
    )
    records = read_metrics(scratch / "run" / SPEED_NAME)
    seconds = sum(record["seconds"] for record in records)
    bases = steps * options.batch_size * options.window
    train = [record for record in read_metrics(scratch / "run" / METRICS_NAME) if record["split"] == "train"]
    return {
        "held_out": contig,
        "training_windows": sum(file.windows for file in manifest.files if file.split == "train"),
        "steps": steps,
        "bases": bases,
        "training_seconds": seconds,
        "bases_per_second": bases / seconds,
        "precision": precision,
        "bits_per_base": metrics["model"]["bits_per_base"],
        "adaptive": metrics["adaptive"]["bits_per_base"],
        "stages": metrics["stages"],
        "train_bits_per_base": train[-1]["bits_per_base"],
        "peak_gib": max(record["memory_bytes"] for record in records) / 2**30,
        "curve": curve(scratch / "run", options.batch_size * options.window),
        "alarms": [r["kind"] for r in read_metrics(scratch / "run" / METRICS_NAME) if r["split"] == "alarm"],
    }


def main() -> None:
    """Train, evaluate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fasta", nargs="+", type=Path)
    parser.add_argument("--held-out", default="yeast_R64:XVI", metavar="GENOME:CONTIG")
    parser.add_argument("--model", default="hnet_1stage_dna")
    parser.add_argument("--seconds", type=float, default=600, help="of training steps")
    parser.add_argument("--steps", type=int, help="instead of --seconds")
    parser.add_argument("--window", type=int, default=8192)
    parser.add_argument("--stride", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--stage-learning-rates", type=float, nargs="+")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--target-chunk-length", type=float, nargs="*", default=[3.0])
    parser.add_argument("--validations", type=int, default=12)
    parser.add_argument("--loader-workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "yeast.json")
    options = parser.parse_args()
    chosen = {
        key: value
        for key, value in vars(options).items()
        if key not in ("fasta", "output", "commit", "device")
    }
    with tempfile.TemporaryDirectory() as scratch:
        found = run(options, Path(scratch))
    for line in found["curve"]:
        print(
            f"{line['seconds']:8.1f} s {line['bases'] / 1e6:8.1f} Mbases {line['bits_per_base']:.4f} bits/base"
        )
    print(
        f"{options.held_out}: {found['bits_per_base']:.4f} bits/base after {found['training_seconds']:.0f} s"
    )
    device = "cuda" if torch.cuda.is_available() and options.device != "cpu" else "cpu"
    about = describe_run(device, options.commit)
    write_result(
        options.output, about | {"genomes": [path.name for path in options.fasta], **chosen, **found}
    )


if __name__ == "__main__":
    main()
