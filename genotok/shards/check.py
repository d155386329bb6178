"""`genotok shards check`: whether shards are what was written, and fit their manifest."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.progress import Progress, progress
from genotok.shards.manifest import (
    Collection,
    Contig,
    Manifest,
    ShardFile,
    is_as_written,
    manifest_path,
    read_manifest,
)
from genotok.shards.reader import BOUNDARY_COLUMN, ENTROPY_COLUMNS, open_batches
from genotok.shards.split_writer import SCHEMA

# Qualities, and what was kept of a source, may be.
NEVER_EMPTY = (*SCHEMA.names, *ENTROPY_COLUMNS, BOUNDARY_COLUMN)
ContigKey = tuple[str, ...]


def check_shards(shards: str | Path) -> list[str]:
    """What is wrong with shards, one sentence a problem; an empty list where nothing is.

    The manifest must have the checksum that it names. Each file must be there, have the SHA-256 of the manifest
    and the columns that it names, and hold as many windows and letters as it says. The lists of a row must have
    one length, at most the window's; its letters must lie on a contig of the manifest that is of the file's
    split, be ids of the tokenizer, and be marked as ambiguous where they are. The windows of a contig must be as
    many as the manifest says. Of a file that has changed since it was written only that is said.

    Args:
        shards: a folder with `manifest.json`, or the manifest.

    Raises:
        InputError: the manifest cannot be read.
    """
    folder, manifest = read_manifest(shards)
    path = manifest_path(shards)
    if not is_as_written(path):
        return [f"{path}: has changed since it was written; run `genotok tokenize` again"]
    problems = [*_of_manifest(path, manifest), *_unknown_files(folder, manifest)]
    windows: Counter[ContigKey] = Counter()
    with progress("check", sum(file.bases for file in manifest.files), "bases") as bar:
        for file in manifest.files:
            path = folder / file.path
            problems += _changed(path, file) or _Contents(path, file, manifest, windows, bar).problems()
    if windows.total() == sum(file.windows for file in manifest.files):
        for contig in manifest.contigs:
            count = windows[contig.genome, contig.name]
            if count != contig.windows:
                problems.append(
                    f"{folder}: the files hold {count} windows of the contig {contig.genome}:{contig.name}, and the "
                    f"manifest says {contig.windows}"
                )
        for one in manifest.collections:
            count = windows[one.genome, one.split, ""]
            if count != one.windows:
                problems.append(
                    f"{folder}: the files hold {count} windows of {one.genome} in the split {one.split}, and the "
                    f"manifest says {one.windows}"
                )
    return problems


def _of_manifest(path: Path, manifest: Manifest) -> Iterator[str]:
    """What does not fit within the manifest."""
    if json.loads(path.read_text())["counts"] != manifest.counts():
        yield f"{path}: its counts are not the sums of its contigs and files"
    for what, names in (
        ("file", [file.path for file in manifest.files]),
        ("contig", [f"{contig.genome}:{contig.name}" for contig in manifest.contigs]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{path}: names the {what} {name} {count} times"


def _unknown_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    known = {(folder / file.path).resolve() for file in manifest.files}
    for path in sorted(folder.glob("*.arrow")):
        if path.resolve() not in known:
            yield f"{path}: is not in the manifest"


def _changed(path: Path, file: ShardFile) -> list[str]:
    """Why a file is not the one that was written."""
    try:
        digest = sha256_of(path)
    except OSError as error:
        return [f"{path}: cannot be read: {error.strerror}"]
    if digest == file.sha256:
        return []
    try:
        open_batches(path, file.windows)
    except InputError as error:
        return [str(error)]
    return [
        f"{path}: has changed since it was written: its SHA-256 is {digest}, and the manifest says {file.sha256}"
    ]


class _Contents:
    """What a file that has its hash holds."""

    def __init__(
        self, path: Path, file: ShardFile, manifest: Manifest, windows: Counter[ContigKey], bar: Progress
    ):
        self.path, self.file, self.manifest, self.windows, self.bar = path, file, manifest, windows, bar
        self.contigs = {(contig.genome, contig.name): contig for contig in manifest.contigs}
        self.collections = {one.genome: one for one in manifest.collections if one.split == file.split}
        self.tokenizer = manifest.letter_tokenizer

    def problems(self) -> list[str]:
        """The first problem of each kind and batch."""
        try:
            batches = open_batches(self.path, self.file.windows)
        except InputError as error:
            return [str(error)]
        found = list(self._of_schema(batches[0].schema)) if batches else []
        if found:
            return found
        bases = sum(len(batch.column("ids").flatten()) for batch in batches)
        if bases != self.file.bases:
            found.append(f"{self.path}: holds {bases} letters, and the manifest says {self.file.bases}")
        row = 0
        for batch in batches:
            found += (f"{self.path}: {problem}" for problem in self._of_batch(batch, row))
            row += batch.num_rows
            self.bar.advance(len(batch.column("ids").flatten()), note=self.path.name)
        return found

    def _of_schema(self, schema: pa.Schema) -> Iterator[str]:
        wanted = list(SCHEMA)
        if self.manifest.boundaries is not None:
            wanted.append(pa.field(BOUNDARY_COLUMN, pa.list_(pa.bool_())))
        if self.manifest.entropies is not None:
            kind = pa.list_(pa.type_for_alias(self.manifest.entropies["dtype"]))
            wanted += [pa.field(name, kind) for name in ENTROPY_COLUMNS]
        for field in wanted:
            if field.name not in schema.names:
                yield f"{self.path}: has no column {field.name!r}"
            elif schema.field(field.name).type != field.type:
                kind = schema.field(field.name).type
                yield f"{self.path}: the column {field.name!r} is of {kind}, and should be of {field.type}"

    def _of_batch(self, batch: pa.RecordBatch, first: int) -> Iterator[str]:
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            yield f"windows from {first}: {error}"
            return
        if any(batch.column(name).null_count for name in NEVER_EMPTY if name in batch.schema.names):
            yield f"windows from {first}: there are empty cells"
            return
        lengths = _lengths(batch.column("ids"))
        for row, problem in (*self._of_lengths(batch, lengths), *self._of_letters(batch, lengths)):
            yield f"window {first + row}: {problem}"
        yield from (f"window {first + row}: {problem}" for row, problem in self._of_places(batch, lengths))

    def _of_lengths(self, batch: pa.RecordBatch, lengths: np.ndarray) -> Iterator[tuple[int, str]]:
        wrong = np.flatnonzero((lengths < 1) | (lengths > self.manifest.window))
        if len(wrong):
            row, most = int(wrong[0]), self.manifest.window
            yield row, f"has {lengths[row]} letters, and should have from 1 to {most}"
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if pa.types.is_list(field.type):
                more = _lengths(column) - lengths
                # Entropies may begin with that behind a start token.
                there = column.is_valid().to_numpy(zero_copy_only=False)
                wrong = np.flatnonzero(there & (more != 0) & ~((more == 1) & (field.name in ENTROPY_COLUMNS)))
                if len(wrong):
                    row = int(wrong[0])
                    yield (
                        row,
                        f"has {lengths[row]} letters, and {lengths[row] + more[row]} values of {field.name!r}",
                    )

    def _of_letters(self, batch: pa.RecordBatch, lengths: np.ndarray) -> Iterator[tuple[int, str]]:
        ids = batch.column("ids").flatten().to_numpy()
        row_of = np.cumsum(lengths)
        if len(ids) and ids.max() >= self.tokenizer.vocab_size:
            at = int(np.argmax(ids >= self.tokenizer.vocab_size))
            row = int(np.searchsorted(row_of, at, side="right"))
            yield row, f"{ids[at]} is no id of the tokenizer {self.tokenizer.name!r}"
            return
        ambiguous = batch.column("ambiguous").flatten().to_numpy(zero_copy_only=False)
        table = np.zeros(256, bool)
        table[: self.tokenizer.vocab_size] = ~self.tokenizer.is_nucleotide
        wanted = np.frombuffer(ids.tobytes().translate(table.tobytes()), bool)
        if len(wanted) == len(ambiguous) and (wanted != ambiguous).any():
            row = int(np.searchsorted(row_of, int(np.argmax(wanted != ambiguous)), side="right"))
            yield row, "letters are marked as ambiguous that are not, or the other way round"

    def _of_places(self, batch: pa.RecordBatch, lengths: np.ndarray) -> Iterator[tuple[int, str]]:
        genomes, names = batch.column("genome").to_pylist(), batch.column("contig").to_pylist()
        starts = batch.column("start").to_numpy()
        said: set[ContigKey] = set()
        for row, (key, start, length) in enumerate(
            zip(zip(genomes, names, strict=True), starts.tolist(), lengths.tolist(), strict=True)
        ):
            collection = None if key in self.contigs else self.collections.get(key[0])
            self.windows[key if collection is None else (key[0], self.file.split, "")] += 1
            if collection is None:
                problem = self._of_place(self.contigs.get(key), start, length)
            else:
                problem = _of_collection(collection, start, length)
            if problem and key not in said:
                said.add(key)
                yield row, f"{key[0]}:{key[1]} {problem}"

    def _of_place(self, contig: Contig | None, start: int, length: int) -> str | None:
        if contig is None:
            return "is no contig of the manifest"
        if contig.split != self.file.split:
            return f"is of the split {contig.split}, and the file of {self.file.split}"
        if not 0 <= start <= contig.length - length:
            return f"from {start} on has no {length} letters; the manifest gives it {contig.length}"
        return None


def _of_collection(collection: Collection, start: int, length: int) -> str | None:
    if not 0 <= start <= collection.longest - length:
        return (
            f"from {start} on has no {length} letters; the longest of its sequences has {collection.longest}"
        )
    return None


def _lengths(column: pa.ListArray) -> np.ndarray:
    """(rows,) int64."""
    return np.diff(column.offsets.to_numpy()).astype(np.int64)
