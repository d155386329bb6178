"""Processes that make batches ahead of the training loop, in the order in which they are asked for."""

import contextlib
import mmap
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.shards.sampler import with_parts

DONE, REFUSED, FAILED = range(3)
_SECONDS_TO_END = 2.0


class Prefetcher:
    """Makes things of jobs in processes of its own, each with one job at a time, and hands them over in order.

    Processes begin as copies of this one (fork), so that what `make` holds is neither copied nor read again. They
    leave SIGINT and SIGTERM to this one, and end when it ends, however it ends.

    Args:
        make: a thing of a job; the tensors of a dataclass come over in shared memory.
        workers: processes, at least 1.
    """

    def __init__(self, make: Callable[[Any], Any], workers: int):
        self._pipes: list[Connection] = []
        self._arenas: list[_Arena] = []
        self._processes: list[multiprocessing.Process] = []
        self._close = Finalize(self, _close, (self._pipes, self._processes), exitpriority=100)
        context = multiprocessing.get_context("fork")
        for _ in range(workers):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            self._arenas.append(_Arena())
            arguments = (make, theirs, self._arenas[-1], list(self._pipes))
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
        self._asked: deque[int] = deque()
        self._idle = deque(range(workers))

    @property
    def has_room(self) -> bool:
        """Whether a process waits for a job."""
        return bool(self._idle)

    def ask(self, job: Any) -> None:
        """Give a job to a process that waits for one.

        Raises:
            InputError: the process has been ended.
        """
        worker = self._idle.popleft()
        try:
            self._pipes[worker].send(job)
        except OSError as error:
            raise self._ended(worker) from error
        self._asked.append(worker)

    def next(self) -> Any:
        """What was made of the job that was asked first.

        Raises:
            InputError: `make` raised it, or the process has been ended.
            RuntimeError: `make` raised anything else.
        """
        worker = self._asked.popleft()
        theirs, process = self._pipes[worker], self._processes[worker]
        wait([theirs, process.sentinel])
        try:
            kind, made = theirs.recv()
        except (OSError, EOFError) as error:
            raise self._ended(worker) from error
        self._idle.append(worker)
        if kind == REFUSED:
            raise InputError(made)
        if kind == FAILED:
            raise RuntimeError(f"a process of loader_workers failed:\n{made}")
        return self._arenas[worker].taken_out(made)

    def close(self) -> None:
        """End the processes."""
        self._close()

    def _ended(self, worker: int) -> InputError:
        process = self._processes[worker]
        process.join(_SECONDS_TO_END)
        code = process.exitcode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
        why = ", as a rule because the memory ran out" if code == -signal.SIGKILL else ""
        return InputError(
            f"loader_workers: process {worker + 1} of {len(self._processes)} that makes batches was ended "
            f"{how}{why}; give the run more memory or fewer loader_workers, and go on with --resume"
        )


def _close(pipes: Sequence[Connection], processes: Sequence[multiprocessing.Process]) -> None:
    for ours in pipes:
        with contextlib.suppress(OSError):  # of a process that is gone
            ours.send(None)
        ours.close()
    for process in processes:
        process.join(_SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()


def _work(
    make: Callable[[Any], Any], theirs: Connection, arena: "_Arena", ours: Sequence[Connection]
) -> None:
    """What a process does until it is told nothing more, or nobody is there to tell it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for inherited in ours:  # they would stay open when the parent is gone
        inherited.close()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # the threads of the parent are not there any more
    with contextlib.suppress(OSError, EOFError):  # nobody listens any more
        while (job := theirs.recv()) is not None:
            try:
                answer = DONE, arena.put_in(make(job))
            except InputError as error:
                answer = REFUSED, str(error)
            except Exception:
                answer = FAILED, traceback.format_exc()
            theirs.send(answer)


@dataclass
class _Stowed:
    """Where in an arena a tensor lies."""

    begin: int
    dtype: str
    shape: tuple[int, ...]


class _Arena:
    """Memory that two processes share and that grows as it is needed; what is in it is taken out before the next."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):  # not bound by the size of /dev/shm, which is small in containers
            self._file = os.fdopen(os.memfd_create("genotok"), "r+b", buffering=0)
        else:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the arena
        self._mapped: mmap.mmap | None = None

    def _memory(self, size: int, grow: bool) -> np.ndarray:
        if self._mapped is None or len(self._mapped) < size:
            if grow:
                os.ftruncate(self._file.fileno(), 2 * size)
            self._mapped = mmap.mmap(self._file.fileno(), 0)
        return np.frombuffer(self._mapped, np.uint8)

    def put_in(self, value: Any) -> Any:
        """Leave the tensors of a dataclass here; returns it with their places."""
        if not is_dataclass(value):
            return value
        parts: list[np.ndarray] = []

        def stow(tensor: Tensor) -> _Stowed:
            array = np.ascontiguousarray(tensor.numpy())
            begin = sum(len(part) for part in parts)
            parts.append(array.reshape(-1).view(np.uint8))
            return _Stowed(begin, array.dtype.str, array.shape)

        stowed = with_parts(value, Tensor, stow)
        size = sum(len(part) for part in parts)
        if size:
            np.concatenate(parts, out=self._memory(size, grow=True)[:size])
        return stowed

    def taken_out(self, value: Any) -> Any:
        """What `put_in` was given in the other process."""
        if not is_dataclass(value):
            return value

        def take(stowed: _Stowed) -> Tensor:
            size = int(np.prod(stowed.shape)) * np.dtype(stowed.dtype).itemsize
            end = stowed.begin + size
            part = self._memory(end, grow=False)[stowed.begin : end].copy() if size else np.empty(0, np.uint8)
            return torch.from_numpy(part.view(stowed.dtype).reshape(stowed.shape))

        return with_parts(value, _Stowed, take)
