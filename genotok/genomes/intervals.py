"""Intervals of BED, GFF3 and GTF files, and the places where they begin and end.

BED: https://samtools.github.io/hts-specs/BEDv1.pdf. GFF3: https://github.com/The-Sequence-Ontology/Specifications.
"""

import gzip
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from genotok.errors import InputError
from genotok.genomes.contigs import match_contig

CIRCULAR = (".gff", ".gff3")  # in which an interval may cross the origin of its contig
SUFFIXES = (".bed", ".gtf", *CIRCULAR)
GFF_COLUMNS = 9
_NOT_DATA = ("#", "track ", "track\t", "browser ", "browser\t")


def read_intervals(path: str | Path, features: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read where the intervals of a file lie.

    Args:
        path: `.bed`, `.gff`, `.gff3` or `.gtf`, also with `.gz` or `.bgz` behind it.
        features: of GFF3 and GTF the kinds (column 3) that count; all of them when empty.

    Returns:
        By contig, in the order of the file, (N, 2) int64: starts and ends, 0-based and half-open, in the order of the
        file. An interval of BED may be empty.

    Raises:
        InputError: the file cannot be read, is of another kind, a line is no interval, or there is none that counts;
            names the file and the line.
    """
    path = Path(path)
    suffix = interval_suffix(path, features)
    read = bed_line if suffix == ".bed" else _gff_line
    found: dict[str, list[tuple[int, int]]] = {}
    kinds: set[str] = set()
    for number, line in data_lines(path, "a file of intervals"):
        try:
            contig, feature, start, end = read(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {error}") from error
        kinds.add(feature)
        if not features or feature in features:
            found.setdefault(contig, []).append((start, end))
    for feature in features:
        if feature not in kinds:
            known = ", ".join(sorted(kinds)) or "no features at all"
            raise InputError(f"{path}: there is no feature {feature!r}; there are {known}")
    if not found:
        raise InputError(f"{path}: holds no intervals")
    return {contig: np.array(intervals, np.int64) for contig, intervals in found.items()}


def edges_by_contig(
    path: str | Path, contigs: Mapping[str, int], features: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Where intervals of a file begin and end on contigs that may be named in another way.

    Args:
        path: see `read_intervals`.
        contigs: name -> length in letters.
        features: see `read_intervals`.

    Returns:
        By the name in `contigs` the edges, see `interval_edges`; and the file's contigs that `contigs` does not have.

    Raises:
        InputError: see `read_intervals`; or none of the file's contigs is there, or an interval lies behind the end
            of its contig, which tells of another assembly. In GFF3 one that begins on it and goes on behind its end
            crosses the origin of a circular contig.
    """
    found, unknown = intervals_by_contig(path, contigs, features)
    return {contig: interval_edges(intervals) for contig, intervals in found.items()}, unknown


def intervals_by_contig(
    path: str | Path, contigs: Mapping[str, int], features: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The intervals of a file on contigs that may be named in another way, (N, 2) int64, 0-based and half-open.

    One that crosses the origin of a circular contig ends at its beginning, before it starts. Arguments, the second
    part of what is returned, and errors are those of `edges_by_contig`.
    """
    found: dict[str, list[np.ndarray]] = {}
    unknown = []
    for name, intervals in read_intervals(path, features).items():
        contig = match_contig(name, contigs)
        if contig is None:
            unknown.append(name)
            continue
        found.setdefault(contig, []).append(_on_contig(path, name, intervals, contigs[contig]))
    if not found:
        known = ", ".join(list(contigs)[:5]) + " ..." * (len(contigs) > 5)
        raise InputError(f"{path}: none of its contigs ({', '.join(unknown[:5])}) is among {known}")
    return {contig: np.concatenate(parts) for contig, parts in found.items()}, unknown


def _on_contig(path: str | Path, name: str, intervals: np.ndarray, length: int) -> np.ndarray:
    """The intervals with positions on the contig; those that cross its origin end at its beginning."""
    outside = intervals[:, 0 if _suffix(Path(path)) in CIRCULAR else 1] > length
    if outside.any():
        start, end = intervals[outside][0].tolist()
        raise InputError(
            f"{path}: the interval {start + 1}-{end} of {name} lies behind the contig's end, which has {length:,} "
            "letters here; is the file of another assembly?"
        )
    return np.where(intervals > length, intervals - length, intervals)


def covered(intervals: np.ndarray, start: int, end: int) -> np.ndarray:
    """(end - start,) bool: which of the positions `[start, end)` lie in one of (N, 2) intervals, in any order.

    An interval that ends before it starts crosses the origin of a circular contig, and goes on from there.
    """
    intervals = np.asarray(intervals, np.int64).reshape(-1, 2)
    crosses = intervals[:, 1] < intervals[:, 0]
    near = crosses | (intervals[:, 0] < end) & (intervals[:, 1] > start)  # of very many, as a rule few
    starts, ends = np.clip(intervals[near] - start, 0, end - start).T
    steps = np.zeros(end - start + 1, np.int32)
    steps[0] = crosses.sum()
    np.add.at(steps, starts, 1)
    np.add.at(steps, ends, -1)
    return np.cumsum(steps[:-1]) > 0


def interval_edges(intervals: np.ndarray) -> np.ndarray:
    """(M,) int64, the places where (N, 2) intervals begin and end, each once and in order."""
    return np.unique(intervals)


def boundary_mask(edges: np.ndarray, start: int, end: int) -> np.ndarray:
    """(end - start,) bool of a stretch of a contig: its first letter, and those that have an edge in front.

    Args:
        edges: (M,) int64 in order, see `interval_edges`.
        start, end: the stretch, 0-based and half-open, not empty.
    """
    mask = np.zeros(end - start, bool)
    mask[0] = True
    mask[edges[np.searchsorted(edges, start) : np.searchsorted(edges, end)] - start] = True
    return mask


def interval_suffix(path: Path, features: Collection[str] = ()) -> str:
    """The ending that tells the format of a file of intervals, one of `SUFFIXES`.

    Raises:
        InputError: it ends in another way, or is BED, and features are asked for.
    """
    if _suffix(path) == ".bed" and features:
        raise InputError(f"{path}: a BED file has no kinds of features; leave them out, or give GFF3 or GTF")
    if _suffix(path) not in SUFFIXES:
        raise InputError(f"{path}: the name should end in .bed, .gff, .gff3 or .gtf, or one of these and .gz")
    return _suffix(path)


def _suffix(path: Path) -> str:
    """The ending that tells the format, with the dot."""
    return (path.with_suffix("") if path.suffix in (".gz", ".bgz") else path).suffix


def data_lines(path: str | Path, kind: str) -> Iterator[tuple[int, str]]:
    """The lines of BED, GFF3 or GTF, plain or gzip, that hold data, and their numbers from 1.

    Args:
        path: the file.
        kind: what it should be, for the error.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.startswith(("##FASTA", ">")):  # GFF3 may end with the sequences
                    return
                if line.strip() and not line.startswith(_NOT_DATA):
                    yield number, line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as {kind}: {error}") from error


def bed_line(line: str) -> tuple[str, str, int, int]:
    """Contig, no feature, and the interval (0-based, half-open) on a line of BED.

    Raises:
        ValueError: the line holds none; says why.
    """
    columns = line.split("\t") if "\t" in line else line.split()
    if len(columns) < 3:
        raise ValueError("a line of BED has at least three columns: contig, start and end")
    start, end = _number(columns[1], "start"), _number(columns[2], "end")
    if not start <= end:
        raise ValueError(f"the interval ends at {end}, before it starts at {start}")
    return columns[0], "", start, end


def _gff_line(line: str) -> tuple[str, str, int, int]:
    columns = line.split("\t")
    if len(columns) != GFF_COLUMNS:
        raise ValueError(f"has {len(columns)} columns, and a line of GFF has nine, with tabs between them")
    start, end = _number(columns[3], "start"), _number(columns[4], "end")
    if not 1 <= start <= end:
        raise ValueError(f"{start} to {end} is no interval; GFF counts from 1, and both ends belong to it")
    return unquote(columns[0]), columns[2], start - 1, end


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"the {what} {text!r} is no position")
    return int(text)
