"""From which checkpoint a run goes on."""

import shutil
import sys
from pathlib import Path
from typing import Any

from genotok.errors import InputError
from genotok.training.checkpoint import list_checkpoints, read_state
from genotok.training.identity import differences, identity_hash


def choose_checkpoint(
    folder: Path, identity: dict[str, Any], resume: bool, restart_if_changed: bool
) -> tuple[Path | None, dict[str, Any]]:
    """The latest checkpoint and its state; None and nothing where a run begins.

    Args:
        folder: of the run.
        identity: of the run, see `genotok.training.identity`.
        resume: whether to go on from a checkpoint.
        restart_if_changed: whether what another run has left is removed, instead of being refused.

    Raises:
        InputError: the folder holds a run and `resume` is not set, or the checkpoint is damaged or of another run.
    """
    checkpoints = list_checkpoints(folder / "checkpoints")
    if not checkpoints:
        return None, {}
    if not resume:
        raise InputError(f"{folder}: holds a run already; go on with --resume or choose another folder")
    state = read_state(checkpoints[-1])
    if state["identity"] == identity_hash(identity):
        return checkpoints[-1], state
    # Earlier versions have kept the hash alone.
    known = differences(state["known_by"], identity) if isinstance(state.get("known_by"), dict) else ""
    what = f" ({known})" if known else ""
    if not restart_if_changed:
        raise InputError(
            f"{checkpoints[-1]}: is a checkpoint of other settings or other data{what}; choose another folder"
        )
    print(f"{folder}: settings or data have changed{what}; training begins anew", file=sys.stderr)
    for left in ("checkpoints", "tensorboard", "best"):
        shutil.rmtree(folder / left, ignore_errors=True)
    return None, {}
