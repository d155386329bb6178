"""Everything a run needs to go on, without pickle: safetensors and JSON.

Where a rank holds all of the model the first rank writes three files of tensors. Where each holds a part of every
weight (FSDP2) all ranks write, through `torch.distributed.checkpoint`, safetensors whose headers say which part of
what they hold, in place of that library's own metadata, which are a pickle. Both have the same names within, and
either kind goes on with any number of ranks, however these share the model.
"""

import contextlib
import json
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genotok.atomic import atomic_directory
from genotok.errors import InputError
from genotok.training.distributed import Ranks, is_in_parts

STATE_NAME = "state.json"
OPTIONAL = ("known_by", "entropy_threshold", "parts", "selection", "watch", "exact_until")
AVERAGE = "average."


@dataclass
class RunTensors:
    """The tensors of a run that checkpoints hold.

    Attributes:
        model: its parameters count.
        optimizer: its moments count.
        average: the moving average of parameters by their name, where the run has one.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)

    @property
    def in_parts(self) -> bool:
        """Whether a rank holds parts of the tensors."""
        return any(is_in_parts(parameter) for parameter in self.model.parameters())

    def files(self) -> dict[str, dict[str, Tensor]]:
        """The tensors by file and name."""
        files = {"model": dict(self.model.named_parameters()), "optimizer": self._moments()}
        if self.average:
            files["average"] = {f"{AVERAGE}{name}": value for name, value in self.average.items()}
        return files

    def _moments(self) -> dict[str, Tensor]:
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        state = self.optimizer.state.items()
        return {
            f"{names[parameter]}.{key}": value for parameter, values in state for key, value in values.items()
        }

    def restore(self, files: dict[str, dict[str, Tensor]]) -> None:
        """Take over tensors by file and name; each is whole."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(files["model"][name])
            for name, value in self.average.items():
                value.copy_(files["average"][f"{AVERAGE}{name}"])
        by_name: dict[str, dict[str, Tensor]] = {}
        for name, value in files["optimizer"].items():
            parameter, key = name.rsplit(".", 1)
            by_name.setdefault(parameter, {})[key] = value
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        order = [names[parameter] for group in self.optimizer.param_groups for parameter in group["params"]]
        state = {index: by_name[name] for index, name in enumerate(order) if name in by_name}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def flat(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {name: tensor.detach() for file in self.files().values() for name, tensor in file.items()}

    def make_moments(self, known: set[str]) -> None:
        """Have room for the moments whose names are known."""
        for name, parameter in self.model.named_parameters():
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if f"{name}.{key}" in known:
                    fused = self.optimizer.defaults.get("fused")
                    device = parameter.device if fused else torch.device("cpu")
                    step = torch.zeros((), dtype=torch.float32, device=device)
                    self.optimizer.state[parameter][key] = (
                        step if key == "step" else torch.zeros_like(parameter)
                    )


def save_checkpoint(
    folder: Path, step: int, tensors: RunTensors, state: dict[str, Any], keep: int, ranks: Ranks
) -> Path:
    """Write `step-<step>` into a folder, whole or not at all, and drop all but the latest `keep`.

    Args:
        folder: of the run's checkpoints, which all ranks see.
        step: optimizer steps done.
        tensors: of the run.
        state: JSON values: identity of the run, sampler position, text of the metrics so far, and what else the run
            has to remember, see `OPTIONAL`.
        keep: how many checkpoints stay.
        ranks: all of which call this.

    Raises:
        InputError: it cannot be written, as on a full disk; the checkpoints before it stay.
    """
    target = folder / f"step-{step:08d}"
    random = _random_states(ranks)
    with contextlib.ExitStack() as stack:
        with ranks.together():
            temporary = stack.enter_context(atomic_directory(target)) if ranks.first else None
        if tensors.in_parts:
            _write_parts(Path(ranks.of_first(str(temporary))), target, tensors, ranks)
        with ranks.together():
            if ranks.first:
                parts = (
                    {"parts": sorted(path.name for path in temporary.iterdir())} if tensors.in_parts else {}
                )
                files = {} if tensors.in_parts else tensors.files()
                text = json.dumps({"step": step, **parts, **state}, sort_keys=True) + "\n"
                _write_files(temporary, target, {**files, "random": random}, text)
                stack.close()
                for old in list_checkpoints(folder)[:-keep]:
                    shutil.rmtree(old)
    return target


def _write_files(temporary: Path, target: Path, files: dict[str, dict[str, Tensor]], state: str) -> None:
    try:
        for name, file in files.items():
            save_file(_on_cpu(file), temporary / f"{name}.safetensors")
        (temporary / STATE_NAME).write_text(state)
    except (OSError, SafetensorError) as error:  # the latter has words of its own for what the system says
        told = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{target}: cannot be written: {told}") from error


def _write_parts(temporary: Path, target: Path, tensors: RunTensors, ranks: Ranks) -> None:
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    with ranks.together():
        try:
            dcp.save(
                tensors.flat(),
                storage_writer=dcp.HuggingFaceStorageWriter(str(temporary), save_distributed=True),
            )
        except CheckpointException as error:  # on all ranks
            failures = [failure for failure, _ in error.failures.values()]
            told = next(
                (failure.strerror for failure in failures if isinstance(failure, OSError)), failures[0]
            )
            raise InputError(f"{target}: cannot be written: {told}") from error


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
        return needed | {key: state[key] for key in OPTIONAL if key in state}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{checkpoint}: damaged checkpoint; remove it to go on from an earlier one"
        ) from error


