"""How the weight of the ratio loss acts on bits per base and on chunks: `python -m benchmarks.ratio_weight`.

Trains a small routing model on the embedded genomes once for every weight and seed, on one thread of a CPU, with what
`genotok train` runs. Validation is on a yeast chromosome that training does not see. A run that a later call finds
done under --runs is read and not trained again.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_run, write_result
from genotok.errors import InputError
from genotok.shards.writer import tokenize_genomes
from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer
from genotok.training.monitor import METRICS_NAME, read_metrics

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
GENOMES = ("yeast_R64", "ecoli_K12", "haemophilus_influenzae")
WEIGHTS = (0.003, 0.01, 0.02, 0.03, 0.1)
TARGET = 3.0
SPIKE = 3.0  # a gradient norm over this many times the median of those around it
AROUND = 16  # steps on either side


def small_model(width: int) -> dict[str, Any]:
    """H-Net of one chunking stage."""
    return {
        "layout": ["m2", ["T2"], "m2"],
        "d_model": [width, width * 3 // 2],
        "d_intermediate": [0, 4 * width],
        "attention": {"heads": 4, "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 16, "head_dim": 16, "chunk_size": 32},
    }


def make_shards(folder: Path, window: int) -> Path:
    """Make shards of the embedded genomes, with one chromosome of yeast for validation, unless they are there."""
    if not (folder / "manifest.json").is_file():
        fastas = [ROOT / "resources" / "genomes" / f"{name}.fa.gz" for name in GENOMES]
        tokenize_genomes(fastas, folder, window=window, valid=["yeast_R64:XVI"])
    return folder


def settings(options: argparse.Namespace, shards: Path, weight: float, seed: int) -> TrainConfig:
    """Of one run; what is not named here is the default of `genotok train`."""
    return TrainConfig(
        shards=str(shards),
        model=small_model(options.width),
        steps=options.steps,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        target_chunk_length=[TARGET],
        ratio_weight=weight,
        seed=seed,
        device="cpu",
        threads=1,
        log_every=1,
        validate_every=options.steps,
        validation_windows=options.validation_windows,
        checkpoint_every=max(options.steps // 4, 1),
        keep_checkpoints=1,
    )


def train(config: TrainConfig, folder: Path) -> list[dict[str, Any]]:
    """Train, unless it was done before; the records, with one of what ended a run that did not end well."""
    trainer, lost = Trainer(config, folder), []
    try:
        trainer.run(resume=True)
    except InputError as error:
        lost = [{"split": "lost", "reason": str(error)}]
    return read_metrics(folder / METRICS_NAME) + lost


def spikes(norms: list[float]) -> int:
    """How many norms are over `SPIKE` times the median of those around them, from step `AROUND` on."""
    found = 0
    for place in range(AROUND, len(norms)):
        near = norms[place - AROUND : place] + norms[place + 1 : place + 1 + AROUND]
        found += norms[place] > SPIKE * statistics.median(near)
    return found


def figures(records: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """What one run showed; chunk lengths and their spread are those of the last half of the steps."""
    training = [record for record in records if record["split"] == "train"]
    validation = [record for record in records if record["split"] == "valid"]
    curve = [(record["step"], round(1 / record["chunk_fraction"][0], 3)) for record in training]
    lengths = [length for _, length in curve[steps // 2 :]]
    norms = [record["gradient_norm"] for record in training]
    tail = [record["bits_per_base"] for record in training[-max(steps // 10, 1) :]]
    return {
        "finished": len(training) == steps,
        "valid_bits_per_base": validation[-1]["bits_per_base"] if validation else None,
        "train_bits_per_base": statistics.fmean(tail) if tail else None,
        "letters_a_chunk": statistics.fmean(lengths) if lengths else None,
        "spread_of_letters_a_chunk": statistics.pstdev(lengths) if lengths else None,
        "gradient_norm_median": statistics.median(norms) if norms else None,
        "gradient_norm_largest_behind_warmup": max(norms[steps // 10 :], default=None),
        "gradient_norm_spikes": spikes(norms),
        "letters_a_chunk_at_step": curve[:: max(steps // 40, 1)],
    }


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line a weight: the mean over the seeds, and for bits per base their range."""
    lines = []
    for weight in sorted({run["ratio_weight"] for run in runs}):
        of_weight = [run for run in runs if run["ratio_weight"] == weight]
        line = {"ratio_weight": weight, "seeds": len(of_weight)}
        line["finished"] = sum(run["finished"] for run in of_weight)
        for key in ("valid_bits_per_base", "letters_a_chunk", "spread_of_letters_a_chunk"):
            values = [run[key] for run in of_weight if run[key] is not None]
            line[key] = statistics.fmean(values) if values else None
            if key == "valid_bits_per_base" and values:
                line["range_of_valid_bits_per_base"] = max(values) - min(values)
        line["gradient_norm_spikes"] = sum(run["gradient_norm_spikes"] for run in of_weight)
        lines.append(line)
    return lines


def markdown(lines: list[dict[str, Any]]) -> str:
    """The table of docs/training.md."""
    rows = [
        "| `ratio_weight` | seeds | bits per base | letters a chunk | their spread | spikes of the gradient norm |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        half = line.get("range_of_valid_bits_per_base", 0.0) / 2
        bits = f"{line['valid_bits_per_base']:.4f}" + (f" ± {half:.4f}" if line["seeds"] > 1 else "")
        rows.append(
            f"| {line['ratio_weight']} | {line['seeds']} | {bits} | {line['letters_a_chunk']:.2f} | "
            f"{line['spread_of_letters_a_chunk']:.2f} | {line['gradient_norm_spikes']} |"
        )
    return "\n".join(rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratio_weight")
    parser.add_argument("--weights", type=float, nargs="+", default=list(WEIGHTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--validation-windows", type=int, default=256)
    parser.add_argument("--runs", type=Path, help="where runs are kept; without it they are thrown away")
    parser.add_argument("--collect", action="store_true", help="train nothing, read the runs that are done")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "ratio_weight_cpu.json")
    return parser.parse_args(arguments)


def main() -> None:
    """Train, print the table, and write JSON."""
    options = parse()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        shards = folder / f"shards_{options.window}"
        if not options.collect:
            make_shards(shards, options.window)
        for seed in options.seeds:
            for weight in options.weights:
                run = folder / f"weight_{weight}_seed_{seed}"
                if not options.collect:
                    records = train(settings(options, shards, weight, seed), run)
                elif (run / "model.safetensors").is_file():
                    records = read_metrics(run / METRICS_NAME)
                else:
                    continue
                runs.append({"ratio_weight": weight, "seed": seed, **figures(records, options.steps)})
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    lines = summary(runs)
    about = describe_run("cpu") | {
        "threads": 1,
        "cores": len(os.sched_getaffinity(0)),
        "target_chunk_length": TARGET,
    }
    about |= {"model": small_model(options.width), "letters_a_step": options.window * options.batch_size}
    write_result(options.output, about | {"summary": lines, "runs": runs})
    print(markdown(lines))


if __name__ == "__main__":
    main()
