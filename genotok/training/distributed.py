"""Several processes that train one model together: which one this is, and what they tell each other.

Each process (rank) is started by `torchrun` and reads its own share of every global batch. All ranks call the same
collectives in the same order, whatever their share of the data looks like, so that none waits for a call that never
comes. Ranks talk through gloo on the CPU, and through NCCL about what lies on GPUs.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from genotok.errors import InputError
from genotok.training.precision import choose_device

Part = TypeVar("Part")


class EndedElsewhere(Exception):
    """Another rank has said why the run ends."""


class RankLost(Exception):
    """Another rank has gone without a word, or does not answer in time."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        device: that of this process.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str, timeout: float) -> "Ranks":
        """Meet the other processes that `torchrun` has started; alone where this is the only one.

        Args:
            device: `auto`, `cpu`, `cuda`; on GPUs each rank of a node takes one of its own.
            timeout: seconds after which a rank that does not answer is lost.

        Raises:
            InputError: the device is not there, or there are more ranks on this node than GPUs.
        """
        size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        if size == 1:
            return cls(0, 1, choose_device(device))
        chosen = _device_of_rank(device)
        if not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
            with _said_if_lost():
                distributed.init_process_group(backend, timeout=timedelta(seconds=timeout))
        return cls(rank, size, chosen)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the ranks; of one rank the tensor itself."""
        if self.size == 1:
            return values
        values = values.clone()
        with _said_if_lost():
            distributed.all_reduce(values)
        return values

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum over the ranks of each of some numbers of the host."""
        return (
            list(values) if self.size == 1 else self.sum(torch.tensor(values, dtype=torch.float64)).tolist()
        )

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return self.sums([float(flag)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, on each."""
        values = [value] * self.size
        if self.size > 1:
            with _said_if_lost():
                distributed.all_gather_object(values, value)
        return values

    def of_first(self, value: Any) -> Any:
        """The value of the first rank, on each."""
        values = [value]
        if self.size > 1:
            with _said_if_lost():
                distributed.broadcast_object_list(values, 0)
        return values[0]

    def shares(self, parts: Sequence[Part]) -> Iterator[tuple[Part, bool]]:
        """What this rank takes of some parts, as many on every rank, and whether each counts or is but filled in."""
        for place in range(self.rank, -(-len(parts) // self.size) * self.size, self.size):
            yield parts[place % len(parts)], place < len(parts)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block, free of collectives, in which an `InputError` of one rank ends all of them in one sentence.

        Raises:
            InputError: on the first rank, in the words of the first rank that met one.
            EndedElsewhere: on the others.
        """
        met = None
        try:
            yield
        except InputError as error:
            if self.size == 1:
                raise
            met = error
        sentences = [
            (rank, text) for rank, text in enumerate(self.gather(met and str(met))) if text is not None
        ]
        if sentences:
            rank, text = sentences[0]
            if self.first:
                raise InputError(text if rank == 0 else f"{text} (on rank {rank})") from met
            raise EndedElsewhere(text)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """A block of training, in which a rank that is gone shows as `RankLost`."""
        with _said_if_lost() if self.size > 1 else contextlib.nullcontext():
            yield


def leave() -> None:
    """Part from the other ranks in good order."""
    if distributed.is_initialized():
        # Gloo's threads let go of tensors under Python's lock, which the group's end holds while it waits for them;
        # waiting for the other ranks gives it to them.
        with contextlib.suppress(RuntimeError):
            distributed.barrier()
        distributed.destroy_process_group()


def _device_of_rank(name: str) -> torch.device:
    device = choose_device(name)
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise InputError(f"device: {name!r} is one GPU, and each of several ranks needs its own; use `cuda`")
    local, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= there:
        raise InputError(
            f"rank {local} of this node has no GPU, since there are {there}; use --nproc-per-node {there}, or "
            "`device: cpu`"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextlib.contextmanager
def _said_if_lost() -> Iterator[None]:
    """Let a failed collective show as `RankLost`; other errors of torch pass."""
    try:
        yield
    except RuntimeError as error:  # gloo has no exception of its own
        if isinstance(error, distributed.DistError) or "gloo" in str(error).lower():
            rank = os.environ.get("RANK", "0")
            raise RankLost(
                f"rank {rank}: another rank of this run has ended or does not answer; its own words say why; go on "
                "from the latest checkpoint with --resume"
            ) from error
        raise


def is_in_parts(tensor: Tensor) -> bool:
    """Whether this rank holds a part of a tensor, by FSDP2."""
    # Whoever makes such a tensor has imported its class, which takes a second.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)
