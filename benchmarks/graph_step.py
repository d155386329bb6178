"""Training steps replayed as CUDA graphs beside launched ones: `python -m benchmarks.graph_step [-o FILE.json]`.

What `genotok train` runs, on random letters and with chunks that the model chooses, three times a model from the
same seed: as launched from Python, the same again, and with `cuda_graph`. Of each step the loss and the norm of the
gradient are held against those of the first run, within a tolerance that is stated; the second run shows what is
chance, since sums on a GPU have no fixed order and a boundary that falls otherwise changes what follows. Then the
speed of whole steps, with clipping and optimizer, between synchronised clocks. The learning rate is so low that
chunks find room.

`--tiny` is a small model on the CPU, which runs each pass again over the same memory: it shows that the benchmark
works and no more.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import Row
from benchmarks.machine import describe_run, write_result
from benchmarks.scaling import TINY, random_shards
from genotok.training.config import CHECKPOINTING, TrainConfig
from genotok.training.loop import Trainer
from genotok.training.recorded_passes import CudaGraphs, Recorder, SameMemory

MODELS = ("hnet M15", "hnet T15")
WAYS = ("launched", "launched_again", "graph")
# Of the loss in nats a base, and of the gradient's norm as a share: in all steps, and in the first five.
TOLERANCE = {"loss": (0.01, 0.001), "norm": (0.2, 0.02)}
FIRST = 5


@dataclass
class Counted:
    """A recorder whose recordings and replays are counted.

    Attributes:
        recorder: who records.
        recordings, replays: how many.
    """

    recorder: Recorder
    recordings: int = 0
    replays: int = 0

    def aside(self) -> AbstractContextManager:
        """As of the recorder."""
        return self.recorder.aside()

    def recorded(self, run: Callable[[], None]) -> Callable[[], None]:
        """As of the recorder."""
        once, self.recordings = self.recorder.recorded(run), self.recordings + 1

        def replay() -> None:
            self.replays += 1
            once()

        return replay

    def forget(self) -> None:
        """As of the recorder."""
        self.recorder.forget()


@dataclass
class Curve:
    """What the steps of a run gave.

    Attributes:
        losses: nats a base.
        norms: of the gradient.
        fractions: of the rows that begin a chunk, in the outermost stage.
        found: speed and memory.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)


def config_of(options: argparse.Namespace, shards: Path, name: str, way: str) -> TrainConfig:
    """The settings of a run."""
    model = TINY if options.tiny else Row(name, options.window, "nucleotide").config().to_dict()
    return TrainConfig(
        shards=str(shards),
        model=model,
        steps=options.warmup + options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup=0.0,
        device="cpu" if options.tiny else "cuda",
        precision="fp32" if options.tiny else "bf16",
        threads=1,
        log_every=10,
        loader_workers=0 if options.tiny else 2,
        chunk_capacity=[options.room],
        accumulate=options.accumulate,
        activation_checkpointing=options.checkpointing,
        compile=options.compile,
        cuda_graph=way == "graph",
    )


