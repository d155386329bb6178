"""UCSC .2bit genomes, read and written contig by contig.

Follows the twoBit section of UCSC's "Data File Formats" page and `twoBit.h`: both byte orders, version 0
(32-bit offsets) and version 1 (64-bit offsets), N blocks, and mask blocks, which become lower case.
"""

import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.genomes.formats import BLOCK
from genotok.genomes.intervals import covered

SIGNATURE = 0x1A412743
LOWER_CASE = 0x20

# One packed byte gives four letters, the first from the highest two bits; T, C, A, G are 0, 1, 2, 3.
_LETTERS = np.frombuffer(b"TCAG", dtype=np.uint8)
# 4 stands for a letter of no code.
_CODES = np.full(256, 4, np.uint8)
_CODES[np.frombuffer(b"TCAGtcag", np.uint8)] = [0, 1, 2, 3, 0, 1, 2, 3]
_UNPACKED = _LETTERS[np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3]


class _Contig(NamedTuple):
    """One sequence record: blocks are (n, 2) arrays of [start, end), 0-based."""

    length: int
    unknown: np.ndarray
    masked: np.ndarray
    packed_at: int


def read_twobit(path: str | Path, label: str | None = None) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Stream a .2bit file as `read_fasta` streams FASTA; memory grows only with a contig's block lists.

    Args:
        path: the file.
        label: how error sentences call the file; default the path.

    Yields:
        (name, blocks): blocks are `bytes` of at most 128 KiB of A, C, G, T and N, in lower case where masked.
        They may be skipped.

    Raises:
        InputError: another signature or version, a truncated file, blocks outside their contig, or a name
            that occurs twice.
    """
    label = label or str(path)
    with open(path, "rb") as handle:
        reader = _Reader(handle, label)
        for name, offset in reader.offsets().items():
            yield name, reader.letters(name, offset)


class _Reader:
    """Reads numbers in the file's own byte order; a short read means a truncated file."""

    def __init__(self, handle: BinaryIO, label: str):
        self.handle, self.label = handle, label
        self.size = os.fstat(handle.fileno()).st_size
        signature = self._read(4)
        self.order = "<" if signature == struct.pack("<I", SIGNATURE) else ">"
        if signature != struct.pack(f"{self.order}I", SIGNATURE):
            raise InputError(
                f"{label}: is no .2bit file (its signature is {signature.hex()}); check the file"
            )
        self.version, self.count, _ = self._numbers(3).tolist()
        if self.version not in (0, 1):
            raise InputError(f"{label}: is .2bit version {self.version}; only versions 0 and 1 are known")

    def offsets(self) -> dict[str, int]:
        """Where each contig's record begins, in the order of the file."""
        found: dict[str, int] = {}
        for _ in range(self.count):
            raw = self._read(self._read(1)[0])
            if not re.fullmatch(rb"[!-~]+", raw):
                raise InputError(f"{self.label}: {raw!r} cannot be the name of a contig in FASTA; rename it")
            name = raw.decode()
            if name in found:
                raise InputError(f"{self.label}: contig name {name} occurs twice; rename or remove one")
            (found[name],) = struct.unpack(*self._offset_field())
        return found

    def _offset_field(self) -> tuple[str, bytes]:
        return (f"{self.order}Q", self._read(8)) if self.version else (f"{self.order}I", self._read(4))

    def letters(self, name: str, offset: int) -> Iterator[bytes]:
        """The letters of one contig in blocks."""
        contig = self._contig(name, offset)
        for start in range(0, contig.length, BLOCK):
            end = min(start + BLOCK, contig.length)
            self.handle.seek(contig.packed_at + start // 4)
            packed = np.frombuffer(self._read(-(-(end - start) // 4)), dtype=np.uint8)
            letters = _UNPACKED[packed].reshape(-1)[: end - start]
            letters[covered(contig.unknown, start, end)] = ord("N")
            letters[covered(contig.masked, start, end)] |= LOWER_CASE
            yield letters.tobytes()

    def _contig(self, name: str, offset: int) -> _Contig:
        self.handle.seek(offset)
        length = int(self._numbers(1)[0])
        unknown, masked = self._intervals(name, length), self._intervals(name, length)
        self._read(4)
        return _Contig(length, unknown, masked, self.handle.tell())

    def _intervals(self, name: str, length: int) -> np.ndarray:
        count = int(self._numbers(1)[0])
        starts, sizes = self._numbers(count), self._numbers(count)
        intervals = np.stack([starts, starts + sizes], axis=1)
        if count and intervals[:, 1].max() > length:
            raise InputError(
                f"{self.label}: contig {name}: a block lies outside the contig; the file is damaged"
            )
        return intervals

    def _numbers(self, count: int) -> np.ndarray:
        return np.frombuffer(self._read(4 * count), dtype=f"{self.order}u4").astype(np.int64)

    def _read(self, size: int) -> bytes:
        if self.handle.tell() + size > self.size:
            raise InputError(f"{self.label}: is truncated (.2bit data ends early); get the file again")
        return self.handle.read(size)


def write_twobit(contigs: Iterable[tuple[str, Iterable[bytes]]], path: str | Path) -> None:
    """Write a .2bit file of version 0.

    Memory holds one contig at a time. Letters other than A, C, G and T become N, lower case a mask block.

    Args:
        contigs: names and blocks of letters, as `read_fasta` gives them.
        path: the file.

    Raises:
        InputError: it cannot be written, a name is longer than 255 letters, or the file would be larger than 4 GB.
    """
    names: list[bytes] = []
    offsets: list[int] = []
    with tempfile.TemporaryFile() as records:
        for name, blocks in contigs:
            names.append(name.encode())
            offsets.append(records.tell())
            records.write(_record(np.frombuffer(b"".join(blocks), np.uint8)))
        header = 16 + sum(5 + len(name) for name in names)
        if header + records.tell() >= 1 << 32:
            raise InputError(f"{path}: the genome is too large for a .2bit file of version 0")
        with atomic_path(path) as temporary, open(temporary, "wb") as handle:
            handle.write(struct.pack("<IIII", SIGNATURE, 0, len(names), 0))
            for name, offset in zip(names, offsets, strict=True):
                if len(name) > 255:
                    raise InputError(f"{path}: the name {name.decode()[:40]}... is too long for a .2bit file")
                handle.write(bytes([len(name)]) + name + struct.pack("<I", header + offset))
            records.seek(0)
            shutil.copyfileobj(records, handle)


def _record(letters: np.ndarray) -> bytes:
    """One contig's record: length, N blocks, mask blocks, and four letters a byte."""
    codes = _CODES[letters]
    unknown = _runs(codes > 3)
    masked = _runs(letters >= ord("a"))
    padded = np.zeros(-(-len(codes) // 4) * 4, np.uint8)
    padded[: len(codes)] = codes & 3
    quads = padded.reshape(-1, 4)
    packed = quads[:, 0] << 6 | quads[:, 1] << 4 | quads[:, 2] << 2 | quads[:, 3]
    numbers = [[len(letters)], *(part for runs in (unknown, masked) for part in runs), [0]]
    return b"".join(np.asarray(part, "<u4").tobytes() for part in numbers) + packed.tobytes()


def _runs(inside: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """How many runs of true there are, where they begin, and how long they are."""
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    return [len(edges) // 2], edges[::2], edges[1::2] - edges[::2]
