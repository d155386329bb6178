"""The training loop.

The loss of a step and its gradient are made in `genotok.training.step`, what ranks say to each other in
`genotok.training.distributed`, and how they share a model in `genotok.training.sharing`.
"""

import contextlib
import math
from collections import deque
from pathlib import Path
from typing import Any

import torch

from genotok.atomic import sole_writer
from genotok.errors import InputError
from genotok.progress import Progress, progress
from genotok.shards.sampler import Batch
from genotok.training.averaging import Average
from genotok.training.block_execution import run_blocks
from genotok.training.checkpoint import RunTensors, list_checkpoints, load_checkpoint, save_checkpoint
from genotok.training.chunk_capacity import ChunkRoom
from genotok.training.config import TrainConfig
from genotok.training.data import training_data
from genotok.training.distributed import Ranks
from genotok.training.entropies import needs_calibration, with_entropy_model
from genotok.training.freezing import freeze_all_but_heads, freeze_parts
from genotok.training.identity import identity_hash, run_identity
from genotok.training.interruption import Terminated, sigterm_noted
from genotok.training.labelled import LabelledBatch
from genotok.training.lora import add_adapters
from genotok.training.measures import MEASURES
from genotok.training.monitor import Monitor
from genotok.training.optimizer import make_optimizer
from genotok.training.precision import Precision, choose_precision
from genotok.training.recorded_passes import Recorder, check_recordable
from genotok.training.records import one_record, validation_records
from genotok.training.resuming import choose_checkpoint
from genotok.training.saving import drop_others, plain_model, save_best, take_best
from genotok.training.schedule import warmup_stable_decay
from genotok.training.selection import Selection
from genotok.training.sharing import clip_gradient
from genotok.training.start import choose_task, starting_config, starting_model
from genotok.training.step import GradientStep
from genotok.training.taken_steps import Guard, TakenStep, may_be_late
from genotok.training.watch import Watch, Work


