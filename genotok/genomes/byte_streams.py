"""The bytes of a source, wherever it lies: a file, standard input, or an address that fsspec knows.

Compression is told from the first bytes: gzip (RFC 1952), BGZF (SAM specification 4.1) and zstd (RFC 8878).
"""

import contextlib
import gzip
import hashlib
import io
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.genomes import http_stream
from genotok.genomes.formats import BGZF_END, BLOCK, FOREIGN, ZSTD

STANDARD_INPUT = "-"
_SKIPPABLE = b"\x2a\x4d\x18"  # bytes 1 to 3 of a frame that holds no data, e.g. of pzstd
_PACKAGES = "the package of its file system is not installed"


def is_address(source: str | Path) -> bool:
    """Whether a source is an address such as `s3://bucket/key` rather than a path."""
    return "://" in str(source)


def public_address(address: str) -> str:
    """An address without what may be secret: the part behind `?` or `#`, and a user's name and password."""
    scheme, rest = address.split("://", 1)
    place, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def source_label(source: str | Path) -> str:
    """How sentences call a source; of an address without what may be secret."""
    text = str(source)
    return "standard input" if text == STANDARD_INPUT else public_address(text) if is_address(text) else text


class _Noted(io.RawIOBase):
    """Passes bytes on; keeps their SHA-256, where wanted, and the last of them.

    Errors of any file system become sentences.
    """

    def __init__(self, handle: BinaryIO, source: str | Path, hashed: bool = True):
        self.handle, self.source, self.label, self.hashed = handle, source, source_label(source), hashed
        self.digest, self.tail = hashlib.sha256(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer, unless the source ends within it."""
        view, done = memoryview(buffer), 0
        while done < len(view):
            try:
                part = self.handle.read(len(view) - done)
            except InputError:
                raise
            except Exception as error:  # each file system of fsspec raises its own kinds
                raise InputError(f"{self.label}: cannot be read: {_said(error, self.source)}") from error
            if not part:
                break
            view[done : done + len(part)] = part
            done += len(part)
        if self.hashed:
            self.digest.update(view[:done])
        self.tail = (self.tail + bytes(view[max(0, done - len(BGZF_END)) : done]))[-len(BGZF_END) :]
        return done


class ByteStream:
    """The decompressed bytes of a source, read once from its beginning to its end.

    Args:
        source: a path; `-` for standard input; or an address that fsspec knows (`https://`, `s3://`, `file://` ...).

    Attributes:
        label: how sentences call it.
        head: the first decompressed bytes, at most 64 KiB; none where the source is damaged from its beginning.

    Raises:
        InputError: it cannot be opened.
    """

    def __init__(self, source: str | Path):
        self.label = source_label(source)
        handle, is_file = _opened(source, self.label), _is_file(source)
        self._raw = _Noted(handle, source, hashed=not is_file)
        # A file is hashed beside the reading, which brings it into memory.
        self._hashing = ThreadPoolExecutor(1) if is_file else None
        self._digest = self._hashing.submit(sha256_of, source) if is_file else None
        buffered = io.BufferedReader(self._raw, BLOCK)
        try:
            first = buffered.peek(1)
            for magic, complaint in FOREIGN.items():
                if first.startswith(magic):
                    raise InputError(f"{self.label}: {complaint}")
            self._kind, handle = _decompressed(buffered, first)
            plain = self._kind == "plain"
            self._text = buffered if plain else io.BufferedReader(_Blocks(self._guarded(handle)), BLOCK)
            self.head = self._text.peek(1)[: 1 << 16]
        except BaseException:
            self.close()
            raise

    def _guarded(self, handle: BinaryIO) -> Iterator[bytes]:
        """Blocks of decompressed bytes; what is wrong with them is said in a sentence."""
        try:
            while block := handle.read(BLOCK):
                yield block
        except EOFError as error:
            raise InputError(
                f"{self.label}: is truncated (the gzip stream breaks off); get the file again"
            ) from error
        except (zlib.error, gzip.BadGzipFile, OSError) as error:
            truncated = "Truncated" in str(error)
            what = "truncated (the zstd stream breaks off)" if truncated else f"damaged ({_said(error)})"
            raise InputError(f"{self.label}: is {what}; get the file again") from error
        if self._kind == "bgzf" and self._raw.tail != BGZF_END:
            raise InputError(
                f"{self.label}: is truncated (the BGZF end marker is missing); get the file again"
            )

    def blocks(self) -> Iterator[bytes]:
        """The bytes in blocks of at most 128 KiB.

        Raises:
            InputError: the source breaks off, is damaged, or cannot be read.
        """
        while block := self._text.read(BLOCK):
            yield block

    @property
    def file(self) -> io.BufferedReader:
        """The bytes as a file that can only be read forward."""
        return self._text

    def sha256(self) -> str:
        """The SHA-256 of the source's own bytes, compressed as they are, once all of them have been read."""
        if self._digest is not None:
            return self._digest.result()
        while self._raw.read(BLOCK):
            pass
        return self._raw.digest.hexdigest()

    def close(self) -> None:
        """Close the source."""
        if self._hashing is not None:
            self._hashing.shutdown(wait=False, cancel_futures=True)
        if self._raw.handle is not sys.stdin.buffer:
            with contextlib.suppress(Exception):
                self._raw.handle.close()

    def __enter__(self) -> "ByteStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Blocks(io.RawIOBase):
    """A file of blocks of bytes."""

    def __init__(self, blocks: Iterator[bytes]):
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if not self._rest:
            self._rest = next(self._blocks, b"")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


@contextlib.contextmanager
def local_copy(source: str | Path) -> Iterator[tuple[Path, str]]:
    """A source as a file of this machine, for formats that are not read from beginning to end, and its SHA-256.

    What is no file yet is copied into the temporary directory first.
    """
    label = source_label(source)
    handle = _Noted(_opened(source, label), source)
    with contextlib.closing(handle.handle):
        if _is_file(source):
            path = Path(source)
            yield path, hashlib.file_digest(handle.handle, "sha256").hexdigest()
            return
        with tempfile.NamedTemporaryFile(prefix="genotok-", suffix=Path(label).suffix) as copy:
            shutil.copyfileobj(io.BufferedReader(handle, BLOCK), copy, BLOCK)
            copy.flush()
            yield Path(copy.name), handle.digest.hexdigest()


def _is_file(source: str | Path) -> bool:
    """Whether a source is a file of this machine, which can be read more than once."""
    return not is_address(source) and str(source) != STANDARD_INPUT and Path(source).is_file()


def _opened(source: str | Path, label: str) -> BinaryIO:
    if str(source) == STANDARD_INPUT:
        return sys.stdin.buffer
    try:
        if not is_address(source):
            return open(source, "rb", buffering=0)
        if str(source).startswith(("http://", "https://")):
            return http_stream.HttpStream(str(source), label)
        import fsspec

        return fsspec.open(str(source), "rb").open()
    except OSError as error:
        raise InputError(f"{label}: cannot be read: {_said(error, source)}") from error
    except ImportError as error:
        raise InputError(f"{label}: cannot be read: {_PACKAGES}: {_said(error, source)}") from error
    except Exception as error:  # each file system of fsspec raises its own kinds
        raise InputError(f"{label}: cannot be read: {_said(error, source)}") from error


def _decompressed(handle: io.BufferedReader, head: bytes) -> tuple[str, BinaryIO]:
    if head.startswith(b"\x1f\x8b"):
        kind = "bgzf" if head[3:4] == b"\x04" and head[12:16] == b"BC\x02\x00" else "gzip"
        return kind, gzip.GzipFile(fileobj=handle)
    if head.startswith(ZSTD) or head[1:4] == _SKIPPABLE:
        return "zstd", pa.CompressedInputStream(pa.PythonFile(handle, "r"), "zstd")
    return "plain", handle


def _said(error: BaseException, source: str | Path = "") -> str:
    """An error in one line, which calls an address as sentences do."""
    while isinstance(error, FileNotFoundError) and error.__cause__:  # the address itself is all that it says
        error = error.__cause__
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if type(error).__name__ == "FSTimeoutError":
        text = f"nothing came for {http_stream.SILENCE:g} seconds"
    if is_address(source):
        text = "there is nothing at this address" if text == str(source) else text
        text = text.replace(str(source), source_label(source))
    return " ".join(text.split()) or type(error).__name__
