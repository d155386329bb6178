"""Processes that answer requests, one at a time: workers that prepare records, and models on devices of their own.

A child is a fresh interpreter behind a socket, so that it shares no thread, no lock and no open file with its parent,
and imports no more than its work needs. Its end of the socket closes when the parent ends, however that ends; a child
that reads from it then ends as well.
"""

import gc
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Protocol

from genotok.errors import InputError

_START = (
    "import sys; from multiprocessing.connection import Connection; line = Connection(int(sys.argv[1])); "
    "sys.path[:] = line.recv(); from genotok.variants.processes import answer; answer(line)"
)


class LostProcess(InputError):
    """A process ended, or failed, before its work was done."""


class Helper(Protocol):
    """Something that works on request, here or in a process of its own.

    Attributes:
        ahead: how many requests should wait for it, so that it is never idle; 0 where it works while it is asked.
        waiting: how many requests wait.
    """

    ahead: int
    waiting: int

    def submit(self, method: str, *arguments: Any) -> "Future[Any]":
        """Ask for `method(*arguments)` of the object that the helper holds; requests are answered in order."""


class Here:
    """A helper in this process, which has answered when `submit` returns."""

    ahead = waiting = 0

    def __init__(self, worker: object):
        self.worker = worker

    def submit(self, method: str, *arguments: Any) -> "Future[Any]":
        """See `Helper`; what the method raises comes out here."""
        future: Future[Any] = Future()
        future.set_result(getattr(self.worker, method)(*arguments))
        return future


class Child:
    """A helper in a process of its own.

    Args:
        name: how error sentences call it.
        factory: makes the object that the process holds; found by its module and name.
        arguments: of the factory.
    """

    ahead = 2

    def __init__(self, name: str, factory: Callable[..., object], *arguments: Any):
        self.name, self.waiting = name, 0
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", _START, str(theirs.fileno())]
            # In a group of its own, so that Ctrl-C reaches the parent alone, which then ends it.
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0
            )
        self._line = Connection(ours.detach())
        self._requests: SimpleQueue[tuple[Any, Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._talk, args=((factory, arguments),), daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def submit(self, method: str, *arguments: Any) -> "Future[Any]":
        """See `Helper`.

        The future raises:
            InputError: what the method raised.
            LostProcess: the process ended, or something else was raised there.
        """
        future: Future[Any] = Future()
        self._count(1)
        self._requests.put(((method, arguments), future))
        return future

    def _talk(self, start: tuple) -> None:
        failure = None
        try:
            self._line.send(sys.path)
            self._ask(start)
        except BaseException as error:
            failure = error
        while (request := self._requests.get()) is not None:
            message, future = request
            try:
                if failure:
                    raise failure
                found = self._ask(message)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(found)
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self.waiting += change

    def _ask(self, message: tuple) -> Any:
        try:
            self._line.send(message)
            kind, found = self._line.recv()
        except (EOFError, OSError) as error:
            raise LostProcess(self._last_words()) from error
        if kind == "refused":
            raise InputError(found)
        if kind == "failed":
            raise LostProcess(f"{self.name} failed: {found}")
        return found

    def _last_words(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"{self.name} ended early with exit code {code}; see the lines above"
        reason = "; was there too little memory?" if code == -signal.SIGKILL else ""
        return f"{self.name} was ended by {signal.Signals(-code).name}{reason}"

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._requests.put(None)
        self._thread.join()
        self._line.close()


def answer(line: Connection) -> None:
    """Answer requests until the parent closes the line or ends; what a child's process does."""
    gc.freeze()  # what the modules made lives as long as the process
    gc.set_threshold(50_000, 20, 100)
    with suppress(EOFError, OSError):
        worker = None
        while True:
            request = _received(line)
            try:
                if isinstance(request, Exception):
                    raise request
                what, arguments = request
                if worker is None:
                    worker = what(*arguments)
                    reply: tuple[str, Any] = ("done", None)
                else:
                    reply = ("done", getattr(worker, what)(*arguments))
            except InputError as error:
                reply = ("refused", str(error))
            except Exception as error:
                reply = ("failed", " ".join(f"{type(error).__name__}: {error}".split()))
            line.send(reply)
            if worker is None:
                return


def _received(line: Connection) -> Any:
    try:
        return line.recv()
    except (EOFError, OSError):
        raise
    except Exception as error:  # what was sent cannot be made here
        return error


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit, so that helpers and unfinished files are cleared away."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