def train(options: argparse.Namespace, shards: Path, folder: Path, name: str, way: str) -> Curve:
    """A run, looked at step by step."""
    curve, on_gpu = Curve(), not options.tiny
    recorder = Counted(CudaGraphs(torch.device("cuda")) if on_gpu else SameMemory())
    trainer = Trainer(config_of(options, shards, name, way), folder, recorder)
    # What a run leaves takes longer to write than what is measured.
    trainer.save_checkpoint = trainer._save_model = lambda *_: None
    note, whole_step, clock = trainer.watch.note, trainer._train_step, []

    def noted(monitor: Any, taken: Any, work: Any) -> None:
        losses, norm, _ = taken.numbers
        curve.losses.append(losses.nats)
        curve.norms.append(norm)
        curve.fractions.append(losses.stages[0].chunks / losses.stages[0].rows)
        note(monitor, taken, work)

    def timed(*arguments: Any) -> None:
        whole_step(*arguments)
        if trainer.step in (options.warmup, options.warmup + options.steps):
            if on_gpu:
                torch.cuda.synchronize()
            clock.append(time.perf_counter())

    trainer.watch.note, trainer._train_step = noted, timed
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer.run()
    milliseconds = (clock[1] - clock[0]) / options.steps * 1e3
    curve.found = {
        "milliseconds_a_step": milliseconds,
        "mbases_s": options.batch_size * options.window / milliseconds / 1e3,
        "steps_without_room": trainer.room.exceeded,
        "recordings": recorder.recordings,
        "replays": recorder.replays,
    }
    if on_gpu:
        curve.found["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return curve


def apart(one: Curve, other: Curve) -> dict[str, float]:
    """How far two runs are apart at most, in all steps and in the first."""
    losses = [abs(a - b) for a, b in zip(one.losses, other.losses, strict=True)]
    norms = [abs(a / b - 1) for a, b in zip(one.norms, other.norms, strict=True)]
    return {
        "loss": max(losses),
        "loss_of_first": max(losses[:FIRST]),
        "norm": max(norms),
        "norm_of_first": max(norms[:FIRST]),
    }


def compared(name: str, curves: dict[str, Curve], steps: int, replays_a_step: int) -> dict[str, Any]:
    """The figures of a model, and whether its replayed steps are those that were launched."""
    graph = apart(curves["graph"], curves["launched"])
    agrees = all(
        graph[key] <= most and graph[f"{key}_of_first"] <= first for key, (most, first) in TOLERANCE.items()
    )
    # All steps but the first, whose shape is new.
    replayed = curves["graph"].found["replays"] == (steps - 1) * replays_a_step
    return {
        "model": name,
        **{way: curve.found for way, curve in curves.items()},
        "times_faster": curves["graph"].found["mbases_s"] / curves["launched"].found["mbases_s"],
        "graph_and_launched": graph,
        "launched_twice": apart(curves["launched_again"], curves["launched"]),
        "chunk_fraction": [curves["launched"].fractions[0], curves["launched"].fractions[-1]],
        "losses": {way: curve.losses for way, curve in curves.items()},
        "norms": {way: curve.norms for way, curve in curves.items()},
        "all_steps_replayed": replayed,
        "agrees": agrees and replayed,
    }


def printed(line: dict[str, Any]) -> str:
    """The figures of a model for people."""
    speeds = [f"{line[way]['mbases_s']:.3f}" for way in WAYS]
    differences = [
        f"{key} {line['graph_and_launched'][key]:.1e} (by chance {line['launched_twice'][key]:.1e})"
        for key in line["launched_twice"]
    ]
    without = [line[way]["steps_without_room"] for way in WAYS]
    return "\n".join(
        [
            f"{line['model']}: {speeds[0]} and {speeds[1]} Mbases/s launched, {speeds[2]} replayed, "
            f"{line['times_faster']:.2f} times",
            f"  largest differences: {', '.join(differences)}",
            f"  chunks {line['chunk_fraction'][0]:.3f} to {line['chunk_fraction'][1]:.3f} of the rows, steps without "
            f"room {without}, recordings {line['graph']['recordings']}, replays {line['graph']['replays']}",
            f"  agrees within {TOLERANCE}: {line['agrees']}",
        ]
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; sizes follow the device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_step")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--window", type=int, help="default: 8192, with --tiny 64")
    parser.add_argument("--batch-size", type=int, help="default: 16, with --tiny 4")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument(
        "--warmup", type=int, default=4, help="steps in front of these; the second is recorded"
    )
    parser.add_argument("--room", type=float, help="chunk_capacity; default: 0.5, with --tiny 1")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--checkpointing", default="none", choices=CHECKPOINTING)
    parser.add_argument("--compile", action="store_true", help="blocks, in all three runs")
    parser.add_argument("--tiny", action="store_true", help="a small model, on the CPU")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    options.window = options.window or (64 if options.tiny else 8192)
    options.batch_size = options.batch_size or (4 if options.tiny else 16)
    options.room = options.room or (1.0 if options.tiny else 0.5)
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: this benchmark needs one, or --tiny")
    return options


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A line a model."""
    shards, lines = random_shards(folder, 4 * options.batch_size * options.window, options.window), []
    for name in options.models:
        curves = {}
        for way in WAYS:
            curves[way] = train(options, shards, folder / f"{name} {way}", name, way)
            gc.collect()
            if not options.tiny:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
        passes = options.accumulate * (
            1 if options.accumulate == 1 else 2
        )  # those that count chunks included
        lines.append(compared(name, curves, options.warmup + options.steps, passes))
        print(printed(lines[-1]), flush=True)
    return lines


def main() -> None:
    """Train, print, and write; exit code 1 where replayed steps are others."""
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        lines = measure(options, Path(name))
    if options.output:
        keys = (
            "window",
            "batch_size",
            "steps",
            "warmup",
            "room",
            "learning_rate",
            "accumulate",
            "checkpointing",
        )
        settings = {key: getattr(options, key) for key in (*keys, "compile", "tiny")}
        about = describe_run("cpu" if options.tiny else "cuda", options.commit)
        write_result(options.output, {**about, **settings, "tolerance": TOLERANCE, "models": lines})
    if not all(line["agrees"] for line in lines):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
