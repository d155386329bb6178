"""The training loop.

The loss of a step and its gradient are made in `genotok.training.step`, what ranks say to each other in
`genotok.training.distributed`, and how they share a model in `genotok.training.sharing`.
"""

import contextlib
import math
from pathlib import Path
from typing import Any

import torch

from genotok.atomic import sole_writer
from genotok.errors import InputError
from genotok.progress import Progress, progress
from genotok.training.averaging import Average
from genotok.training.block_execution import run_blocks
from genotok.training.checkpoint import RunTensors, list_checkpoints, load_checkpoint, save_checkpoint
from genotok.training.config import TrainConfig
from genotok.training.data import training_data
from genotok.training.distributed import Ranks
from genotok.training.entropies import needs_calibration, with_entropy_model
from genotok.training.freezing import freeze_all_but_heads, freeze_parts
from genotok.training.identity import run_identity
from genotok.training.interruption import Terminated, sigterm_noted
from genotok.training.lora import add_adapters
from genotok.training.measures import MEASURES
from genotok.training.monitor import Monitor
from genotok.training.objective import StepLosses
from genotok.training.optimizer import make_optimizer
from genotok.training.precision import Precision, choose_precision
from genotok.training.records import one_record, train_record, validation_records
from genotok.training.resuming import choose_checkpoint
from genotok.training.saving import drop_others, plain_model, save_best, take_best
from genotok.training.schedule import warmup_stable_decay
from genotok.training.selection import Selection
from genotok.training.sharing import clip_gradient
from genotok.training.start import choose_task, starting_config, starting_model
from genotok.training.step import GradientStep
from genotok.training.watch import Watch, Work


