"""Everything a run needs to go on, without pickle: safetensors and JSON."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genotok.atomic import atomic_directory
from genotok.errors import InputError

STATE_NAME = "state.json"


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write `step-<step>` into a folder, whole or not at all, and drop all but the latest `keep`.

    Args:
        folder: of the run's checkpoints.
        step: optimizer steps done.
        model, optimizer: their tensors are written as safetensors.
        state: JSON values: identity of the run, sampler position, text of the metrics so far, and the entropy
            threshold if the run has found one.
        keep: how many checkpoints stay.
    """
    target = folder / f"step-{step:08d}"
    with atomic_directory(target) as temporary:
        save_file(_on_cpu(dict(model.named_parameters())), temporary / "model.safetensors")
        save_file(_on_cpu(_moments(optimizer)), temporary / "optimizer.safetensors")
        save_file(_random_state(), temporary / "random.safetensors")
        (temporary / STATE_NAME).write_text(json.dumps({"step": step, **state}, sort_keys=True) + "\n")
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE_NAME).is_file())


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint.

    Raises:
        InputError: it is damaged.
    """
    try:
        state = json.loads((checkpoint / STATE_NAME).read_text())
        needed = {key: state[key] for key in ("step", "identity", "sampler", "metrics")}
        return needed | {key: state[key] for key in ("entropy_threshold",) if key in state}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{checkpoint}: damaged checkpoint; remove it to go on from an earlier one"
        ) from error


def load_checkpoint(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the tensors of a checkpoint back into a model, its optimizer and torch's random generators.

    Raises:
        InputError: it is damaged or of another model.
    """
    try:
        weights = load_file(checkpoint / "model.safetensors")
        moments = load_file(checkpoint / "optimizer.safetensors")
        random = load_file(checkpoint / "random.safetensors")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        _restore_moments(optimizer, moments)
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint}: damaged checkpoint, or of another model ({error}); remove it to go on from an earlier one"
        ) from error


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, values in state.items() for key, value in values.items()}


def _restore_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
