"""`genotok tokenize`: FASTA to Arrow shards."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genotok.atomic import atomic_directory, sha256_of
from genotok.errors import InputError
from genotok.genomes.fasta import read_fasta
from genotok.progress import Progress, progress
from genotok.shards.manifest import SPLITS, Contig, Manifest, ShardFile
from genotok.shards.windows import Windows, cut_windows
from genotok.tokenizers import LetterTokenizer, load_tokenizer

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
LETTERS_A_FILE = 1 << 28


def tokenize_genomes(
    fastas: list[Path],
    target: Path,
    *,
    tokenizer: str | dict[str, Any] = "nucleotide",
    window: int = 8192,
    stride: int | None = None,
    valid: Iterable[str] = (),
    test: Iterable[str] = (),
    rest: str = "train",
    names: list[str] | None = None,
) -> Manifest:
    """Cut genomes into windows and write them as Arrow IPC files with a manifest.

    The files hold one id a letter, whatever the tokenizer: a model with tokens of several letters encodes a window
    when it is read, on either strand, so that the same shards serve every such tokenizer.

    Memory does not depend on the size of the genomes.

    Args:
        fastas: FASTA files, plain, gzip or BGZF.
        target: the folder to make; it takes its place only when everything is written.
        tokenizer: the tokenizer that they are meant for, as `load_tokenizer` takes it.
        window: letters a window.
        stride: letters from one window to the next; None for `window`.
        valid, test: contigs of those splits, as `CONTIG` or `GENOME:CONTIG`.
        rest: the split of all other contigs.
        names: names of the genomes; None for the file names without their endings.

    Returns:
        The manifest that was written.

    Raises:
        InputError: a file cannot be read as FASTA, or the parameters do not fit together.
    """
    names = names or [genome_name(path) for path in fastas]
    wanted = _wanted_splits(valid, test)
    stride = window if stride is None else stride
    _check(fastas, names, window, stride, rest)
    manifest = Manifest(load_tokenizer(tokenizer).description, window, stride)
    with atomic_directory(target) as folder:
        writers = {split: SplitWriter(folder, split) for split in SPLITS}
        with ExitStack() as stack, progress("tokenize", None, "bases") as bar:
            for writer in writers.values():
                stack.callback(writer.close)
            for path, name in zip(fastas, names, strict=True):
                _write_genome(path, name, manifest, writers, lambda *c: _split_of(*c, wanted, rest), bar)
                manifest.sources.append({"genome": name, "file": path.name, "sha256": sha256_of(path)})
        _check_all_found(wanted, manifest)
        manifest.files = [file for writer in writers.values() for file in writer.files]
        if not manifest.files:
            raise InputError(f"{', '.join(map(str, fastas))}: no sequence with a certain nucleotide in it")
        manifest.save(folder)
    return manifest


def genome_name(path: Path) -> str:
    """The file name without the endings of a FASTA file."""
    name = path.name
    for ending in (".gz", ".bgz", ".fa", ".fasta", ".fna"):
        name = name.removesuffix(ending)
    return name


def _check(fastas: list[Path], names: list[str], window: int, stride: int, rest: str) -> None:
    if window < 1 or not 1 <= stride <= window:
        raise InputError(f"window {window} and stride {stride}: the stride must be from 1 to the window")
    if rest not in SPLITS:
        raise InputError(f"{rest!r} is no split; there are {', '.join(SPLITS)}")
    if len(names) != len(fastas):
        raise InputError(f"{len(names)} names were given for {len(fastas)} FASTA files")
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"two genomes are called {name!r}; give them different names with --name")


def _wanted_splits(valid: Iterable[str], test: Iterable[str]) -> dict[str, str]:
    wanted = dict.fromkeys(valid, "valid")
    for contig in test:
        if wanted.get(contig) == "valid":
            raise InputError(f"the contig {contig!r} is named for both valid and test")
        wanted[contig] = "test"
    return wanted


def _split_of(genome: str, contig: str, wanted: dict[str, str], rest: str) -> str:
    return wanted.get(f"{genome}:{contig}") or wanted.get(contig) or rest


def _check_all_found(wanted: dict[str, str], manifest: Manifest) -> None:
    found = {contig.name for contig in manifest.contigs}
    found |= {f"{contig.genome}:{contig.name}" for contig in manifest.contigs}
    for contig, split in wanted.items():
        if contig not in found:
            raise InputError(f"the contig {contig!r}, named for {split}, is in none of the FASTA files")


def _write_genome(
    path: Path,
    genome: str,
    manifest: Manifest,
    writers: dict[str, "SplitWriter"],
    split_of: Callable[[str, str], str],
    bar: Progress,
) -> None:
    tokenizer = manifest.letter_tokenizer
    for name, blocks in read_fasta(path):
        contig = Contig(genome, name, split_of(genome, name))
        manifest.contigs.append(contig)
        counted = _counted(blocks, contig, tokenizer, bar)
        for windows in cut_windows(counted, tokenizer, manifest.window, manifest.stride):
            writers[contig.split].add(contig, windows)


def _counted(
    blocks: Iterable[bytes], contig: Contig, tokenizer: LetterTokenizer, bar: Progress
) -> Iterator[bytes]:
    """Pass a contig's blocks on and count their letters."""
    certain = tokenizer.is_nucleotide[tokenizer.table[np.arange(256) & 0xDF]]
    for block in blocks:
        counts = np.bincount(np.frombuffer(block, np.uint8), minlength=256)
        bar.advance(len(block), note=contig.name)
        contig.length += len(block)
        contig.ambiguous += int(counts[~certain].sum())
        contig.soft_masked += int(counts[ord("a") :].sum())
        yield block


class SplitWriter:
    """Writes the windows of one split into files of bounded size."""

    def __init__(self, folder: Path, split: str):
        self.folder, self.split = folder, split
        self.files: list[ShardFile] = []
        self._sink = None

    def add(self, contig: Contig, windows: Windows) -> None:
        """Add windows of a contig; those without a certain nucleotide are dropped and counted."""
        kept = np.add.reduceat(~windows.ambiguous, windows.offsets[:-1], dtype=np.int64) > 0
        contig.windows += int(kept.sum())
        contig.dropped_windows += int((~kept).sum())
        if kept.any():
            batch = _record_batch(contig, windows)
            self._write(batch if kept.all() else batch.filter(pa.array(kept)))

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._sink is None:
            name = f"{self.split}-{len(self.files):05d}.arrow"
            self.files.append(ShardFile(name, self.split, "", 0, 0))
            self._sink = pa.ipc.new_file(self.folder / name, SCHEMA)
        self._sink.write_batch(batch)
        file = self.files[-1]
        file.windows += batch.num_rows
        file.bases += len(batch.column("ids").flatten())
        if file.bases >= LETTERS_A_FILE:
            self.close()

    def close(self) -> None:
        """Finish the file in hand and note its hash."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None
            self.files[-1].sha256 = sha256_of(self.folder / self.files[-1].path)


def _record_batch(contig: Contig, windows: Windows) -> pa.RecordBatch:
    rows = len(windows.starts)
    offsets = pa.array(windows.offsets)
    columns = [
        pa.array([contig.genome] * rows, pa.string()),
        pa.array([contig.name] * rows, pa.string()),
        pa.array(windows.starts),
        *(
            pa.ListArray.from_arrays(offsets, pa.array(values))
            for values in (windows.ids, windows.ambiguous, windows.soft_masked)
        ),
    ]
    return pa.record_batch(columns, schema=SCHEMA)
