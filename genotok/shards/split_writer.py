"""Windows into Arrow IPC files of bounded size, hashed while they are written."""

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

from genotok.shards.manifest import Collection, Contig, ShardFile
from genotok.shards.reader import QUALITY_COLUMN
from genotok.shards.windows import Windows

# One row a window. `start` is 0-based; the lists of a row have equal lengths.
SCHEMA = pa.schema(
    [
        pa.field("genome", pa.string(), nullable=False),
        pa.field("contig", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("ids", pa.list_(pa.uint8()), nullable=False),
        pa.field("ambiguous", pa.list_(pa.bool_()), nullable=False),
        pa.field("soft_masked", pa.list_(pa.bool_()), nullable=False),
    ]
)
# What sequences of reads have beside these.
QUALITIES = pa.field(QUALITY_COLUMN, pa.list_(pa.uint8()))
Run = tuple[Contig | Collection, Windows]
LETTERS_A_FILE = 1 << 28
LETTERS_A_BATCH = 1 << 19
WINDOWS_A_BATCH = 1 << 14
BYTES_A_HASHING = 1 << 16
HASHINGS_AHEAD = 8


class SplitWriter:
    """Writes the windows of one split.

    Args:
        folder: to write into.
        split: its name.
        min_real: the least share of certain letters of a window that is kept, from 0 to 1. A window without one is
            never kept.
        fields: of further columns: `QUALITIES`, or text.

    Attributes:
        files: those begun so far; the hash of the last one stands there after `close`.
    """

    def __init__(self, folder: Path, split: str, min_real: float = 0, fields: Sequence[pa.Field] = ()):
        self.folder, self.split = folder, split
        self.schema = pa.schema([*SCHEMA, *fields])
        self.files: list[ShardFile] = []
        self._share = Fraction(str(min_real))  # exact, so that 0.55 of 100 letters are 55
        self._rows: list[Run] = []
        self._windows = self._letters = 0  # of these rows
        self._output: HashedFile | None = None
        self._sink = None

    def add(self, contig: Contig | Collection, windows: Windows) -> None:
        """Add windows of one contig or more; those with too few certain letters are dropped and counted."""
        kept = self._kept(windows)
        count = int(kept.sum())
        contig.windows += count
        contig.dropped_windows += len(kept) - count
        if count:
            self._rows.append((contig, windows.chosen(kept)))
            self._windows += count
            self._letters += int(self._rows[-1][1].offsets[-1])
            in_file = self.files[-1].bases if self._sink is not None else 0
            full = self._letters >= LETTERS_A_BATCH or self._windows >= WINDOWS_A_BATCH
            if full or in_file + self._letters >= LETTERS_A_FILE:
                self._write()

    def _kept(self, windows: Windows) -> np.ndarray:
        if not windows.ambiguous.any():
            return np.ones(len(windows.starts), bool)
        lengths = np.diff(windows.offsets).astype(np.int64)
        real = lengths - np.add.reduceat(windows.ambiguous, windows.offsets[:-1], dtype=np.int64)
        return (real > 0) & (real * self._share.denominator >= lengths * self._share.numerator)

    def _write(self) -> None:
        if self._sink is None:
            name = f"{self.split}-{len(self.files):05d}.arrow"
            self.files.append(ShardFile(name, self.split, "", 0, 0))
            self._output = HashedFile(self.folder / name)
            self._sink = pa.ipc.new_file(self._output, self.schema)
        self._sink.write_batch(_record_batch(self._rows, self.schema))
        file = self.files[-1]
        file.windows += self._windows
        file.bases += self._letters
        self._rows, self._windows, self._letters = [], 0, 0
        if file.bases >= LETTERS_A_FILE:
            self._close_file()

    def _close_file(self) -> None:
        self._sink.close()
        self._sink = None
        self._output.close()
        self.files[-1].sha256 = self._output.sha256

    def close(self) -> None:
        """Write what is left, finish the file in hand and note its hash."""
        if self._rows:
            self._write()
        if self._sink is not None:
            self._close_file()

    def abandon(self) -> None:
        """Let go of the file in hand as it is."""
        if self._output is not None:
            self._output.close()


def _record_batch(rows: list[Run], schema: pa.Schema) -> pa.RecordBatch:
    ends = np.cumsum([0, *(int(windows.offsets[-1]) for _, windows in rows)])
    offsets = [windows.offsets[1:] + end for (_, windows), end in zip(rows, ends[:-1], strict=True)]
    offsets = pa.array(np.concatenate([[0], *offsets]).astype(np.int32))
    of_rows = [(contig, len(windows.starts)) for contig, windows in rows]
    ids, *masks = (
        np.concatenate([getattr(windows, name) for _, windows in rows])
        for name in ("ids", "ambiguous", "soft_masked")
    )
    columns = [
        pa.array([text for contig, count in of_rows for text in [contig.genome] * count], pa.string()),
        pa.array([name for row in rows for name in _names(*row)], pa.string()),
        pa.array(np.concatenate([windows.starts for _, windows in rows])),
        pa.ListArray.from_arrays(offsets, pa.array(ids)),
        *(pa.ListArray.from_arrays(offsets, packed_mask(mask)) for mask in masks),
        *(_further_column(field, [windows for _, windows in rows]) for field in [*schema][len(SCHEMA) :]),
    ]
    return pa.record_batch(columns, schema=schema)


def _names(contig: Contig | Collection, windows: Windows) -> list[str]:
    """What each window is of."""
    return [contig.name] * len(windows.starts) if windows.names is None else windows.names


def _further_column(field: pa.Field, rows: list[Windows]) -> pa.Array:
    if field.name != QUALITIES.name:
        cells = [windows.values.get(field.name) or [None] * len(windows.starts) for windows in rows]
        return pa.array([cell for some in cells for cell in some], field.type)
    parts = [
        pa.nulls(len(windows.starts), field.type)
        if windows.qualities is None
        else pa.ListArray.from_arrays(pa.array(windows.offsets), pa.array(windows.qualities))
        for windows in rows
    ]
    return pa.concat_arrays(parts)


def packed_mask(mask: np.ndarray) -> pa.BooleanArray:
    """A mask (n,) bool as Arrow holds it, a bit each; some twenty times as fast as `pyarrow.array`."""
    bits = pa.py_buffer(np.packbits(mask, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, bits])


class HashedFile:
    """A file to write to, and the SHA-256 of what was written, so that nobody has to read it again.

    The hashing runs beside the caller, since hashlib lets other threads go on.

    Attributes:
        sha256: in hexadecimal; after `close`.
    """

    def __init__(self, path: Path):
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._running: deque[Future] = deque()
        self._waiting = bytearray()
        self.sha256 = ""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed

    def write(self, data: bytes | pa.Buffer) -> int:
        """Write all of the data, which must not change afterwards."""
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._file.write(rest) :]
        if len(data) >= BYTES_A_HASHING:
            self._hash_waiting()
            self._hash(data)
        else:
            self._waiting += data
        return len(data)

    def _hash_waiting(self) -> None:
        if self._waiting:
            self._hash(self._waiting)
            self._waiting = bytearray()

    def _hash(self, data: bytes | bytearray | pa.Buffer) -> None:
        while len(self._running) >= HASHINGS_AHEAD:
            self._running.popleft().result()
        self._running.append(self._thread.submit(self._digest.update, data))

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """Close the file and finish its hash."""
        if not self.closed:
            self._file.close()
            self._hash_waiting()
            self._thread.shutdown()
            self.sha256 = self._digest.hexdigest()