class Trainer:
    """Trains one model on one device, or together with other ranks.

    Args:
        config: settings of the run.
        folder: where the run is written: `config.json`, `model.safetensors` and `README.md` at the end,
            `metrics.jsonl`, `speed.jsonl`, `tensorboard/`, and `checkpoints/`. The first rank alone writes.
    """

    def __init__(self, config: TrainConfig, folder: Path):
        self.config, self.folder = config, folder
        self.ranks = Ranks.join(config.device, config.rank_timeout)
        self.device = self.ranks.device
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        torch.use_deterministic_algorithms(self.device.type == "cpu")
        with self.ranks.together():
            self._build()
        run_blocks(self.model, config.activation_checkpointing, config.compile)
        self.gradient = GradientStep(self.model, config, self.ranks, self.precision)
        with self.ranks.together():
            self.optimizer = make_optimizer(self.model, config)
        self.average = Average(self.model, config.ema_decay)
        self.tensors = RunTensors(self.model, self.optimizer, self.average.values)
        self.selection = Selection(config.keep_best, config.patience, config.best_by or self._main_number())
        self.watch = Watch(config, self.model, self.optimizer, self.precision, self.data.unit, self.ranks)
        self.step = 0
        if not self.ranks.first:  # weights are drawn alike, what training hides by chance is not
            torch.manual_seed(config.seed + 1_000_003 * self.ranks.rank)

    def _build(self) -> None:
        """Open the data and make the model."""
        config = self.config
        model_config, entropy_model = with_entropy_model(starting_config(config), config)
        self.task = choose_task(config, model_config)
        self.data = training_data(config, model_config, self.task, self.ranks)
        self.batches, self.validation = self.data.batches, self.data.validation
        if config.keep_best and not self.validation:
            key = "patience" if config.patience else "keep_best"
            raise InputError(f"{key}: there is nothing to validate with, a split or a table `valid`")
        self.model = starting_model(config, model_config)
        if entropy_model is not None:
            self.model.entropy_model.load_state_dict(entropy_model.state_dict())
        self.model.to(self.device)
        if config.freeze_backbone:
            freeze_all_but_heads(self.model)
        freeze_parts(self.model, config.freeze)
        precision = choose_precision(config.precision, self.device, self.task, model_config, self.ranks.first)
        self.precision = Precision(precision, self.device, self.model)
        self.identity = run_identity(config, self.model, self.data)
        if config.lora is not None:
            add_adapters(self.model, config.lora, heads_learn=self.data.predicts)
        self.batches.pin = self.device.type == "cuda"
        self.calibrates = needs_calibration(self.model, bool(self.data.windows))
        self.data.read_columns(self.model)

    def _main_number(self) -> str:
        """The key of a validation by which models are compared, unless the settings name another."""
        first = next((batch for batch in self.validation if batch.data), None)
        return f"{first.data}.{MEASURES[first.task].key}" if first else MEASURES[self.task].key

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
            RankLost: another rank is gone.
            EndedElsewhere: another rank has raised an `InputError`, and the first rank says it.
        """
        with contextlib.closing(self.batches), contextlib.ExitStack() as stack, self.ranks.watched():
            with self.ranks.together():
                if self.ranks.first:
                    stack.enter_context(sole_writer(self.folder))
            records = self._find_start(resume, restart_if_changed)
            if self.calibrates and self.step == 0:
                with self.ranks.together():
                    self.data.calibrate(self.model)
            self._run_to_end(Monitor(self.folder, self.step, records, self.ranks.first))

    def _run_to_end(self, monitor: Monitor) -> None:
        total = self.data.units_before(self.config.steps)
        shown = progress("train", total, self.data.unit, quiet=not self.ranks.first)
        with shown as bar, sigterm_noted() as terminated:
            bar.resume_at(self.data.units_before(self.step))
            while not self.done:
                with self.watch.speed.step():
                    self._train_step(monitor, bar)
                self.watch.note_speed(monitor, self.step)
                self._validate_and_save(monitor)
                if self.ranks.any(terminated()):
                    self.save_checkpoint(monitor.records)
                    monitor.close()
                    raise Terminated(f"{self.folder}: stopped at step {self.step}; go on with --resume")
        monitor.close()
        self._save_model()

    @property
    def done(self) -> bool:
        """Whether the run has come to its end."""
        return self.step == self.config.steps or self.selection.ended

    def _save_model(self) -> None:
        """Write the model of the run: the best one where the run waits for a better one, else that of its end."""
        if not self.config.patience:
            with self.average.in_place_of_weights():
                model = plain_model(self.model, self.config)
        with self.ranks.together():
            if self.ranks.first and self.config.patience:
                take_best(self.folder, self.selection)
            elif self.ranks.first:
                model.save_pretrained(self.folder)

    def _find_start(self, resume: bool, restart_if_changed: bool) -> str:
        """Load the checkpoint to go on from, if any; returns the metrics up to it."""
        with self.ranks.together():
            settings = (self.identity, resume, restart_if_changed)
            chosen = choose_checkpoint(self.folder, *settings) if self.ranks.first else None
        checkpoint, state = self.ranks.of_first(chosen)
        if checkpoint is None:
            return ""
        with self.ranks.together():
            load_checkpoint(checkpoint, self.tensors, self.ranks)
        self.step = state["step"]
        if self.calibrates:
            self.model.set_entropy_threshold(state["entropy_threshold"])
        self.batches.restore(state["sampler"])
        self.selection.restore(state["selection"])
        self.watch.restore(state.get("watch", {}))
        if self.ranks.first:
            drop_others(self.folder, self.selection)
        return state["metrics"]

    def _train_step(self, monitor: Monitor, bar: Progress) -> None:
        config = self.config
        factor = warmup_stable_decay(self.step, config.steps, config.warmup, config.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        with self.watch.speed.waiting():
            batch = next(self.batches)
        self.model.train()
        losses = self.gradient.backward(batch, batch.task)
        self.precision.unscale(self.optimizer)
        due = batch.turn % config.log_every == 0 or self.step + 1 == config.steps
        self.watch.look_at_gradients(due)
        norm = clip_gradient(self.model.parameters(), config.clip).item()
        self._stop_if_lost(losses, norm)
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.step)
        measure, unit = MEASURES[batch.task], self.data.unit
        work = Work.of(batch, self.ranks)
        done = work.letters if unit == "bases" else work.sequences
        bar.advance(done, f"step {self.step}, {losses.nats * measure.per_nat:.4f} {measure.unit}")
        record = train_record(losses, norm, factor * config.learning_rate, batch)
        self.watch.note(monitor, self.step, record, losses, self.gradient.targets, work)

    def _stop_if_lost(self, losses: StepLosses, norm: float) -> None:
        """All ranks have the same numbers here, and so stop together."""
        overflows = self.precision.scales and not self.precision.is_lost  # such a step is left out
        if math.isfinite(losses.total) and (math.isfinite(norm) or overflows):
            return
        last = list_checkpoints(self.folder / "checkpoints")
        hint = f"the latest checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
        with self.ranks.together():
            raise InputError(
                f"{self.folder}: the loss or its gradient is no number any more at step {self.step + 1} "
                f"(loss {losses.total}, gradient norm {norm}{self.precision.trouble()}); {hint}; "
                "try a lower learning_rate, a longer warmup, or a lower ratio_weight"
            )

    def _validate_and_save(self, monitor: Monitor) -> None:
        config = self.config
        if self.validation and (self.done or _is_due(self.step, config.validate_every)):
            with self.average.in_place_of_weights():
                records = self.ranks.of_first(self.validate())
                for record in records:
                    monitor.write(self.step, "valid", record)
                self._select(records)
        if self.done or _is_due(self.step, config.checkpoint_every):
            self.save_checkpoint(monitor.records)

    def _select(self, records: list[dict[str, Any]]) -> None:
        """Keep the model if it is among the best so far."""
        if not self.config.keep_best:
            return
        with self.ranks.together():
            kept = self.selection.take(self.step, one_record(records))
        if kept:
            save_best(self.model, self.config, self.folder, self.step, self.ranks)
            if self.ranks.first:
                drop_others(self.folder, self.selection)

    def validate(self) -> list[dict[str, Any]]:
        """The numbers of each data set's validation batches; see `genotok.training.measures`."""
        self.model.eval()
        return validation_records(self.model, self.validation, self.precision.name, self.ranks)

    def save_checkpoint(self, metrics: str) -> None:
        """Write a checkpoint of the current step, with the metrics up to it."""
        state = {"identity": self.identity, "sampler": self.batches.state(), "metrics": metrics}
        state["selection"] = self.selection.state()
        state["watch"] = self.watch.state()
        if self.calibrates:
            state["entropy_threshold"] = self.model.backbone.chunker.threshold
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, self.step, self.tensors, state, self.config.keep_checkpoints, self.ranks)


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
