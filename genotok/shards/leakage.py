"""Windows of one split that stand in another, and shards without them.

A window of `valid` leaks where it stands in `train`, and one of `test` where it stands in `train` or `valid`, by one
of two rules. `exact`: a window there has the same letters from end to end, or the opposite strand's; case does not
count, nor which ambiguous letter it is where the tokenizer knows one alone. `contained`: of the k-mers of its
sketch at least the share `threshold` stands there, on either strand and wherever; a window without a chosen k-mer
never does. Proteins have no opposite strand, and leak by the first rule alone.

Memory grows with the sketches of `valid` and `test`, of which `MOST_KMERS` are kept, and not with `train`.
"""

import contextlib
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genotok.atomic import atomic_directory, atomic_path
from genotok.errors import InputError
from genotok.progress import Progress, progress
from genotok.shards.manifest import SPLITS, Manifest, ShardFile, read_manifest
from genotok.shards.reader import open_batches
from genotok.shards.sketch import LONGEST_K, sketch_windows
from genotok.shards.split_writer import HashedFile
from genotok.tokenizers import LetterTokenizer

K = 21  # chance k-mers are rare even in 3 billion letters
THRESHOLD = 0.5  # at 21 letters, windows of which some 97 % of the letters agree
KMERS_A_WINDOW = 128  # chosen of an average window, so that a share is known within some 5 %
MOST_KMERS = 1 << 25
DEDUPLICATIONS = ("no", "report", "drop")


@dataclass
class Leakage:
    """What leaks.

    Attributes:
        k, scale, threshold: of the sketches, see `genotok.shards.sketch`.
        pairs: for each pair of splits how many `windows` of the split `of` are in the split `in` by the rules `exact`
            and `contained`, and by `either`.
        leaking: by path of a file, (windows,) bool, those that leak by either rule into any split before theirs.
    """

    k: int
    scale: int
    threshold: float
    pairs: list[dict[str, Any]]
    leaking: dict[str, np.ndarray]

    def table(self) -> dict[str, Any]:
        """What the manifest says."""
        return {"k": self.k, "scale": self.scale, "threshold": self.threshold, "pairs": self.pairs}

    def sentences(self) -> list[str]:
        """A line a pair, for people."""
        return [
            f"{pair['of']} in {pair['in']}: {pair['either']:,} of {pair['windows']:,} windows; {pair['exact']:,} "
            f"stand there as they are or as the opposite strand, {pair['contained']:,} by at least "
            f"{self.threshold:.0%} of their {self.k}-mers"
            for pair in self.pairs
        ]


@dataclass
class _Batch:
    """Windows that lie one behind the other: their exact digests (rows,) uint64, and their sketches."""

    digests: np.ndarray
    kmers: np.ndarray
    rows: np.ndarray


class _Known:
    """Numbers of the splits that are looked at, and for each split before them which of these stand there."""

    def __init__(self, parts: list[np.ndarray]):
        self.values = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))
        self.there: dict[str, np.ndarray] = {}

    def note(self, split: str, values: np.ndarray) -> None:
        """Values that stand in a split."""
        there = self.there.setdefault(split, np.zeros(len(self.values), bool))
        if len(self.values):
            values = np.sort(values)  # neighbours are near one another
            at = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
            there[at[self.values[at] == values]] = True

    def stand_in(self, split: str, values: np.ndarray) -> np.ndarray:
        """(n,) bool, which of these numbers of the splits that are looked at stand in a split before."""
        return self.there[split][np.searchsorted(self.values, values)]


def find_leakage(folder: Path, manifest: Manifest, *, k: int = K, threshold: float = THRESHOLD) -> Leakage:
    """Look for windows of a split that stand in one before it.

    Args:
        folder: of the shards.
        manifest: theirs.
        k: letters a k-mer, 11 to 31.
        threshold: share of a window's k-mers, above 0 to 1.

    Raises:
        InputError: a file cannot be read, or a setting is out of range.
    """
    if not 11 <= k <= LONGEST_K or not 0 < threshold <= 1:
        raise InputError(
            f"k {k} and threshold {threshold}: k should be from 11 to {LONGEST_K}, and the threshold above "
            "0 and at most 1"
        )
    files = {split: [file for file in manifest.files if file.split == split] for split in SPLITS}
    splits = [split for split in SPLITS if files[split]]
    looked_at = [file for split in splits[1:] for file in files[split]]
    scale = _scale(manifest, looked_at)
    tokenizer = manifest.letter_tokenizer

    def batches(some: list[ShardFile]) -> Iterator[tuple[ShardFile, _Batch]]:
        for file in some:
            for batch in open_batches(folder / file.path, file.windows):
                yield file, _batch(batch, tokenizer, k, scale)
                bar.advance(len(batch.column("ids").flatten()), note=file.split)

    before = [file for split in splits[:-1] for file in files[split]]
    bases = sum(file.bases for file in (*looked_at, *before, *looked_at)) if looked_at else 0
    with progress("leakage", bases, "bases") as bar:
        digests, kmers = _known(batches(looked_at))
        for file, batch in batches(before):
            digests.note(file.split, batch.digests)
            kmers.note(file.split, batch.kmers)
        found = _Found(threshold, {file.path: [] for file in looked_at})
        for file, batch in batches(looked_at):
            found.judge(file, splits[: splits.index(file.split)], batch, digests, kmers)
    return Leakage(k, scale, threshold, found.pairs(), found.leaking())


