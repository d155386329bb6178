"""Where the time of a training step goes: `python -m benchmarks.step_trace`, from the repository's root.

Trains a model on random letters with what `genotok train` runs, and looks at steady steps, those behind the
`--warmup`:

1. between two synchronised clocks: milliseconds a step, of these how many the host works and does not wait for the
   numbers of the step before, and bases a second;
2. with `torch.cuda.set_sync_debug_mode("warn")`: each line of code that makes the host wait for the device;
3. under `torch.profiler`: the share of the time in which the device works, launches, waits and copies a step, and
   the kernels that take longest;
4. with `torch.cuda.set_sync_debug_mode("error")`, in which any wait is an error: whether the steps pass.

`--tiny` trains a small model on the CPU, where only `aten::_local_scalar_dense` and `aten::nonzero` can be counted:
it shows that the benchmark runs and nothing else.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import ceilings, describe_run, write_result
from benchmarks.scaling import TINY, random_shards
from genotok.kernels.transfers import OnItsWay
from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer
from genotok.training.monitor import METRICS_NAME, read_metrics

RESULTS = Path(__file__).parent / "results"
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
READ_BY_HOST = ("aten::_local_scalar_dense", "aten::nonzero", "aten::item")
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


def settings_of(arguments: argparse.Namespace, shards: Path, steps: int) -> dict[str, Any]:
    """The settings of the run, as JSON values."""
    settings = {
        "shards": str(shards),
        "model": TINY if arguments.tiny else arguments.model,
        "steps": steps,
        "batch_size": arguments.batch_size,
        "device": "cpu" if arguments.tiny else "cuda",
        "precision": "fp32" if arguments.tiny else "bf16",
        "log_every": arguments.log_every,
        "warmup": 0.0,
        "threads": 1,
        "loader_workers": 0 if arguments.tiny else 2,
    }
    return settings | json.loads(arguments.settings)


class Phases:
    """Runs a training in phases of some steps each, and finds what each phase is to find.

    Args:
        trainer: at the beginning of its run.
        bases: letters a step.
        steps: of each phase behind the warm-up.
        warmup: steps before the first phase.
    """

    def __init__(self, trainer: Trainer, bases: int, steps: int, warmup: int):
        self.trainer, self.bases, self.steps, self.warmup = trainer, bases, steps, warmup
        self.on_gpu = trainer.device.type == "cuda"
        self.found: dict[str, Any] = {}
        self._step = trainer._train_step
        trainer._train_step = self._looked_at
        self._done = 0
        phases = [self._timed, *([self._warned] if self.on_gpu else []), self._profiled]
        phases += [self._forbidden] if self.on_gpu else []
        self._phases = [phase for phase in phases for _ in range(steps)]
        self._state: Any = None
        self._waited = 0.0

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.warmup + len(self._phases)

    def _looked_at(self, *arguments: Any) -> None:
        place = self._done - self.warmup
        self._done += 1
        if place < 0:
            self._step(*arguments)
            return
        within = place % self.steps
        self._phases[place](lambda: self._step(*arguments), within == 0, within == self.steps - 1)

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def _timed(self, step: Callable[[], None], first: bool, last: bool) -> None:
        if first:
            self._wait()
            if self.on_gpu:
                torch.cuda.reset_peak_memory_stats()
            self._state, self._waited = time.perf_counter(), 0.0
        with self._waiting_timed():
            step()
        if last:
            handed_over = time.perf_counter()
            self._wait()
            seconds = (time.perf_counter() - self._state) / self.steps
            worked = (handed_over - self._state - self._waited) / self.steps
            self.found["milliseconds_a_step"] = seconds * 1e3
            self.found["host_works_milliseconds"] = worked * 1e3
            self.found["bases_per_second"] = self.bases / seconds
            if self.on_gpu:
                self.found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30

    @contextmanager
    def _waiting_timed(self) -> Iterator[None]:
        """A block in which the time is noted that the host waits for numbers of the step before."""
        read = OnItsWay.read

        def timed(numbers: OnItsWay) -> list[float]:
            began = time.perf_counter()
            found = read(numbers)
            self._waited += time.perf_counter() - began
            return found

        OnItsWay.read = timed
        try:
            yield
        finally:
            OnItsWay.read = read

    def _warned(self, step: Callable[[], None], first: bool, last: bool) -> None:
        if first:
            self._state = Counter()
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as met:
            warnings.simplefilter("always")
            step()
        torch.cuda.set_sync_debug_mode("default")
        for one in met:
            if "synchroniz" in str(one.message):
                self._state[f"{_short(one.filename)}:{one.lineno}"] += 1
        if last:
            self.found["waits_by_line"] = {
                line: count / self.steps for line, count in self._state.most_common()
            }
            self.found["waits_a_step"] = self._state.total() / self.steps

    def _profiled(self, step: Callable[[], None], first: bool, last: bool) -> None:
        if first:
            self._wait()
            activities = [torch.profiler.ProfilerActivity.CPU]
            activities += [torch.profiler.ProfilerActivity.CUDA] if self.on_gpu else []
            self._state = torch.profiler.profile(activities=activities)
            self._state.start()
        step()
        if last:
            self._wait()
            self._state.stop()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "trace.json"
                self._state.export_chrome_trace(str(path))
                events = json.loads(path.read_text())["traceEvents"]
            self.found["profile"] = summary(events, self.steps)

    def _forbidden(self, step: Callable[[], None], first: bool, last: bool) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        except RuntimeError as error:
            self.found["passes_without_waiting"] = False
            self.found["first_wait"] = str(error).split("\n")[0]
            raise
        finally:
            torch.cuda.set_sync_debug_mode("default")
        self.found["passes_without_waiting"] = True


def summary(events: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """What a chrome trace of some steps says; numbers are a step's."""
    named = Counter(event["name"] for event in events if event.get("ph") == "X")
    device = [event for event in events if event.get("cat") in ON_DEVICE]
    launches = sum(
        event.get("cat") in ("cuda_runtime", "cuda_driver") and "Launch" in event["name"] for event in events
    )
    found: dict[str, Any] = {
        "launches": launches / steps,
        **{name: named[name] / steps for name in (*WAITS, *READ_BY_HOST)},
        "copies_to_host": sum("DtoH" in event["name"] for event in device) / steps,
    }
    if device:
        begin = min(event["ts"] for event in device)
        end = max(event["ts"] + event["dur"] for event in device)
        busy = _covered([(event["ts"], event["ts"] + event["dur"]) for event in device])
        found |= {"device_busy": busy / (end - begin), "device_milliseconds": busy / steps / 1e3}
    work = [event for event in events if event.get("cat") == ("kernel" if device else "cpu_op")]
    taken, counts = Counter(), Counter()
    for event in work:
        taken[event["name"]] += event["dur"]
        counts[event["name"]] += 1
    found["longest"] = [
        {"name": name[:120], "milliseconds": time_ / steps / 1e3, "calls": counts[name] / steps}
        for name, time_ in taken.most_common(25)
    ]
    return found


