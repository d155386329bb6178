"""What a run tells: `metrics.jsonl`, which the same run writes again byte for byte, and TensorBoard."""

import json
from pathlib import Path
from typing import Any

METRICS_NAME = "metrics.jsonl"


class Monitor:
    """Writes records to `metrics.jsonl` and shows them in TensorBoard.

    `metrics.jsonl` holds nothing that depends on the clock, so that an interrupted run that goes on ends with
    the same bytes as one that was not; speed goes to TensorBoard alone.

    Args:
        folder: of the run.
        step: steps that are done.
        records: the text of `metrics.jsonl` up to that step, from the checkpoint. The file itself may have run
            ahead of the checkpoint, or have been removed.
        writes: whether this process writes the files; of several ranks the first does.
    """

    def __init__(self, folder: Path, step: int, records: str, writes: bool = True):
        self.path, self.writes = folder / METRICS_NAME, writes
        self.records = records
        self._board = None
        if writes:
            self.path.write_text(records)
            self._board = _tensorboard(folder / "tensorboard", step)

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """Note values of one step (1-based) of the split `train` or `valid`."""
        line = json.dumps({"step": step, "split": split, **values}) + "\n"
        self.records += line
        if not self.writes:
            return
        with open(self.path, "a") as handle:
            handle.write(line)
        for key, value in values.items():
            if isinstance(value, list):
                for stage, part in enumerate(value):
                    self.show(step, f"{split}/{key}/stage{stage}", part)
            else:
                self.show(step, f"{split}/{key}", value)

    def show(self, step: int, name: str, value: float) -> None:
        """Show one number in TensorBoard only."""
        if self._board is not None:
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _tensorboard(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # a bare GPU node can train without it
        return None
    return SummaryWriter(str(folder), purge_step=step or None)
