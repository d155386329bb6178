"""The training loop."""

import contextlib
import hashlib
import itertools
import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from genotok.atomic import sha256_of, sole_writer
from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.pretrained.main_network import weights_file
from genotok.progress import Progress, progress
from genotok.shards.sampler import Batch
from genotok.training.checkpoint import list_checkpoints, load_checkpoint, read_state, save_checkpoint
from genotok.training.config import TrainConfig
from genotok.training.curriculum import value_at
from genotok.training.data import TrainingData, training_data
from genotok.training.entropies import needs_calibration, with_entropy_model
from genotok.training.labelled import LabelledBatch
from genotok.training.measures import MEASURES, validation_record
from genotok.training.monitor import Monitor
from genotok.training.objective import Objective, objective
from genotok.training.optimizer import make_optimizer
from genotok.training.precision import autocast, choose_device
from genotok.training.schedule import warmup_stable_decay
from genotok.training.start import choose_task, starting_config, starting_model


class Terminated(Exception):
    """The process was asked to end (SIGTERM) and has written a checkpoint."""


class Trainer:
    """Trains one model on one device.

    Args:
        config: settings of the run.
        folder: where the run is written: `config.json`, `model.safetensors` and `README.md` at the end,
            `metrics.jsonl`, `tensorboard/`, and `checkpoints/`.
    """

    def __init__(self, config: TrainConfig, folder: Path):
        self.config, self.folder = config, folder
        self.device = choose_device(config.device)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        torch.use_deterministic_algorithms(self.device.type == "cpu")
        model_config, entropy_model = with_entropy_model(starting_config(config), config)
        self.task = choose_task(config, model_config)
        self.data = training_data(config, model_config, self.task)
        self.batches, self.validation = self.data.batches, self.data.validation
        self.batches.pin = self.device.type == "cuda"
        self.model = starting_model(config, model_config)
        if entropy_model is not None:
            self.model.entropy_model.load_state_dict(entropy_model.state_dict())
        self.model.to(self.device)
        if config.freeze_backbone:
            freeze_all_but_heads(self.model)
        self.optimizer = make_optimizer(self.model, config)
        self.identity = run_identity(config, self.model, self.data)
        self.calibrates = needs_calibration(self.model, bool(self.data.windows))
        self.data.read_columns(self.model)
        self.step = 0

    def run(self, resume: bool = False, restart_if_changed: bool = False) -> None:
        """Train to the last step and write the model.

        Args:
            resume: go on from the latest checkpoint, if there is one.
            restart_if_changed: begin anew where the checkpoint is of other settings or other data, instead of
                refusing to go on.

        Raises:
            InputError: the folder holds a run and `resume` is not set, the checkpoint is of another run, or
                the loss is no longer a number.
            Terminated: SIGTERM came; a checkpoint has been written.
        """
        with sole_writer(self.folder), contextlib.closing(self.batches):
            records = self._find_start(resume, restart_if_changed)
            if self.calibrates and self.step == 0:
                self.data.calibrate(self.model)
            self._run_to_end(Monitor(self.folder, self.step, records))

    def _run_to_end(self, monitor: Monitor) -> None:
        total = self.data.units_before(self.config.steps)
        with progress("train", total, self.data.unit) as bar, sigterm_noted() as terminated:
            bar.resume_at(self.data.units_before(self.step))
            while self.step < self.config.steps:
                self._train_step(monitor, bar)
                self._validate_and_save(monitor)
                if terminated():
                    self.save_checkpoint(monitor.records)
                    monitor.close()
                    raise Terminated(f"{self.folder}: stopped at step {self.step}; go on with --resume")
        monitor.close()
        self.model.save_pretrained(self.folder)

    def _find_start(self, resume: bool, restart_if_changed: bool) -> str:
        """Load the checkpoint to go on from, if any; returns the metrics up to it."""
        checkpoints = list_checkpoints(self.folder / "checkpoints")
        if not checkpoints:
            return ""
        if not resume:
            raise InputError(
                f"{self.folder}: holds a run already; go on with --resume or choose another folder"
            )
        state = read_state(checkpoints[-1])
        if state["identity"] == self.identity:
            load_checkpoint(checkpoints[-1], self.model, self.optimizer)
            self.step = state["step"]
            if self.calibrates:
                self.model.set_entropy_threshold(state["entropy_threshold"])
            self.batches.restore(state["sampler"])
            return state["metrics"]
        if not restart_if_changed:
            raise InputError(
                f"{checkpoints[-1]}: is a checkpoint of other settings or other data; choose another folder"
            )
        print(f"{self.folder}: settings or data have changed; training begins anew", file=sys.stderr)
        for left in ("checkpoints", "tensorboard"):
            shutil.rmtree(self.folder / left, ignore_errors=True)
        return ""

    def _train_step(self, monitor: Monitor, bar: Progress) -> None:
        began = time.monotonic()
        config = self.config
        factor = warmup_stable_decay(self.step, config.steps, config.warmup, config.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        batch = next(self.batches).to(self.device)
        self.model.train()
        with autocast(self.device, config.precision):
            losses = objective(
                self.model,
                batch,
                value_at(config.target_chunk_length, batch.step),
                config.ratio_weight,
                batch.task,
                config.label_smoothing,
            )
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self._stop_if_lost(losses, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        measure, unit = MEASURES[batch.task], self.data.unit
        done = batch.bases if unit == "bases" else len(batch.lengths)
        bar.advance(done, f"step {self.step}, {losses.nats.item() * measure.per_nat:.4f} {measure.unit}")
        if batch.turn % config.log_every == 0 or self.step == config.steps:
            record = train_record(losses, norm, factor * config.learning_rate, batch.task)
            record = data_labels(batch) | record
            monitor.write(self.step, "train", record)
            monitor.show(self.step, f"train/{unit}_per_second", done / (time.monotonic() - began))

    def _stop_if_lost(self, losses: Objective, norm: torch.Tensor) -> None:
        if math.isfinite(losses.total.item()) and math.isfinite(norm.item()):
            return
        last = list_checkpoints(self.folder / "checkpoints")
        hint = f"the latest checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
        raise InputError(
            f"{self.folder}: the loss or its gradient is no number any more at step {self.step + 1} "
            f"(loss {losses.total.item()}, gradient norm {norm.item()}); {hint}; "
            "try a lower learning_rate, a longer warmup, or a lower ratio_weight"
        )

    def _validate_and_save(self, monitor: Monitor) -> None:
        config, last = self.config, self.step == self.config.steps
        due = last or (config.validate_every and self.step % config.validate_every == 0)
        if due and self.validation:
            for record in self.validate():
                monitor.write(self.step, "valid", record)
        if last or (config.checkpoint_every and self.step % config.checkpoint_every == 0):
            self.save_checkpoint(monitor.records)

    def validate(self) -> list[dict[str, Any]]:
        """The numbers of each data set's validation batches; see `genotok.training.measures`."""
        self.model.eval()
        records = []
        for _, group in itertools.groupby(self.validation, key=lambda batch: batch.data):
            batches = list(group)
            record = validation_record(self.model, batches, batches[0].task, self.config.precision)
            records.append(data_labels(batches[0]) | record)
        return records

    def save_checkpoint(self, metrics: str) -> None:
        """Write a checkpoint of the current step, with the metrics up to it."""
        state = {"identity": self.identity, "sampler": self.batches.state(), "metrics": metrics}
        if self.calibrates:
            state["entropy_threshold"] = self.model.backbone.chunker.threshold
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, self.step, self.model, self.optimizer, state, self.config.keep_checkpoints)


def train_record(losses: Objective, norm: torch.Tensor, rate: float, task: str) -> dict[str, Any]:
    """The numbers of one training step; `chunk_fraction` is chunks per token, one value a stage."""
    fractions = [boundaries.mask.float().mean().item() for boundaries in losses.output.packed_boundaries]
    measure, heads = MEASURES[task], {}
    if task == "prediction":
        heads = {f"loss_{name}": loss.item() for name, loss in losses.output.losses.items()}
    return {
        measure.key: losses.nats.item() * measure.per_nat,
        **heads,
        "ratio_loss": losses.ratio.item(),
        "gradient_norm": norm.item(),
        "learning_rate": rate,
        "chunk_fraction": fractions,
    }


def data_labels(batch: Batch | LabelledBatch) -> dict[str, str]:
    """What a record says about the data set and the task of a batch; nothing where the run has one data set."""
    return {"data": batch.data, "task": batch.task} if batch.data else {}


def freeze_all_but_heads(model: GenomicLM) -> None:
    """Let only the heads of the task `prediction` learn."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("heads."))


def run_identity(config: TrainConfig, model: GenomicLM, data: TrainingData) -> str:
    """A hash of all that fixes the weights and the metrics: settings, architecture, data and first weights."""
    values = {"settings": config.identity(), "model": model.config.to_dict(), "files": data.files}
    if config.init is not None:
        values["init"] = model.content_hash()
    if config.main_network is not None:
        values["main_network_weights"] = sha256_of(weights_file(config.main_network.ntv2))
    if model.entropy_model is not None:
        values["entropy_model"] = model.entropy_model.content_hash()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def sigterm_noted() -> Iterator:
    """Within the block SIGTERM sets a flag instead of ending the process; yields a function that reads it."""
    flag: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: flag.append(number))
    try:
        yield lambda: bool(flag)
    finally:
        signal.signal(signal.SIGTERM, before)
