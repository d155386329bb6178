"""Processes that make batches ahead of the training loop, in the order in which they are asked for."""

import contextlib
import io
import mmap
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genotok.errors import InputError

DONE, REFUSED, FAILED = range(3)
_SECONDS_TO_END = 2.0


class Prefetcher:
    """Makes things of jobs in processes of its own, each with one job at a time, and hands them over in order.

    Processes begin as copies of this one (fork), so that what `make` holds is neither copied nor read again. They
    leave SIGINT and SIGTERM to this one, and end when it ends, however it ends.

    Args:
        make: a thing of a job; its tensors and arrays come over in shared memory.
        workers: processes, at least 1.
    """

    def __init__(self, make: Callable[[Any], Any], workers: int):
        self._sockets: list[socket.socket] = []
        self._arenas: list[_Arena] = []
        self._processes: list[multiprocessing.Process] = []
        self._close = Finalize(self, _close, (self._sockets, self._processes), exitpriority=100)
        context = multiprocessing.get_context("fork")
        for _ in range(workers):
            ours, theirs = socket.socketpair()
            self._sockets.append(ours)
            self._arenas.append(_Arena())
            arguments = (make, theirs, self._arenas[-1], list(self._sockets))
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
            _send(self._sockets[worker], pickle.dumps(job))
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
        theirs, process = self._sockets[worker], self._processes[worker]
        wait([theirs, process.sentinel])
        try:
            kind, made = self._arenas[worker].taken_out(_receive(theirs))
        except OSError as error:
            raise self._ended(worker) from error
        self._idle.append(worker)
        if kind == REFUSED:
            raise InputError(made)
        if kind == FAILED:
            raise RuntimeError(f"a process of loader_workers failed:\n{made}")
        return made

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


def _close(sockets: Sequence[socket.socket], processes: Sequence[multiprocessing.Process]) -> None:
    for ours in sockets:
        with contextlib.suppress(OSError):  # of a process that is gone
            ours.shutdown(socket.SHUT_RDWR)  # ends it even where other processes have inherited this end
        ours.close()
    for process in processes:
        process.join(_SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()


def _work(
    make: Callable[[Any], Any], theirs: socket.socket, arena: "_Arena", ours: Sequence[socket.socket]
) -> None:
    """What a process does until the other end of its socket is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for inherited in ours:  # they would stay open when the parent is gone
        inherited.close()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # the threads of the parent are not there any more
    try:
        while True:
            job = pickle.loads(_receive(theirs))
            try:
                kind, made = DONE, make(job)
            except InputError as error:
                kind, made = REFUSED, str(error)
            except Exception:
                kind, made = FAILED, traceback.format_exc()
            _send(theirs, arena.put_in(kind, made))
    except OSError:  # nobody listens any more
        return


class _Pickler(pickle.Pickler):
    """Tensors go as arrays, whose memory stands outside of the pickle."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.from_numpy, (np.ascontiguousarray(value.numpy()),)
        return NotImplemented


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

    def put_in(self, kind: int, value: Any) -> bytes:
        """Leave the arrays of a value here; returns what tells the other process about it."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = io.BytesIO()
        _Pickler(pickled, protocol=5, buffer_callback=buffers.append).dump(value)
        parts = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        sizes = [len(part) for part in parts]
        if sum(sizes):
            memory = self._memory(sum(sizes), grow=True)
            np.concatenate(parts, out=memory[: sum(sizes)])
        return pickle.dumps((kind, pickled.getvalue(), sizes))

    def taken_out(self, told: bytes) -> tuple[int, Any]:
        """The kind and the value that `put_in` was given in the other process."""
        kind, pickled, sizes = pickle.loads(told)
        ends = np.cumsum(sizes)
        memory = self._memory(int(ends[-1]), grow=False) if sum(sizes) else np.empty(0, np.uint8)
        parts = [memory[end - size : end].copy() for size, end in zip(sizes, ends, strict=True)]
        return kind, pickle.loads(pickled, buffers=parts)


def _send(to: socket.socket, message: bytes) -> None:
    to.sendall(struct.pack("<Q", len(message)) + message)


def _receive(from_: socket.socket) -> bytes:
    (size,) = struct.unpack("<Q", _read(from_, 8))
    return _read(from_, size)


def _read(from_: socket.socket, size: int) -> bytes:
    """So many bytes.

    Raises:
        ConnectionError: the other end was closed before.
    """
    held = b""
    while len(held) < size:
        got = from_.recv(size - len(held))
        if not got:
            raise ConnectionError("the other end is gone")
        held += got
    return held