def _scale(manifest: Manifest, looked_at: list[ShardFile]) -> int:
    """One of how many k-mers is chosen: so many a window as are needed, and no more in all than fit."""
    windows, bases = sum(file.windows for file in looked_at), sum(file.bases for file in looked_at)
    return max(1, bases // max(1, windows * KMERS_A_WINDOW), -(-bases // MOST_KMERS))


def _known(batches: Iterator[tuple[ShardFile, _Batch]]) -> tuple[_Known, _Known]:
    """The digests and k-mers of the splits that are looked at."""
    digests, kmers = [], []
    for _, batch in batches:
        digests.append(batch.digests)
        kmers.append(np.unique(batch.kmers))
    return _Known(digests), _Known(kmers)


class _Found:
    """What was found of each pair of splits and of each file."""

    def __init__(self, threshold: float, masks: dict[str, list[np.ndarray]]):
        self.threshold, self._masks = threshold, masks
        self._counts: dict[tuple[str, str], np.ndarray] = {}

    def judge(
        self, file: ShardFile, splits: list[str], batch: _Batch, digests: _Known, kmers: _Known
    ) -> None:
        """Judge the windows of a batch against each split before theirs."""
        rows = len(batch.digests)
        chosen = np.bincount(batch.rows, minlength=rows)
        leaking = np.zeros(rows, bool)
        for before in splits:
            exact = digests.stand_in(before, batch.digests)
            shared = np.bincount(batch.rows, kmers.stand_in(before, batch.kmers), rows)
            contained = (chosen > 0) & (shared >= self.threshold * chosen)
            counts = self._counts.setdefault((file.split, before), np.zeros(4, np.int64))
            counts += [rows, exact.sum(), contained.sum(), (exact | contained).sum()]
            leaking |= exact | contained
        self._masks[file.path].append(leaking)

    def pairs(self) -> list[dict[str, Any]]:
        """See `Leakage`."""
        names = ("windows", "exact", "contained", "either")
        return [
            {"of": of, "in": before, **dict(zip(names, counts.tolist(), strict=True))}
            for (of, before), counts in sorted(self._counts.items(), key=lambda item: _place(item[0]))
        ]

    def leaking(self) -> dict[str, np.ndarray]:
        """See `Leakage`."""
        return {path: np.concatenate(masks) for path, masks in self._masks.items()}


def _place(pair: tuple[str, str]) -> tuple[int, int]:
    return SPLITS.index(pair[0]), SPLITS.index(pair[1])


def _batch(batch: pa.RecordBatch, tokenizer: LetterTokenizer, k: int, scale: int) -> _Batch:
    column = batch.column("ids")
    ids = column.flatten().to_numpy()
    offsets = column.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]
    table = np.full(256, 4, np.uint8)
    if tokenizer.has_strands:
        table[: tokenizer.vocab_size] = tokenizer.nucleotide_code
    letters = np.frombuffer(ids.tobytes().translate(table.tobytes()), np.uint8)
    sketches = sketch_windows(letters, offsets, k, scale)
    return _Batch(_digests(ids, letters, offsets, tokenizer), sketches.values, sketches.rows)


def _digests(
    ids: np.ndarray, letters: np.ndarray, offsets: np.ndarray, tokenizer: LetterTokenizer
) -> np.ndarray:
    """(rows,) uint64, equal for windows with the same ids or those of the opposite strand, and no others."""
    table = np.arange(256, dtype=np.uint8)
    table[: tokenizer.vocab_size] = tokenizer.complement
    forward = ids.tobytes()
    opposite = forward.translate(table.tobytes())[::-1]  # of all windows, so that the last comes first
    found, end = bytearray(), len(forward)
    has_strands = np.minimum.reduceat(letters, offsets[:-1]) < 4  # a protein has none
    for a, b, both in zip(offsets[:-1].tolist(), offsets[1:].tolist(), has_strands.tolist(), strict=True):
        least = min(forward[a:b], opposite[end - b : end - a]) if both else forward[a:b]
        found += hashlib.blake2b(least, digest_size=8).digest()
    return np.frombuffer(bytes(found), np.uint64)


