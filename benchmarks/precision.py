"""Speed and loss of a training by precision: `python -m benchmarks.precision [--precisions fp32 bf16 fp16 fp8]`.

Trains the same model on the same windows of the embedded genomes once for every precision and seed, with what
`genotok train` runs, and sets the losses against those of bf16. Without --model it is a preset on a GPU and a tiny
model on the CPU, which shows that the benchmark works and no more.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_run, write_result
from benchmarks.ratio_weight import TARGET, make_shards, small_model
from genotok.training.config import TrainConfig
from genotok.training.float8 import Float8Linear
from genotok.training.loop import Trainer
from genotok.training.monitor import METRICS_NAME, SPEED_NAME, read_metrics
from genotok.training.precision import choose_device

RESULTS = Path(__file__).parent / "results"
AGAINST = "bf16"


def run_config(options: argparse.Namespace, shards: Path, precision: str, seed: int) -> TrainConfig:
    """The settings of one run."""
    return TrainConfig(
        shards=str(shards),
        model=options.model or small_model(32),
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        target_chunk_length=options.target_chunk_length,
        seed=seed,
        device=options.device,
        precision=precision,
        threads=options.threads,
        log_every=max(options.steps // 20, 1),
        validation_windows=options.validation_windows,
        keep_checkpoints=1,
    )


def measure(
    options: argparse.Namespace, shards: Path, folder: Path, precision: str, seed: int
) -> dict[str, Any]:
    """Train once; the figures of the run."""
    on_gpu = choose_device(options.device).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(run_config(options, shards, precision, seed), folder)
    trainer.run()
    records, speed = read_metrics(folder / METRICS_NAME), read_metrics(folder / SPEED_NAME)
    training = [record for record in records if record["split"] == "train"]
    late = [record["bits_per_base"] for record in training[-max(len(training) // 5, 1) :]]
    warm = [record for record in speed if "bases_per_second" in record][
        1:
    ]  # without what is compiled at first
    found = {
        "precision": precision,
        "ran_as": trainer.precision.name,
        "seed": seed,
        "float8_layers": sum(isinstance(module, Float8Linear) for module in trainer.model.modules()),
        "bases_per_second": round(statistics.median(record["bases_per_second"] for record in warm)),
        "train_bits_per_base": statistics.fmean(late),
        "valid_bits_per_base": [r for r in records if r["split"] == "valid"][-1]["bits_per_base"],
        "skipped_steps": training[-1].get("skipped_steps", 0),
        "alarms": [record["kind"] for record in records if record["split"] == "alarm"],
    }
    if on_gpu:
        found["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        found["mfu"] = warm[-1].get("mfu")
    return found


def table(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line a precision: speed as a multiple of bf16's, and bits per base less bf16's of the same seed."""
    base = {run["seed"]: run for run in runs if run["precision"] == AGAINST}
    lines = []
    for precision in dict.fromkeys(run["precision"] for run in runs):
        own = [run for run in runs if run["precision"] == precision]
        line = {"precision": precision, "ran_as": own[0]["ran_as"]}
        line["bases_per_second"] = round(statistics.median(run["bases_per_second"] for run in own))
        line["valid_bits_per_base"] = statistics.fmean(run["valid_bits_per_base"] for run in own)
        if base:
            line["times_bf16"] = statistics.median(
                run["bases_per_second"] / base[run["seed"]]["bases_per_second"] for run in own
            )
            for key in ("train_bits_per_base", "valid_bits_per_base"):
                line[f"{key}_less_bf16"] = statistics.fmean(run[key] - base[run["seed"]][key] for run in own)
        for key in ("peak_memory_gib", "mfu"):
            line |= {key: own[-1][key]} if own[-1].get(key) else {}
        lines.append(line)
    return lines


def markdown(lines: list[dict[str, Any]]) -> str:
    """The table of docs/training.md."""
    head = "| precision | bases a second | times bf16 | bits per base, validation | less bf16 | peak memory |"
    rows = [head, "|---" * 6 + "|"]
    for line in lines:
        times, less = (
            line.get("times_bf16", float("nan")),
            line.get("valid_bits_per_base_less_bf16", float("nan")),
        )
        name = line["precision"] + (
            "" if line["ran_as"] == line["precision"] else f" (ran as {line['ran_as']})"
        )
        memory = f"{line['peak_memory_gib']} GiB" if "peak_memory_gib" in line else ""
        rows.append(
            f"| {name} | {line['bases_per_second']:,} | {times:.2f} | {line['valid_bits_per_base']:.4f} | "
            f"{less:+.4f} | {memory} |"
        )
    return "\n".join(rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults follow the device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precisions", nargs="+", help="default: all on a GPU, fp32 and bf16 on the CPU")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--model", help="a preset or a .json file")
    parser.add_argument("--target-chunk-length", type=float, nargs="*", default=[TARGET])
    parser.add_argument("--steps", type=int, help="default: 400 on a GPU, 40 on the CPU")
    parser.add_argument("--window", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--validation-windows", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    on_gpu = choose_device(options.device).type == "cuda"
    options.precisions = options.precisions or ["fp32", "bf16", "fp16", "fp8"][: 4 if on_gpu else 2]
    options.model = options.model or ("hnet_1stage_dna" if on_gpu else None)
    options.steps = options.steps or (400 if on_gpu else 40)
    options.window = options.window or (8192 if on_gpu else 256)
    options.batch_size = options.batch_size or (16 if on_gpu else 4)
    options.output = options.output or RESULTS / f"precision_{'gpu' if on_gpu else 'cpu'}.json"
    return options


def main() -> None:
    """Train, print the table, and write JSON."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        shards = make_shards(Path(scratch) / "shards", options.window)
        runs = [
            measure(options, shards, Path(scratch) / f"{precision}_{seed}", precision, seed)
            for seed in options.seeds
            for precision in options.precisions
        ]
    device = choose_device(options.device)
    about = describe_run(device.type) | {"model": options.model or small_model(32), "steps": options.steps}
    lines = table(runs)
    write_result(options.output, about | {"table": lines, "runs": runs})
    print(markdown(lines))


if __name__ == "__main__":
    main()
