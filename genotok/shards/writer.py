"""`genotok tokenize`: sequences to Arrow shards."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genotok.atomic import atomic_directory, sha256_of
from genotok.errors import InputError
from genotok.genomes.alphabets import load_alphabet
from genotok.genomes.records import (
    Reading,
    SequenceRecord,
    SequenceSource,
    open_sequences,
    source_file,
    source_name,
)
from genotok.genomes.stretches import Stretches
from genotok.progress import Progress, progress
from genotok.shards.collected import CollectedSequences, write_collection
from genotok.shards.leakage import DEDUPLICATIONS
from genotok.shards.leakage import deduplicate as without_leakage
from genotok.shards.manifest import ALL_WINDOWS, SPLITS, Collection, Contig, Manifest
from genotok.shards.reader import BOUNDARY_COLUMN, ENTROPY_COLUMNS
from genotok.shards.split_writer import QUALITIES, SCHEMA, SplitWriter
from genotok.shards.windows import LetterReader, Letters, cut_windows
from genotok.tokenizers import load_tokenizer

BLOCKS_KEPT = (32 << 20) - (1 << 16)


Source = str | Path


def tokenize_genomes(
    sources: Sequence[Source],
    target: Path,
    *,
    tokenizer: str | dict[str, Any] = "nucleotide",
    window: int = 8192,
    stride: int | None = None,
    valid: Iterable[str] = (),
    test: Iterable[str] = (),
    rest: str = "train",
    names: list[str] | None = None,
    min_real: float = 0,
    include: Path | None = None,
    exclude: Path | None = None,
    deduplicate: str = "no",
    reading: Reading | None = None,
    alphabets: Sequence[str] = (),
    qualities: bool = False,
) -> Manifest:
    """Cut genomes, reads, proteins or tables into windows and write them as Arrow IPC files with a manifest.

    The files hold one id a letter, whatever the tokenizer: a model with tokens of several letters encodes a window
    when it is read, on either strand, so that the same shards serve every such tokenizer.

    Memory does not depend on the size of the sources.

    Args:
        sources: files, `-` for standard input, or addresses; see `genotok.genomes.records`.
        target: the folder to make; it takes its place only when everything is written.
        tokenizer: the tokenizer that they are meant for, as `load_tokenizer` takes it.
        window: letters a window.
        stride: letters from one window to the next; None for `window`.
        valid, test: contigs of those splits, as `CONTIG` or `GENOME:CONTIG`.
        rest: the split of all other contigs.
        names: names of the genomes; None for the file names without their endings.
        min_real: windows with a smaller share of certain letters are left out; those without any always are.
        include: BED of the intervals that windows are cut of; None for all letters.
        exclude: BED of intervals that no window reaches into; see `genotok.shards.windows` for the rule of both.
        deduplicate: `report` looks for windows of one split in another, see `genotok.shards.leakage`; `drop` leaves
            them out as well.
        reading: how the sources are read; its alphabet does not count.
        alphabets: `dna`, `rna` or `protein`, one for all sources or one each; none for the tokenizer's own.
        qualities: whether the shards have a column of the Phred quality of each letter; empty where a source has
            none.

    Returns:
        The manifest that was written.

    Raises:
        InputError: a source cannot be read, or the parameters do not fit together.
    """
    reading = reading or Reading()
    names = names or [source_name(source) for source in sources]
    splits = _Splits(valid, test, rest)
    stride = window if stride is None else stride
    if deduplicate not in DEDUPLICATIONS:
        raise InputError(f"deduplicate: {deduplicate!r} should be one of {', '.join(DEDUPLICATIONS)}")
    _check(sources, names, window, stride, min_real)
    manifest = Manifest(load_tokenizer(tokenizer).description, window, stride)
    readings = _readings(reading, alphabets, len(sources), manifest)
    fields = _further_fields(reading, qualities)
    stretches = Stretches(include, exclude)
    _keep_freed_memory()
    manifest.windowing = _windowing(min_real, include, exclude)
    with atomic_directory(target) as folder:
        writers = {split: SplitWriter(folder, split, min_real, fields) for split in SPLITS}
        with ExitStack() as stack, progress("tokenize", None, "bases") as bar:
            for writer in writers.values():
                stack.callback(writer.abandon)
            for source, name, how in zip(sources, names, readings, strict=True):
                with open_sequences(source, how) as opened:
                    if opened.many:
                        _check_listed(opened, manifest.windowing)
                        _write_collection(opened, name, manifest, writers, splits, how, bar)
                    else:
                        _write_genome(opened, name, manifest, writers, splits, how, stretches, bar)
                    manifest.sources.append(_described(source, name, opened, how, qualities))
            for writer in writers.values():
                writer.close()
        splits.check_all_found()
        stretches.check_names()
        manifest.files = [file for writer in writers.values() for file in writer.files]
        if not manifest.files:
            cause = (
                "none of the windows that the options leave has" if manifest.windowing else "no sequence with"
            )
            raise InputError(
                f"{', '.join(map(str, sources))}: {cause} a certain {manifest_letter(manifest)} in it"
            )
        manifest = without_leakage(folder, manifest, deduplicate, folder)
        manifest.save(folder)
    return manifest


def manifest_letter(manifest: Manifest) -> str:
    """What a letter of the shards is called."""
    return "nucleotide" if manifest.letter_tokenizer.has_strands else "amino acid"


def _check(sources: Sequence[Source], names: list[str], window: int, stride: int, min_real: float) -> None:
    if window < 1 or not 1 <= stride <= window:
        raise InputError(f"window {window} and stride {stride}: the stride must be from 1 to the window")
    if not 0 <= min_real <= 1:
        raise InputError(f"min_real {min_real}: the share of certain letters must be from 0 to 1")
    if len(names) != len(sources):
        raise InputError(f"{len(names)} names were given for {len(sources)} FASTA files")
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"two genomes are called {name!r}; give them different names with --name")
    if sum(str(source) == "-" for source in sources) > 1:
        raise InputError("standard input is named twice, and can be read once")


def _readings(reading: Reading, alphabets: Sequence[str], count: int, manifest: Manifest) -> list[Reading]:
    """How each source is read: with its own alphabet."""
    tokenizer = manifest.letter_tokenizer
    if len(alphabets) not in (0, 1, count):
        raise InputError(f"{len(alphabets)} alphabets were given for {count} sources; give one, or one each")
    if not alphabets and len(tokenizer.alphabets) > 1:
        known = ", ".join(alphabet.name for alphabet in tokenizer.alphabets)
        raise InputError(
            f"tokenizer {tokenizer.name!r} reads several alphabets; say with --alphabet which: {known}"
        )
    chosen = [load_alphabet(name) for name in alphabets] or [tokenizer.alphabets[0]]
    for alphabet in chosen:
        tokenizer.reading(alphabet)
    return [replace(reading, alphabet=alphabet) for alphabet in (chosen * count)[:count]]


def _further_fields(reading: Reading, qualities: bool) -> list[pa.Field]:
    """The columns beside those that all shards have."""
    own = {*SCHEMA.names, *ENTROPY_COLUMNS, BOUNDARY_COLUMN, QUALITIES.name}
    for column in reading.keep:
        if column in own:
            raise InputError(f"the column {column!r} cannot be kept, since shards have a column of that name")
    return [QUALITIES] * qualities + [pa.field(column, pa.string()) for column in reading.keep]


def _check_listed(opened: SequenceSource, windowing: dict[str, Any] | None) -> None:
    if windowing and (windowing["include"] or windowing["exclude"]):
        raise InputError(
            f"{opened.label}: intervals are included and excluded in contigs of FASTA, and these are {opened.format}"
        )


def _described(
    source: Source, name: str, opened: SequenceSource, reading: Reading, qualities: bool
) -> dict[str, Any]:
    """What the manifest says of a source."""
    said = {"genome": name, "file": source_file(source), "sha256": opened.facts["sha256"]}
    said |= {"format": opened.format, "alphabet": reading.alphabet.name}
    if reading.keep:
        said["columns"] = list(reading.keep)
    if opened.format == "fastq":
        said |= {
            "qualities": qualities,
            "min_quality": reading.min_quality,
            "mask_quality": reading.mask_quality,
        }
    return said | {key: value for key, value in opened.facts.items() if key != "sha256"}


def _keep_freed_memory() -> None:
    """Have the C library keep what blocks leave behind for the next ones, which takes a quarter off the time.

    GNU's gives memory back to the system, and takes it anew, where pieces are larger than the largest one that was
    ever given back, of those up to 32 MiB. Nothing is written into this one, so that it costs nothing.
    """
    np.empty(BLOCKS_KEPT, np.uint8)


def _windowing(min_real: float, include: Path | None, exclude: Path | None) -> dict[str, Any] | None:
    """What the manifest says of the options that leave windows out; None where there are none."""
    files = {"include": include, "exclude": exclude}
    said = {
        key: [{"file": path.name, "sha256": sha256_of(path)}] if path else [] for key, path in files.items()
    }
    windowing = {"min_real": min_real, **said}
    return None if windowing == ALL_WINDOWS else windowing


class _Splits:
    """Which split each sequence goes to.

    Args:
        valid, test: names of those splits, as `CONTIG` or `GENOME:CONTIG`.
        rest: the split of all others.
    """

    def __init__(self, valid: Iterable[str], test: Iterable[str], rest: str):
        if rest not in SPLITS:
            raise InputError(f"{rest!r} is no split; there are {', '.join(SPLITS)}")
        self.rest, self.wanted = rest, dict.fromkeys(valid, "valid")
        for contig in test:
            if self.wanted.get(contig) == "valid":
                raise InputError(f"the contig {contig!r} is named for both valid and test")
            self.wanted[contig] = "test"
        self.missing = set(self.wanted)

    def of(self, genome: str, record: SequenceRecord) -> str:
        """The split that the user names, else that of the record, else the rest."""
        if not self.wanted:
            return record.split or self.rest
        names = (f"{genome}:{record.name}", record.name)
        self.missing.difference_update(names)
        return next((self.wanted[name] for name in names if name in self.wanted), record.split or self.rest)

    def check_all_found(self) -> None:
        """Refuse names that no sequence has."""
        for contig, split in self.wanted.items():
            if contig in self.missing:
                raise InputError(f"the contig {contig!r}, named for {split}, is in none of the FASTA files")


def _write_collection(
    opened: SequenceSource,
    genome: str,
    manifest: Manifest,
    writers: dict[str, SplitWriter],
    splits: _Splits,
    reading: Reading,
    bar: Progress,
) -> None:
    reader = LetterReader(manifest.letter_tokenizer.reading(reading.alphabet))

    def sequences_of(collection: Collection) -> CollectedSequences:
        writer = writers[collection.split]
        return CollectedSequences(collection, writer, reader, manifest.window, manifest.stride, bar)

    manifest.collections += write_collection(
        opened.records, genome, lambda record: splits.of(genome, record), sequences_of
    )


def _write_genome(
    opened: SequenceSource,
    genome: str,
    manifest: Manifest,
    writers: dict[str, SplitWriter],
    splits: _Splits,
    reading: Reading,
    stretches: Stretches,
    bar: Progress,
) -> None:
    reader = LetterReader(manifest.letter_tokenizer.reading(reading.alphabet))
    for record in opened.records:
        contig = Contig(genome, record.name, splits.of(genome, record))
        manifest.contigs.append(contig)
        counted = _counted(map(reader, record.blocks), contig, bar)
        places = stretches.of(genome, record.name)
        for windows in cut_windows(counted, manifest.window, manifest.stride, places):
            windows.values = {
                column: [value] * len(windows.starts) for column, value in record.values.items()
            }
            writers[contig.split].add(contig, windows)
        stretches.check_length(record.name, contig.length)


def _counted(blocks: Iterable[Letters], contig: Contig, bar: Progress) -> Iterator[Letters]:
    """Pass a contig's blocks on and count their letters."""
    for block in blocks:
        bar.advance(len(block), note=contig.name)
        contig.length += len(block)
        contig.ambiguous += int(np.count_nonzero(block.ambiguous))
        contig.soft_masked += int(np.count_nonzero(block.soft_masked))
        yield block
