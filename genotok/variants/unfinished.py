"""The scores of a run that has not come to its end, in a file beside its output.

The file is `OUTPUT.unfinished`: a line of JSON that says which run it belongs to, the number of the process that
writes it, and the scores of each finished block. A resumed run reads and judges all records again, which is fast,
takes these scores in place of the model's, and hence writes the bytes of an undisturbed run. The file is kept when a
run is interrupted or a process or the disk fails it, and removed when the run ends well or its input is refused.
"""

import errno
import fcntl
import glob
import json
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from genotok.errors import InputError
from genotok.variants.processes import LostProcess
from genotok.variants.vcf_output import NotWritten

_FRAME = struct.Struct("<QIII")  # block, scores, batch size, checksum
_SUFFIX = ".unfinished"
_PID_DIGITS = 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Journal:
    """Scores of blocks, in the order of the blocks.

    Args:
        file: open for reading and writing, at the first block.
        label: how error sentences call it.

    Attributes:
        blocks: how many blocks it holds; when it is opened, those that an earlier run finished.
        batch_size: the size of batch that the last of them was scored with; None where there is none.
    """

    def __init__(self, file: BinaryIO, label: str):
        self._file, self._label = file, label
        self.blocks, self.batch_size = 0, None
        begin = file.tell()
        end = begin
        while (frame := self._read()) is not None:
            self.blocks, self.batch_size, end = self.blocks + 1, frame[1], file.tell()
        file.truncate(end)  # what was cut while it was written
        file.seek(begin)

    def scores(self) -> np.ndarray:
        """(pairs,) float64: those of the next block that an earlier run finished."""
        frame = self._read()
        if frame is None:
            raise InputError(f"{self._label}: was changed while it was read; delete it and begin again")
        return frame[0]

    def add(self, block: int, scores: np.ndarray, batch_size: int) -> None:
        """Note the scores of a block behind all others.

        Raises:
            InputError: the disk is full.
        """
        body = scores.astype("<f8").tobytes()
        try:
            self._file.write(_FRAME.pack(block, len(scores), batch_size, zlib.crc32(body)) + body)
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self._label}: cannot be written: {error.strerror}") from error
        self.blocks += 1

    def _read(self) -> tuple[np.ndarray, int] | None:
        head = self._file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return None
        _, count, batch_size, checksum = _FRAME.unpack(head)
        body = self._file.read(8 * count)
        if len(body) < 8 * count or zlib.crc32(body) != checksum:
            return None
        return np.frombuffer(body, "<f8"), batch_size


@contextmanager
def open_journal(outputs: list[Path], identity: dict[str, Any], resume: bool) -> Iterator[Journal]:
    """Open the journal of a run; the same run may not go on twice at once.

    Args:
        outputs: the run's; the journal lies beside the first, and what a killed run left of any is removed.
        identity: what all scores depend on, and where a block ends.
        resume: whether to go on from an earlier run; without it, what that left is replaced.

    Raises:
        InputError: the journal is of another run, is in use, or cannot be written.
    """
    path = Path(f"{outputs[0]}{_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{outputs[0]}: cannot be written: {error.strerror}") from error
    done, journal = False, None
    try:
        _hold(file, path)
        _begin(file, path, outputs, identity, resume)
        journal = Journal(file, str(path))
        yield journal
        done = True
    except InputError as error:
        done = not _is_interruption(error)
        raise
    finally:
        if done:
            path.unlink(missing_ok=True)
        elif journal and journal.blocks:
            print(
                f"{path}: holds what has been scored; go on with the same command and --resume",
                file=sys.stderr,
            )
        with suppress(OSError):  # of a full disk, which has been reported
            file.close()


def _is_interruption(error: InputError) -> bool:
    """Whether a run failed for a reason that lies outside its input: a lost process, or a full disk."""
    if isinstance(error, (LeftForLater, LostProcess, NotWritten)):
        return True
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_FULL


class LeftForLater(InputError):
    """The journal cannot be used, and is not to be touched."""


def _hold(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LeftForLater(f"{path}: another process is writing this output; wait for its end") from error
    except OSError:  # some cluster file systems are mounted without locks
        return


def _begin(file: BinaryIO, path: Path, outputs: list[Path], identity: dict[str, Any], resume: bool) -> None:
    """Check the first line, or write it; leaves the file at the first block."""
    earlier = _first_line(file)
    place = file.tell()
    if (pid := file.read(_PID_DIGITS)).isdigit():
        for output in outputs:
            _remove_leftovers(output, int(pid))
    if resume and earlier:
        differing = [key for key in identity if earlier.get(key) != identity[key]]
        if differing:
            raise LeftForLater(
                f"{path}: is of a run with another {', '.join(differing)}; resume with what that run had, or run "
                "without --resume to begin again"
            )
        file.seek(place)
        line = b""
    else:
        file.seek(0)
        file.truncate()
        line = json.dumps(identity, sort_keys=True).encode() + b"\n"
    try:
        file.write(line + b"%0*d" % (_PID_DIGITS, os.getpid()))
        file.flush()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def _first_line(file: BinaryIO) -> dict[str, Any]:
    """What a journal says of its run; nothing where it was cut before it could."""
    line = file.readline()
    try:
        found = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _remove_leftovers(output: Path, pid: int) -> None:
    """Remove the files under temporary names that a killed run could not; see `genotok.atomic.atomic_path`."""
    stem = output.name.split(".")[0]
    for path in output.parent.glob(f"{glob.escape(f'.{stem}.{pid}.tmp')}*"):
        path.unlink(missing_ok=True)
