"""How much faster several GPUs train than one: `python -m benchmarks.scaling SHARDS`, from the repository's root.

Trains the preset `hnet_1stage_dna` (65 million parameters) for a number of steps with each number of ranks, by
`torchrun` and what `genotok train` runs, on the same global batch, or with `--weak` on a batch for each rank. Bases
a second are those of the steps behind the first `--warmup`, between synchronised clocks of the first rank. `--tiny`
trains a small model on random letters and on the CPU (gloo), which shows that the benchmark runs and nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe_run, write_result

RESULTS = Path(__file__).parent / "results"
TINY = {
    "layout": ["m1", ["T1"], "m1"],
    "d_model": [16, 24],
    "d_intermediate": [0, 32],
    "attention": {"heads": 2, "rotary_dim": 4, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 16},
}


def settings_of(arguments: argparse.Namespace, shards: Path, ranks: int) -> dict[str, Any]:
    """The settings of a run, as JSON values."""
    return {
        "shards": str(shards),
        "model": TINY if arguments.tiny else arguments.model,
        "steps": arguments.warmup + arguments.steps,
        "batch_size": arguments.batch_size * (ranks if arguments.weak else 1),
        "parallel": arguments.parallel,
        "device": "cpu" if arguments.tiny else "cuda",
        "log_every": arguments.warmup + arguments.steps,
        "warmup": 0.0,
        "threads": 1,
        "loader_workers": 0 if arguments.tiny else 2,
    }


def measure(settings: dict[str, Any], warmup: int, ranks: int) -> dict[str, Any]:
    """Run a training with some ranks, each a process of this module; what the first rank measured."""
    with tempfile.TemporaryDirectory() as scratch:
        job, result = Path(scratch) / "job.json", Path(scratch) / "result.json"
        job.write_text(json.dumps({"settings": settings, "warmup": warmup, "folder": f"{scratch}/run"}))
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        program = ["-m", "benchmarks.scaling", "--job", str(job), "--result", str(result)]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        subprocess.run([sys.executable, *launch, *program], check=True, env=environment)
        return json.loads(result.read_text())


def train_timed(job: Path, result: Path) -> None:
    """What each rank does: train, with a clock around each step."""
    from genotok.training.config import TrainConfig
    from genotok.training.distributed import leave
    from genotok.training.loop import Trainer

    values = json.loads(job.read_text())
    trainer = Trainer(TrainConfig(**values["settings"]), Path(values["folder"]))
    whole_step, times = trainer._train_step, []

    def timed(*arguments: Any) -> None:
        whole_step(*arguments)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic())

    trainer._train_step = timed
    trainer.run()
    if trainer.ranks.first:
        took = times[-1] - times[values["warmup"] - 1]
        steps = len(times) - values["warmup"]
        window = trainer.batches.data_sets[0].letters
        bases = steps * trainer.config.batch_size * window
        peak = torch.cuda.max_memory_allocated() / 2**30 if trainer.device.type == "cuda" else None
        seconds = {
            "seconds_a_step": took / steps,
            "bases_per_second": bases / took,
            "peak_gib_first_rank": peak,
        }
        result.write_text(json.dumps(seconds))
    leave()


def random_shards(folder: Path, letters: int, window: int) -> Path:
    """Shards of so many random letters."""
    from genotok.shards.writer import tokenize_genomes

    drawn = np.random.default_rng(1).choice(np.frombuffer(b"ACGT", np.uint8), letters)
    (folder / "random.fa").write_bytes(b">c\n" + drawn.tobytes() + b"\n")
    tokenize_genomes([folder / "random.fa"], folder / "shards", window=window)
    return folder / "shards"


def main() -> None:
    """Measure with each number of ranks, print bases a second and ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", nargs="?", type=Path, help="windows of 8192 letters suit the preset")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--parallel", default="ddp", choices=["ddp", "fsdp"])
    parser.add_argument("--model", default="hnet_1stage_dna")
    parser.add_argument("--batch-size", type=int, default=64, help="windows a step, of all ranks")
    parser.add_argument("--weak", action="store_true", help="the batch grows with the ranks")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--tiny", action="store_true", help="a small model, random letters, the CPU")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "scaling.json")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is not None:
        train_timed(arguments.job, arguments.result)
        return
    if arguments.shards is None and not arguments.tiny:
        parser.error("SHARDS is needed, or else --tiny")
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        shards = random_shards(Path(scratch), 1 << 15, 128) if arguments.tiny else arguments.shards
        for ranks in arguments.ranks:
            found[ranks] = measure(settings_of(arguments, shards, ranks), arguments.warmup, ranks)
            ratio = found[ranks]["bases_per_second"] / found[arguments.ranks[0]]["bases_per_second"]
            found[ranks]["ratio"] = ratio
            print(f"{ranks} ranks: {found[ranks]['bases_per_second']:,.0f} bases/s, {ratio:.2f}x")
    settings = {
        key: getattr(arguments, key)
        for key in ("parallel", "model", "batch_size", "weak", "warmup", "steps", "tiny")
    }
    if arguments.tiny:
        settings["model"] = TINY
    described = describe_run("cpu" if arguments.tiny else "cuda", arguments.commit)
    write_result(arguments.output, {**described, **settings, "ranks": found})


if __name__ == "__main__":
    main()
