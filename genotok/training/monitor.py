"""What a run tells: `metrics.jsonl`, which the same run writes again byte for byte, its speed, and TensorBoard."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genotok.training.alarms import Alarm

METRICS_NAME, SPEED_NAME = "metrics.jsonl", "speed.jsonl"
ALARM = "alarm"  # what stands in the place of the split in the record of an alarm


class Monitor:
    """Writes records to `metrics.jsonl` and shows them in TensorBoard.

    `metrics.jsonl` holds nothing that depends on the clock, so that an interrupted run that goes on ends with
    the same bytes as one that was not; what does goes to `speed.jsonl`, and all of both to TensorBoard.

    Args:
        folder: of the run.
        step: steps that are done.
        records: the text of `metrics.jsonl` up to that step, from the checkpoint. The file itself may have run
            ahead of the checkpoint, or have been removed.
        writes: whether this process writes the files and speaks; of several ranks the first does.
    """

    def __init__(self, folder: Path, step: int, records: str, writes: bool = True):
        self.path, self.speed_path, self.writes = folder / METRICS_NAME, folder / SPEED_NAME, writes
        self.records = records
        self._board = None
        if writes:
            self.path.write_text(records)
            if not step:
                self.speed_path.unlink(missing_ok=True)
            self._board = _tensorboard(folder / "tensorboard", step)

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """Note values of one step (1-based) of the split `train` or `valid`; what is no number becomes null."""
        values = {key: _finite(value) for key, value in values.items()}
        self._note(step, split, values)
        where = f"{split}/{values['data']}" if "data" in values else split
        for key, value in values.items():
            if isinstance(value, list):
                for stage, part in enumerate(value):
                    self.show(step, f"{where}/{key}/stage{stage}", part)
            else:
                self.show(step, f"{where}/{key}", value)

    def write_speed(self, step: int, values: dict[str, Any]) -> None:
        """Note values that depend on the clock."""
        if self.writes:
            with open(self.speed_path, "a") as handle:
                handle.write(json.dumps({"step": step, **values}) + "\n")
        for key, value in values.items():
            self.show(step, f"speed/{key}", value)

    def alarm(self, step: int, alarm: "Alarm", of_the_clock: bool = False) -> None:
        """Say an alarm on standard error, and note it; one that follows from the clock in `speed.jsonl`."""
        if self.writes:
            print(f"genotok: step {step}: {alarm.message}", file=sys.stderr, flush=True)
        values = {"kind": alarm.kind, "message": alarm.message}
        if of_the_clock:
            self.write_speed(step, values)
        else:
            self._note(step, ALARM, values)
        if self._board is not None:
            self._board.add_text(ALARM, alarm.message, step)

    def show(self, step: int, name: str, value: Any) -> None:
        """Show one number in TensorBoard only; nothing where it is none."""
        if self._board is not None and isinstance(value, int | float):
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self._board is not None:
            self._board.close()

    def _note(self, step: int, split: str, values: dict[str, Any]) -> None:
        line = json.dumps({"step": step, "split": split, **values}) + "\n"
        self.records += line
        if self.writes:
            with open(self.path, "a") as handle:
                handle.write(line)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; those of alarms have the split `alarm`."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensorboard(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # a bare GPU node can train without it
        return None
    return SummaryWriter(str(folder), purge_step=step or None)