def _covered(intervals: list[tuple[float, float]]) -> float:
    """How much of the time line some intervals cover."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


def _short(path: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[-3:])


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train, and look at it."""
    shards = random_shards(folder, 4 * arguments.batch_size * arguments.window, arguments.window)
    phases = [4, 2][arguments.tiny] * arguments.steps
    config = TrainConfig(**settings_of(arguments, shards, arguments.warmup + phases))
    trainer = Trainer(config, folder / "run")
    looked = Phases(trainer, arguments.batch_size * arguments.window, arguments.steps, arguments.warmup)
    try:
        trainer.run()
    except RuntimeError:
        if "first_wait" not in looked.found:
            raise
    records = read_metrics(folder / "run" / METRICS_NAME)
    fractions = [record["chunk_fraction"] for record in records if "chunk_fraction" in record]
    again = {"steps_without_room": trainer.room.exceeded} if config.chunk_capacity else {}
    return looked.found | {"chunk_fraction": fractions[-1]} | again


def print_table(found: dict[str, Any]) -> None:
    """The figures for people."""
    profile = found.pop("profile")
    longest = profile.pop("longest")
    for key, value in (found | profile).items():
        print(f"{key}: {value}")
    for line in longest:
        print(f"{line['milliseconds']:9.3f} ms {line['calls']:7.1f} x {line['name']}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults follow the device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_trace")
    parser.add_argument("--model", default="hnet_1stage_dna", help="a preset or a .json file")
    parser.add_argument("--settings", default="{}", help="further settings of `genotok train`, as JSON")
    parser.add_argument("--window", type=int, help="default: 8192, with --tiny 64")
    parser.add_argument("--batch-size", type=int, help="default: 16, with --tiny 4")
    parser.add_argument("--steps", type=int, default=10, help="of each phase")
    parser.add_argument("--warmup", type=int, default=12, help="steps before the first phase")
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--tiny", action="store_true", help="a small model, on the CPU")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    options.window = options.window or (64 if options.tiny else 8192)
    options.batch_size = options.batch_size or (4 if options.tiny else 16)
    return options


def main() -> None:
    """Measure, print the table, and write JSON."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    about = describe_run("cpu" if options.tiny else "cuda", options.commit)
    device = "cpu" if options.tiny else about["device"].split()[1].lower()
    keys = ("model", "settings", "window", "batch_size", "log_every", "tiny")
    asked = {key: getattr(options, key) for key in keys}
    limits = {} if options.tiny else {"ceilings": ceilings()}
    write_result(
        options.output or RESULTS / f"step_trace_{device}.json", {**about, **asked, **limits, **found}
    )
    print_table(found)


if __name__ == "__main__":
    main()
