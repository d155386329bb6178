"""The training loop."""

import contextlib
import hashlib
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

from genotok.atomic import sole_writer
from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.likelihood import token_log_likelihood
from genotok.progress import Progress, progress
from genotok.shards.manifest import read_manifest
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import Batch, TrainingBatches, batches_in_order
from genotok.tokenizers import Tokenizer, load_tokenizer
from genotok.training.checkpoint import list_checkpoints, load_checkpoint, read_state, save_checkpoint
from genotok.training.config import TrainConfig
from genotok.training.monitor import Monitor
from genotok.training.objective import Objective, objective
from genotok.training.optimizer import make_optimizer
from genotok.training.precision import autocast, choose_device
from genotok.training.schedule import warmup_stable_decay


class Terminated(Exception):
    """The process was asked to end (SIGTERM) and has written a checkpoint."""


class Trainer:
    """Trains one model on one device.

    Args:
        config: settings of the run.
        folder: where the run is written: `config.json` and `model.safetensors` at the end, `metrics.jsonl`,
            `tensorboard/`, and `checkpoints/`.
    """

    def __init__(self, config: TrainConfig, folder: Path):
        self.config, self.folder = config, folder
        self.device = choose_device(config.device)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        torch.use_deterministic_algorithms(self.device.type == "cpu")
        dataset = ShardDataset(config.shards, "train")
        model_config = read_model_config(config.model)
        tokenizer = load_tokenizer(model_config.tokenizer)
        dataset.manifest.check_serves(tokenizer, "model.tokenizer: is")
        self.model = GenomicLM(model_config).to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.batches = TrainingBatches(
            dataset, config.batch_size, config.seed, config.both_strands, tokenizer
        )
        self.validation = validation_batches(config, tokenizer)
        self.identity = run_identity(config, model_config, dataset)
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
        with sole_writer(self.folder):
            records = self._find_start(resume, restart_if_changed)
            self._run_to_end(Monitor(self.folder, self.step, records))

    def _run_to_end(self, monitor: Monitor) -> None:
        total = self.config.steps * self.config.batch_size * self.batches.dataset.manifest.window
        with progress("train", total, "bases") as bar, sigterm_noted() as terminated:
            bar.resume_at(self.step * total // self.config.steps)
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
            losses = objective(self.model, batch, config.target_chunk_length, config.ratio_weight)
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self._stop_if_lost(losses, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        bits = losses.nats.item() / math.log(2)
        bar.advance(batch.bases, f"step {self.step}, {bits:.4f} bits/base")
        if self.step % config.log_every == 0 or self.step == config.steps:
            monitor.write(self.step, "train", train_record(losses, norm, factor * config.learning_rate))
            speed = batch.bases / (time.monotonic() - began)
            monitor.show(self.step, "train/bases_per_second", speed)

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
            monitor.write(self.step, "valid", {"bits_per_base": self.validate()})
        if last or (config.checkpoint_every and self.step % config.checkpoint_every == 0):
            self.save_checkpoint(monitor.records)

    def validate(self) -> float:
        """Bits per base over the validation windows."""
        self.model.eval()
        nats, count = 0.0, 0
        for batch in self.validation:
            batch = batch.to(self.device)
            with autocast(self.device, self.config.precision):
                likelihood, _ = token_log_likelihood(self.model, batch)
            nats -= likelihood.double().sum().item()
            count += batch.nucleotides
        return nats / count / math.log(2)

    def save_checkpoint(self, metrics: str) -> None:
        """Write a checkpoint of the current step, with the metrics up to it."""
        state = {"identity": self.identity, "sampler": self.batches.state(), "metrics": metrics}
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, self.step, self.model, self.optimizer, state, self.config.keep_checkpoints)


def train_record(losses: Objective, norm: torch.Tensor, rate: float) -> dict[str, Any]:
    """The numbers of one training step; `chunk_fraction` is chunks per token, one value a stage."""
    fractions = [boundaries.mask.float().mean().item() for boundaries in losses.output.packed_boundaries]
    return {
        "bits_per_base": losses.nats.item() / math.log(2),
        "ratio_loss": losses.ratio.item(),
        "gradient_norm": norm.item(),
        "learning_rate": rate,
        "chunk_fraction": fractions,
    }


def read_model_config(model: str | dict[str, Any]) -> ModelConfig:
    """The architecture that the key `model` names: a preset, a JSON file, or the configuration itself."""
    if isinstance(model, dict):
        try:
            return ModelConfig.from_dict(model)
        except InputError as error:
            raise InputError(f"model.{error}") from error
    return ModelConfig.from_json(model) if model.endswith(".json") else ModelConfig.preset(model)


def validation_batches(config: TrainConfig, tokenizer: Tokenizer) -> list[Batch]:
    """The first windows of the split `valid` in a model's tokens; none when the shards have no such split."""
    batches: list[Batch] = []
    _, manifest = read_manifest(config.shards)
    if not any(file.split == "valid" for file in manifest.files):
        return batches
    dataset = ShardDataset(config.shards, "valid")
    for windows, batch in batches_in_order(dataset, config.batch_size, tokenizer):
        batches.append(batch)
        if len(batches) * len(windows) >= config.validation_windows:
            break
    return batches


def run_identity(config: TrainConfig, model: ModelConfig, dataset: ShardDataset) -> str:
    """A hash of all that fixes the weights and the metrics: settings, architecture and data."""
    values = {"settings": config.identity(), "model": model.to_dict()}
    values["files"] = [[file.split, file.sha256] for file in dataset.manifest.files]
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