class Trainer:
    """Trains one model on one device, or together with other ranks.

    Args:
        config: settings of the run.
        folder: where the run is written: `config.json`, `model.safetensors` and `README.md` at the end,
            `metrics.jsonl`, `speed.jsonl`, `tensorboard/`, and `checkpoints/`. The first rank alone writes.
        recorder: what records steps where `cuda_graph` asks for it; None for CUDA graphs.
    """

    def __init__(self, config: TrainConfig, folder: Path, recorder: Recorder | None = None):
        self.config, self.folder = config, folder
        self.ranks = Ranks.join(config.device, config.rank_timeout)
        self.device = self.ranks.device
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        torch.use_deterministic_algorithms(self.device.type == "cpu")
        with self.ranks.together():
            self._build()
            config = self.config
            if config.cuda_graph:
                recorder = check_recordable(config, self.model, self.data, self.ranks, recorder)
            else:
                recorder = None
        run_blocks(self.model, config.activation_checkpointing, config.compile)
        self.gradient = GradientStep(self.model, config, self.ranks, self.precision, recorder)
        with self.ranks.together():
            self.optimizer = make_optimizer(self.model, config)
        self.average = Average(self.model, config.ema_decay)
        self.tensors = RunTensors(self.model, self.optimizer, self.average.values)
        self.selection = Selection(config.keep_best, config.patience, config.best_by or self._main_number())
        self.watch = Watch(config, self.model, self.optimizer, self.precision, self.data.unit, self.ranks)
        self.late = may_be_late(self.precision, self.ranks, config.parallel)
        self.guard = Guard(self.optimizer, self.device)
        self.taken: deque[tuple[TakenStep, Work]] = deque()  # those whose numbers have not been read
        self.step = 0
        if not self.ranks.first:  # weights are drawn alike, what training hides by chance is not
            torch.manual_seed(config.seed + 1_000_003 * self.ranks.rank)

    def _build(self) -> None:
        """Open the data and make the model."""
        model_config, entropy_model = with_entropy_model(starting_config(self.config), self.config)
        self.config = config = self.config.with_chunk_lengths(len(model_config.chunkers))
        self.task = choose_task(config, model_config)
        self.data = training_data(config, model_config, self.task, self.ranks)
        self.batches, self.validation = self.data.batches, self.data.validation
        if config.keep_best and not self.validation:
            key = "patience" if config.patience else "keep_best"
            raise InputError(f"{key}: there is nothing to validate with, a split or a table `valid`")
        self.room = ChunkRoom(config, model_config)
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
                    stops = self.ranks.any(terminated())
                    if stops or self._pauses():
                        self._settle(monitor, bar, 0)
                self.watch.note_speed(monitor)
                self._validate_and_save(monitor)
                if stops:
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
        self.room.restore(state)
        if self.ranks.first:
            drop_others(self.folder, self.selection)
        return state["metrics"]

    def _train_step(self, monitor: Monitor, bar: Progress) -> None:
        with self.watch.speed.waiting():
            batch = next(self.batches)
        self.step += 1
        work = Work.of(batch, self.ranks)
        self.watch.count(work)
        self.taken.append((self._take(batch, self.step, monitor, self.room.is_exact(self.step)), work))
        self._settle(monitor, bar, int(self.late))

    def _take(self, batch: Batch | LabelledBatch, step: int, monitor: Monitor, exact: bool) -> TakenStep:
        """Change the weights by one step (1-based); with `exact` whatever room there is for chunks."""
        config, done = self.config, step - 1
        factor = warmup_stable_decay(done, config.steps, config.warmup, config.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.model.train()
        found = self.gradient.backward(batch, batch.task, exact)
        if self.room.is_limited and not exact and not self.late and found.left_out.item():
            self.watch.say(monitor, step, self.room.exceed(step))
            self.optimizer.zero_grad(set_to_none=True)
            return self._take(batch, step, monitor, exact=True)
        self.precision.unscale(self.optimizer)
        due = batch.turn % config.log_every == 0 or step == config.steps
        of_stages = self.watch.gradient_norms(due)
        norm = clip_gradient(self.model.parameters(), config.clip)
        rates = factor * config.learning_rate, self.watch.learning_rates()
        taken = TakenStep(step, batch, due, *rates, found, norm, of_stages)
        self._step_optimizer(taken)
        return taken

    def _step_optimizer(self, taken: TakenStep) -> None:
        if self.late:
            self.guard.look(taken)
            with self.guard.asked():
                self.precision.step(self.optimizer)
        else:
            self._stop_if_lost(taken)
            self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(taken.step, self.guard.closed if self.late else None)

    def _settle(self, monitor: Monitor, bar: Progress, left: int) -> None:
        """Read and note the numbers of all steps but the latest ones, of which some are `left` for later."""
        while len(self.taken) > left:
            taken, work = self.taken.popleft()
            if self.late:
                taken = self._again_if_exceeded(taken, monitor)
                self._stop_if_lost(taken)
            measure = MEASURES[work.task]
            done = work.letters if self.data.unit == "bases" else work.sequences
            losses, _, _ = taken.numbers
            bar.advance(done, f"step {taken.step}, {losses.nats * measure.per_nat:.4f} {measure.unit}")
            self.watch.note(monitor, taken, work)

    def _again_if_exceeded(self, taken: TakenStep, monitor: Monitor) -> TakenStep:
        """Take a step again whose chunks had no room, and those behind it, which the guard has left out as well."""
        losses, _, _ = taken.numbers
        if not losses.left_out:
            return taken
        self.watch.say(monitor, taken.step, self.room.exceed(taken.step))
        self.guard.open()
        taken = self._take(taken.batch, taken.step, monitor, exact=True)
        for place, (later, work) in enumerate(self.taken):
            self.taken[place] = self._take(later.batch, later.step, monitor, exact=True), work
        return taken

    def _stop_if_lost(self, taken: TakenStep) -> None:
        """All ranks have the same numbers here, and so stop together."""
        losses, norm, _ = taken.numbers
        overflows = self.precision.scales and not self.precision.is_lost  # such a step is left out
        if math.isfinite(losses.total) and (math.isfinite(norm) or overflows):
            return
        last = list_checkpoints(self.folder / "checkpoints")
        hint = f"the latest checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
        with self.ranks.together():
            raise InputError(
                f"{self.folder}: the loss or its gradient is no number any more at step {taken.step} "
                f"(loss {losses.total}, gradient norm {norm}{self.precision.trouble()}); {hint}; "
                "try a lower learning_rate, a longer warmup, or a lower ratio_weight"
            )

    def _pauses(self) -> bool:
        """Whether the run looks at its weights behind this step."""
        every = (self.config.validate_every, self.config.checkpoint_every)
        return self.done or any(_is_due(self.step, steps) for steps in every)

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
        state = {"identity": identity_hash(self.identity), "known_by": self.identity}
        state |= {"sampler": self.batches.state(), "metrics": metrics}
        state["selection"] = self.selection.state()
        state["watch"] = self.watch.state()
        state |= self.room.state()
        if self.calibrates:
            state["entropy_threshold"] = self.model.backbone.chunker.threshold
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, self.step, self.tensors, state, self.config.keep_checkpoints, self.ranks)


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