def drop_leaking(folder: Path, manifest: Manifest, leakage: Leakage, target: Path) -> Manifest:
    """Shards without the windows that leak: `valid` and `test` become smaller, and `train` stays.

    The files that change are written into the target; the others stay where they are, and are named relative to it.

    Args:
        folder: of the shards.
        manifest: theirs.
        leakage: what `find_leakage` says of them.
        target: the folder to write into. If it is that of the shards, its files must be numbered without a gap, as
            `genotok tokenize` leaves them.

    Returns:
        The manifest, which the caller is to save.
    """
    contigs = {(contig.genome, contig.name): replace(contig) for contig in manifest.contigs}
    collections = {(one.genome, one.split): replace(one) for one in manifest.collections}
    numbers = dict.fromkeys(SPLITS, 0)
    files = []
    with progress("drop", None, "bases") as bar:
        for file in manifest.files:
            name = f"{file.split}-{numbers[file.split]:05d}.arrow"
            numbers[file.split] += 1
            leaking = leakage.leaking.get(file.path, np.zeros(file.windows, bool))
            if not leaking.any():
                files.append(replace(file, path=os.path.relpath(folder / file.path, target)))
                continue
            batches = open_batches(folder / file.path, file.windows)
            for (genome, contig), count in _contigs_of(batches, leaking).items():
                one = contigs.get((genome, contig)) or collections[genome, file.split]
                one.windows -= count
                one.dropped_windows += count
            if not leaking.all():
                files.append(_write_kept(batches, replace(file, path=name), ~leaking, target, bar))
            elif folder.resolve() == target.resolve():
                (folder / file.path).unlink()
    return replace(
        manifest, contigs=list(contigs.values()), collections=list(collections.values()), files=files
    )


def _chosen(batches: list[pa.RecordBatch], rows: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Of (windows,) bool."""
    first = 0
    for batch in batches:
        yield batch.filter(pa.array(rows[first : first + batch.num_rows]))
        first += batch.num_rows


def _contigs_of(batches: list[pa.RecordBatch], rows: np.ndarray) -> Counter[tuple[str, str]]:
    """How many of these windows each genome's contigs have."""
    counts: Counter[tuple[str, str]] = Counter()
    for some in _chosen(batches, rows):
        counts.update(zip(some.column("genome").to_pylist(), some.column("contig").to_pylist(), strict=True))
    return counts


def _write_kept(
    batches: list[pa.RecordBatch], file: ShardFile, kept: np.ndarray, target: Path, bar: Progress
) -> ShardFile:
    """Write the windows that are kept; the file may be the one that is read."""
    windows = bases = 0
    with atomic_path(target / file.path) as temporary:
        output = HashedFile(temporary)
        with contextlib.closing(output), pa.ipc.new_file(output, batches[0].schema) as sink:
            for some in _chosen(batches, kept):
                if some.num_rows:
                    sink.write_batch(some)
                letters = len(some.column("ids").flatten())
                windows, bases = windows + some.num_rows, bases + letters
                bar.advance(letters)
    return replace(file, sha256=output.sha256, windows=windows, bases=bases)


def deduplicate(folder: Path, manifest: Manifest, how: str, target: Path, **settings: Any) -> Manifest:
    """Look for leakage, say it, and drop what leaks if that is wanted.

    Args:
        folder: of the shards.
        manifest: theirs.
        how: `no`, `report` or `drop`.
        target: the folder of the new manifest; see `drop_leaking`.
        settings: as `find_leakage` takes them.

    Returns:
        The manifest with the table, which the caller is to save.

    Raises:
        InputError: see `find_leakage`.
    """
    if how not in DEDUPLICATIONS:
        raise InputError(f"deduplicate: {how!r} should be one of {', '.join(DEDUPLICATIONS)}")
    if how == "no":
        return manifest
    leakage = find_leakage(folder, manifest, **settings)
    print(*leakage.sentences() or ["there are no two splits to compare"], sep="\n", file=sys.stderr)
    if how == "drop":
        manifest = drop_leaking(folder, manifest, leakage, target)
    return replace(manifest, leakage={**leakage.table(), "deduplicate": how})


def table_of_leakage(shards: str | Path, **settings: Any) -> Manifest:
    """Look for leakage and note it in the manifest; see `find_leakage`."""
    folder, manifest = read_manifest(shards)
    manifest = deduplicate(folder, manifest, "report", folder, **settings)
    manifest.save(folder)
    return manifest


def write_without_leakage(shards: str | Path, target: Path, **settings: Any) -> Manifest:
    """Make a folder of shards without what leaks; see `find_leakage` and `drop_leaking`.

    Raises:
        InputError: the target holds the shards, or see `find_leakage`.
    """
    folder, manifest = read_manifest(shards)
    files = [(folder / file.path).resolve() for file in manifest.files]
    if any(target.resolve() in file.parents for file in files):
        raise InputError(
            f"{target}: holds the shards themselves; name another folder for those without what leaks"
        )
    with atomic_directory(target) as made:
        manifest = deduplicate(folder, manifest, "drop", made, **settings)
        manifest.save(made)
    return manifest