def load_checkpoint(checkpoint: Path, tensors: RunTensors, ranks: Ranks) -> None:
    """Put the tensors of a checkpoint back into a run, and torch's random generators.

    Raises:
        InputError: it is damaged or of another model.
    """
    parts = read_state(checkpoint).get("parts")
    try:
        random = load_file(checkpoint / "random.safetensors")
        if parts is None and not tensors.in_parts:
            names = tensors.files()
            tensors.restore({name: load_file(checkpoint / f"{name}.safetensors") for name in names})
        else:
            _read_parts(checkpoint, parts or [], tensors, ranks)
        _restore_random(random, ranks)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        why = str(error).strip().split("\n")[0]
        raise InputError(
            f"{checkpoint}: damaged checkpoint, or of another model ({why}); remove it to go on from an earlier one"
        ) from error


def _read_parts(checkpoint: Path, parts: list[str], tensors: RunTensors, ranks: Ranks) -> None:
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    for name in parts:
        if not (checkpoint / name).is_file():
            raise OSError(f"{name} is missing")
    reader = dcp.HuggingFaceStorageReader(str(checkpoint))
    known = reader.read_metadata().state_dict_metadata
    tensors.make_moments(set(known))
    wanted = tensors.flat()
    for name, tensor in wanted.items():
        if known[name].size != tensor.shape:
            raise ValueError(f"{name} has the shape {tuple(known[name].size)} and not {tuple(tensor.shape)}")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "torch.distributed is disabled"
        )  # one rank may read what several wrote
        try:
            dcp.load(wanted, storage_reader=reader, no_dist=ranks.size == 1)
        except CheckpointException as error:  # which brings the trace of every rank
            first, _ = next(iter(error.failures.values()))
            raise ValueError(str(first)) from error


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _random_states(ranks: Ranks) -> dict[str, Tensor]:
    """The states of torch's generators, those of the first rank under the plain name."""
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    found = ranks.gather(own)
    return {
        _of_rank(name, rank): value for rank, states in enumerate(found) for name, value in states.items()
    }


def _restore_random(states: dict[str, Tensor], ranks: Ranks) -> None:
    """A rank that was not there when the checkpoint was written keeps its own."""
    if _of_rank("cpu", ranks.rank) in states:
        torch.set_rng_state(states[_of_rank("cpu", ranks.rank)])
    if _of_rank("cuda", ranks.rank) in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[_of_rank("cuda", ranks.rank)])


def _of_rank(name: str, rank: int) -> str:
    return f"{name}.{rank}" if rank else name
