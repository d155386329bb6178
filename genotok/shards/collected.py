"""Windows of many short sequences - reads, rows of a table, proteins - cut together rather than one by one."""

from collections.abc import Callable, Iterable
from itertools import chain

import numpy as np

from genotok.genomes.records import SequenceRecord
from genotok.progress import Progress
from genotok.shards.manifest import Collection
from genotok.shards.split_writer import QUALITIES, SplitWriter
from genotok.shards.windows import LetterReader, Windows, cut_windows

LETTERS_AT_ONCE = 1 << 19
SEQUENCES_AT_ONCE = 1 << 14


class CollectedSequences:
    """Cuts the sequences of one split of a source as contigs are cut, and hands the windows on.

    Args:
        collection: counts what comes.
        writer: of the split.
        reader: letters to ids.
        window, stride: in letters.
        bar: counts letters.
    """

    def __init__(
        self,
        collection: Collection,
        writer: SplitWriter,
        reader: LetterReader,
        window: int,
        stride: int,
        bar: Progress,
    ):
        self.collection, self.writer, self.reader, self.bar = collection, writer, reader, bar
        self.window, self.stride = window, stride
        # Windows that overlap repeat their letters.
        self._most = LETTERS_AT_ONCE * stride // window
        self._qualities = QUALITIES.name in writer.schema.names
        self._records: list[tuple[SequenceRecord, bytes]] = []
        self._letters = 0
        self._name, self._times = "", 0

    def add(self, record: SequenceRecord) -> None:
        """Take one sequence; a very long one is cut at once, block by block.

        One with the name of the one before it, as the second read of a pair may have, gets `/2` behind its name, so
        that what follows in the shards tells where it begins.
        """
        self._times = self._times + 1 if record.name == self._name else 1
        self._name = record.name
        if self._times > 1:
            record = record._replace(name=f"{record.name}/{self._times}")
        parts, length, blocks = [], 0, iter(record.blocks)
        for block in blocks:
            parts.append(block)
            length += len(block)
            if length > self._most:
                self.flush()
                self._cut_long(record, chain(parts, blocks))
                return
        self._records.append((record, b"".join(parts)))
        self._letters += length
        if self._letters >= self._most or len(self._records) >= SEQUENCES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Cut what has been taken."""
        if not self._records:
            return
        records = [record for record, _ in self._records]
        lengths = np.array([len(text) for _, text in self._records])
        letters = self.reader(b"".join([text for _, text in self._records]))
        self._count(letters.ambiguous, letters.soft_masked, lengths)
        if self._letters:
            of, starts, places, offsets = places_of_windows(lengths, self.window, self.stride)
            rows = of.tolist()
            has = self._qualities and records[0].qualities is not None
            qualities = np.concatenate([record.qualities for record in records]) if has else None
            windows = Windows(
                starts,
                offsets,
                letters.ids[places],
                letters.ambiguous[places],
                letters.soft_masked[places],
                [records[k].name for k in rows],
                None if qualities is None else qualities[places],
                {column: [records[k].values[column] for k in rows] for column in records[0].values},
            )
            self.writer.add(self.collection, windows)
        self._records, self._letters = [], 0

    def _cut_long(self, record: SequenceRecord, blocks: Iterable[bytes]) -> None:
        length = 0

        def read():
            nonlocal length
            for block in blocks:
                letters = self.reader(block)
                length += len(letters)
                self._count(letters.ambiguous, letters.soft_masked)
                yield letters

        for windows in cut_windows(read(), self.window, self.stride):
            count = len(windows.starts)
            windows.names = [record.name] * count
            windows.values = {column: [value] * count for column, value in record.values.items()}
            if self._qualities and record.qualities is not None:
                ends = windows.starts + np.diff(windows.offsets)
                parts = zip(windows.starts.tolist(), ends.tolist(), strict=True)
                windows.qualities = np.concatenate([record.qualities[start:end] for start, end in parts])
            self.writer.add(self.collection, windows)
        self.collection.sequences += 1
        self.collection.longest = max(self.collection.longest, length)

    def _count(
        self, ambiguous: np.ndarray, soft_masked: np.ndarray, lengths: np.ndarray | None = None
    ) -> None:
        self.bar.advance(len(ambiguous), note=self.collection.genome)
        self.collection.length += len(ambiguous)
        self.collection.ambiguous += int(np.count_nonzero(ambiguous))
        self.collection.soft_masked += int(np.count_nonzero(soft_masked))
        if lengths is not None:
            self.collection.sequences += len(lengths)
            self.collection.longest = max(self.collection.longest, int(lengths.max()))


def places_of_windows(
    lengths: np.ndarray, window: int, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | slice, np.ndarray]:
    """Where the windows of sequences lie that stand one behind the other.

    Each sequence is cut as `cut_windows` cuts a contig.

    Args:
        lengths: (sequences,) int64, in letters; may be 0.
        window, stride: in letters.

    Returns:
        Of each window its sequence (n,) and its start there (n,) int64; of the windows' letters their places among
        those of all sequences (letters,), a slice where these are all in order; and where each window begins among
        the windows' letters (n + 1,) int32.
    """
    counts = np.where(lengths > window, -(-(lengths - window) // stride) + 1, np.minimum(lengths, 1))
    of = np.repeat(np.arange(len(lengths)), counts)
    ordinals = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = ordinals * stride
    sizes = np.minimum(window, lengths[of] - starts)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    if stride == window or (counts <= 1).all():
        return of, starts, slice(None), offsets.astype(np.int32)
    begins = (np.cumsum(lengths) - lengths)[of] + starts
    places = np.repeat(begins - offsets[:-1], sizes) + np.arange(offsets[-1])
    return of, starts, places, offsets.astype(np.int32)


def write_collection(
    records: Iterable[SequenceRecord], genome: str, split_of: Callable[[SequenceRecord], str], make: Callable
) -> list[Collection]:
    """Cut the sequences of a source, each into its split.

    Args:
        records: the sequences.
        genome: what the source is called.
        split_of: gives the split of a sequence.
        make: gives the `CollectedSequences` of a new `Collection`.

    Returns:
        What was counted, in the order in which the splits first came.
    """
    by_split: dict[str, CollectedSequences] = {}
    for record in records:
        split = split_of(record)
        if split not in by_split:
            by_split[split] = make(Collection(genome, split))
        by_split[split].add(record)
    for sequences in by_split.values():
        sequences.flush()
    return [sequences.collection for sequences in by_split.values()]
