"""Files that are either whole or absent."""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genotok.errors import InputError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` and rename it to `target` when the block ends well.

    The temporary name keeps the suffixes of the target (`x.vcf.gz` becomes `.x.<pid>.tmp.vcf.gz`), since
    htslib and pyarrow choose their format by suffix. On an exception the temporary file is removed and an
    existing target is left as it was.

    Raises:
        InputError: the directory of `target` cannot be created or written to, `target` is a directory, or the disk
            is full.
    """
    target = Path(target)
    temporary = _temporary_name(target)
    require_writable(target)
    try:
        with _sentence(temporary, target):
            temporary.touch()  # pysam's BGZFile crashes where it has to make the file itself and cannot
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(target: str | Path) -> None:
    """Refuse a file that `atomic_path` could not write, before the work that it is to hold; its folder is made.

    Raises:
        InputError: the directory of `target` cannot be created or written to, or `target` is a directory.
    """
    target = Path(target)
    temporary = _temporary_name(target)
    _make_folder(target)
    if target.is_dir():
        raise InputError(f"{target}: cannot be written: Is a directory")
    with _sentence(temporary, target):
        temporary.touch()
        temporary.unlink()


def _temporary_name(target: Path) -> Path:
    stem = target.name.split(".")[0]
    return target.with_name(f".{stem}.{os.getpid()}.tmp{target.name[len(stem) :]}")


@contextmanager
def atomic_directory(target: str | Path) -> Iterator[Path]:
    """Yield a temporary directory beside `target` that takes its place when the block ends well.

    What an earlier run left in `target` is removed only then.

    Raises:
        InputError: the directory cannot be made or written to, or the disk is full.
    """
    target = Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _make_folder(target)
    shutil.rmtree(temporary, ignore_errors=True)  # a killed run, and in a container each has the same number
    try:
        with _sentence(temporary, target):
            temporary.mkdir()
            yield temporary
            if target.exists():
                shutil.rmtree(target)
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _sentence(temporary: Path, target: Path) -> Iterator[None]:
    """Say in a sentence that `target` cannot be written, where an error of the system is about it."""
    try:
        yield
    except OSError as error:
        if _about(error, temporary, target):
            raise InputError(f"{target}: cannot be written: {error.strerror}") from error
        raise


def _make_folder(target: Path) -> None:
    """Make the directory that `target` shall lie in."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from error


@contextmanager
def sole_writer(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this process alone; wait while another process holds it.

    A workflow that was killed may leave a process behind that still writes. The hold ends with the process,
    however it ends.

    Raises:
        InputError: the folder cannot be made or opened.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        _wait_for_lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _wait_for_lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{folder}: another process is writing here; waiting for its end", file=sys.stderr, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:  # some cluster file systems are mounted without locks
        print(
            f"{folder}: cannot be locked against other processes: {error.strerror}",
            file=sys.stderr,
            flush=True,
        )


def _about(error: OSError, temporary: Path, target: Path) -> bool:
    """Whether an OSError concerns the output rather than something that the block was reading."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # these name no file when write() meets them
        return True
    if not isinstance(error.filename, str | os.PathLike):
        return False
    path = Path(error.filename).absolute()
    return any(output in (path, *path.parents) for output in (temporary.absolute(), target.absolute()))


def _flush_to_disk(path: Path) -> None:
    """Make sure that a rename never becomes durable before the bytes that it names."""
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
