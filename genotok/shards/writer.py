"""`genotok tokenize`: FASTA to Arrow shards."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from genotok.atomic import atomic_directory, sha256_of
from genotok.errors import InputError
from genotok.genomes.fasta import read_fasta
from genotok.genomes.stretches import Stretches
from genotok.progress import Progress, progress
from genotok.shards.leakage import DEDUPLICATIONS
from genotok.shards.leakage import deduplicate as without_leakage
from genotok.shards.manifest import ALL_WINDOWS, SPLITS, Contig, Manifest
from genotok.shards.split_writer import SplitWriter
from genotok.shards.windows import LetterReader, Letters, cut_windows
from genotok.tokenizers import load_tokenizer

BLOCKS_KEPT = (32 << 20) - (1 << 16)


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
    min_real: float = 0,
    include: Path | None = None,
    exclude: Path | None = None,
    deduplicate: str = "no",
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
        min_real: windows with a smaller share of certain letters are left out; those without any always are.
        include: BED of the intervals that windows are cut of; None for all letters.
        exclude: BED of intervals that no window reaches into; see `genotok.shards.windows` for the rule of both.
        deduplicate: `report` looks for windows of one split in another, see `genotok.shards.leakage`; `drop` leaves
            them out as well.

    Returns:
        The manifest that was written.

    Raises:
        InputError: a file cannot be read as FASTA, or the parameters do not fit together.
    """
    names = names or [genome_name(path) for path in fastas]
    wanted = _wanted_splits(valid, test)
    stride = window if stride is None else stride
    _check(fastas, names, window, stride, rest, min_real)
    if deduplicate not in DEDUPLICATIONS:
        raise InputError(f"deduplicate: {deduplicate!r} should be one of {', '.join(DEDUPLICATIONS)}")
    stretches = Stretches(include, exclude)
    _keep_freed_memory()
    manifest = Manifest(load_tokenizer(tokenizer).description, window, stride)
    manifest.windowing = _windowing(min_real, include, exclude)
    with atomic_directory(target) as folder:
        writers = {split: SplitWriter(folder, split, min_real) for split in SPLITS}
        with ExitStack() as stack, progress("tokenize", None, "bases") as bar:
            for writer in writers.values():
                stack.callback(writer.abandon)
            hashing = stack.enter_context(ThreadPoolExecutor(1))
            for path, name in zip(fastas, names, strict=True):
                digest = hashing.submit(
                    sha256_of, path
                )  # beside the reading, which brings the file into memory
                _write_genome(
                    path, name, manifest, writers, lambda *c: _split_of(*c, wanted, rest), stretches, bar
                )
                manifest.sources.append({"genome": name, "file": path.name, "sha256": digest.result()})
            for writer in writers.values():
                writer.close()
        _check_all_found(wanted, manifest)
        stretches.check_names()
        manifest.files = [file for writer in writers.values() for file in writer.files]
        if not manifest.files:
            cause = (
                "none of the windows that the options leave has" if manifest.windowing else "no sequence with"
            )
            raise InputError(f"{', '.join(map(str, fastas))}: {cause} a certain nucleotide in it")
        manifest = without_leakage(folder, manifest, deduplicate, folder)
        manifest.save(folder)
    return manifest


def genome_name(path: Path) -> str:
    """The file name without the endings of a FASTA file."""
    name = path.name
    for ending in (".gz", ".bgz", ".fa", ".fasta", ".fna"):
        name = name.removesuffix(ending)
    return name


def _check(
    fastas: list[Path], names: list[str], window: int, stride: int, rest: str, min_real: float
) -> None:
    if window < 1 or not 1 <= stride <= window:
        raise InputError(f"window {window} and stride {stride}: the stride must be from 1 to the window")
    if not 0 <= min_real <= 1:
        raise InputError(f"min_real {min_real}: the share of certain letters must be from 0 to 1")
    if rest not in SPLITS:
        raise InputError(f"{rest!r} is no split; there are {', '.join(SPLITS)}")
    if len(names) != len(fastas):
        raise InputError(f"{len(names)} names were given for {len(fastas)} FASTA files")
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"two genomes are called {name!r}; give them different names with --name")


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
    writers: dict[str, SplitWriter],
    split_of: Callable[[str, str], str],
    stretches: Stretches,
    bar: Progress,
) -> None:
    reader = LetterReader(manifest.letter_tokenizer)
    for name, blocks in read_fasta(path):
        contig = Contig(genome, name, split_of(genome, name))
        manifest.contigs.append(contig)
        counted = _counted(map(reader, blocks), contig, bar)
        places = stretches.of(genome, name)
        for windows in cut_windows(counted, manifest.window, manifest.stride, places):
            writers[contig.split].add(contig, windows)
        stretches.check_length(name, contig.length)


def _counted(blocks: Iterable[Letters], contig: Contig, bar: Progress) -> Iterator[Letters]:
    """Pass a contig's blocks on and count their letters."""
    for block in blocks:
        bar.advance(len(block), note=contig.name)
        contig.length += len(block)
        contig.ambiguous += int(np.count_nonzero(block.ambiguous))
        contig.soft_masked += int(np.count_nonzero(block.soft_masked))
        yield block
