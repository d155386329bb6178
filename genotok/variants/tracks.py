"""bigWig tracks of a saturation mutagenesis, for genome browsers."""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genotok.atomic import atomic_path
from genotok.genomes.bigwig import open_bigwig
from genotok.variants.fields import LLR
from genotok.variants.vcf_input import INFO, Record, open_vcf

TRACKS = ("A", "C", "G", "T", "mean", "min", "deletion")
_PORTION = 1 << 16  # bases a write


class ScoredBase(NamedTuple):
    """One base of a scored saturation mutagenesis.

    Attributes:
        contig: its contig.
        start: its position, 0-based.
        ref: its letter.
        scores: the scores of A, C, G and T in its place; NaN where there is none, as for `ref` itself.
        deletion: the score of its deletion; NaN where there is none.
    """

    contig: str
    start: int
    ref: str
    scores: tuple[float, float, float, float]
    deletion: float


def track_paths(prefix: str | Path) -> list[Path]:
    """The files of `write_tracks`."""
    return [Path(f"{prefix}.{track}.bw") for track in TRACKS]


def write_tracks(vcf: str | Path, prefix: str | Path) -> None:
    """Write `PREFIX.<track>.bw` of a scored saturation mutagenesis.

    The tracks `A`, `C`, `G` and `T` hold the score of that letter in the place of the reference's, where it is
    another; `mean` and `min` those of the base's three substitutions, `deletion` that of its deletion, at each base
    of a run of equal letters. Bases without scores have no value.

    Args:
        vcf: what `genotok.variants.score.score_vcf` wrote for a `Saturation`.
        prefix: the path that the names of the files begin with.

    Raises:
        InputError: a file cannot be read or written.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_vcf(vcf))
        lengths = [(name, length) for name, length in source.header.contigs.items() if length]
        paths = [stack.enter_context(atomic_path(path)) for path in track_paths(prefix)]
        tracks = [stack.enter_context(open_bigwig(path, lengths)) for path in paths]
        for contig, starts, values in _portions(scored_bases(source)):
            for track, column in zip(tracks, values.T, strict=True):
                track.add(contig, starts, column)


def scored_bases(records: Iterable[Record]) -> Iterator[ScoredBase]:
    """The bases of a scored saturation mutagenesis, in the order of its records.

    The one deletion of a run of equal letters counts for each of its bases.
    """
    last: ScoredBase | None = None
    deletion = ("", -1, math.nan)  # of a base that has not come yet
    for record in records:
        contig, start = record.contig, record.position - 1
        if len(record.ref) == 1:
            base = _substituted(record)
            if deletion[:2] == (contig, start):
                base = base._replace(deletion=deletion[2])
            elif last and (last.contig, last.start + 1, last.ref) == (contig, start, base.ref):
                base = base._replace(deletion=last.deletion)
            if last:
                yield last
            last = base
        elif last and (last.contig, last.start) == (contig, 0) and _deletes_first(record):
            last = last._replace(deletion=_scores(record)[0])
        else:
            deletion = (contig, start + 1, _scores(record)[0])
    if last:
        yield last


def _deletes_first(record: Record) -> bool:
    """Whether a deletion at position 1, behind the substitution there, is of the contig's first run of letters."""
    return record.position == 1 and record.ref.endswith(record.alts[0])


def _substituted(record: Record) -> ScoredBase:
    ref = record.ref.decode()
    found = dict(zip((alt.decode() for alt in record.alts), _scores(record), strict=True))
    scores = tuple(found.get(letter, math.nan) for letter in "ACGT")
    return ScoredBase(record.contig, record.position - 1, ref, scores, math.nan)


def _scores(record: Record) -> list[float]:
    """The score of each ALT allele, NaN where it has none."""
    values = dict(entry.partition(b"=")[::2] for entry in record.columns[INFO].split(b";"))
    return [math.nan if value == b"." else float(value) for value in values[LLR.encode()].split(b",")]


def _portions(bases: Iterable[ScoredBase]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Contig, (N,) positions and (N, 7) values of consecutive bases of one contig."""
    for contig, of_contig in groupby(bases, key=lambda base: base.contig):
        while portion := list(islice(of_contig, _PORTION)):
            starts = np.array([base.start for base in portion])
            scores = np.array([base.scores for base in portion])
            summaries = np.nanmean(scores, 1), np.nanmin(scores, 1)
            deletions = np.array([base.deletion for base in portion])
            yield contig, starts, np.column_stack([scores, *summaries, deletions])
