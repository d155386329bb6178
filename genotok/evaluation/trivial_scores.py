"""Scores of variants that need no model: what the sequence around them and an annotation say."""

import numpy as np
import pandas as pd

from genotok.evaluation.consequences import Annotation
from genotok.genomes.alphabets import BASE_COMPLEMENT
from genotok.genomes.fasta import Reference

FLANK = 50  # letters on each side
FEWEST_CHANGES = 200  # fewer say nothing about 96 kinds of change


def sequence_scores(alleles: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """Scores of the letters around each allele; as all scores here, higher means fitter.

    `low_gc` is minus the share of G and C among the REF allele's letters and 50 on each side: genes and their control
    regions are richer in them than what lies between, in most genomes.

    `mutability` is how often the same change in the same context of three letters is among these alleles, for each
    time that this context stands in the letters around them; both strands count as one. No label is used. What
    mutates often is more often found in healthy people. It is NaN for all but changes of single bases, and for all
    alleles where there are fewer than 200 such changes, or as many of each kind as there are contexts.

    Args:
        alleles: columns `chrom`, `pos` (1-based), `ref`, `alt`.
        reference: the genome.

    Returns:
        `low_gc` and `mutability`, float64, with the index of `alleles`.
    """
    low_gc, kinds, contexts = [], [], {}
    for chrom, pos, ref, alt in zip(*(alleles[name] for name in ("chrom", "pos", "ref", "alt")), strict=True):
        contig = reference.match(chrom)
        start, end = pos - 1 - FLANK, pos - 1 + len(ref) + FLANK
        letters = reference.fetch(contig, start, end) if contig else ""
        known = sum(map(letters.count, "ACGT"))
        low_gc.append(-(letters.count("G") + letters.count("C")) / known if known else np.nan)
        kinds.append(_kind(letters, pos - 1 - max(start, 0), ref.upper(), alt.upper()))
        if kinds[-1]:
            _count_contexts(letters, contexts)
    mutability = _rates(kinds, contexts)
    return pd.DataFrame({"low_gc": low_gc, "mutability": mutability}, index=alleles.index, dtype=float)


def _folded(context: str, alt: str = "") -> tuple[str, str]:
    """A context of three letters and the letter that its middle becomes, on the strand where the middle is C or T."""
    if context[1] in "CT":
        return context, alt
    return context.translate(BASE_COMPLEMENT)[::-1], alt.translate(BASE_COMPLEMENT)


def _kind(letters: str, at: int, ref: str, alt: str) -> tuple[str, str] | None:
    context = letters[max(at - 1, 0) : at + 2]
    single = len(ref) == len(alt) == 1 and ref != alt
    if not single or len(context) != 3 or set(context + alt) - set("ACGT") or context[1] != ref:
        return None
    return _folded(context, alt)


def _count_contexts(letters: str, counts: dict[str, int]) -> None:
    for first in range(len(letters) - 2):
        context = letters[first : first + 3]
        counts[context] = counts.get(context, 0) + 1


def _rates(kinds: list[tuple[str, str] | None], contexts: dict[str, int]) -> list[float]:
    changes = pd.Series([kind for kind in kinds if kind], dtype=object).value_counts().to_dict()
    if sum(changes.values()) < FEWEST_CHANGES:
        return [np.nan] * len(kinds)
    chances: dict[str, int] = {}
    for context, count in contexts.items():
        if not set(context) - set("ACGT"):
            folded = _folded(context)[0]
            chances[folded] = chances.get(folded, 0) + count
    return [changes[kind] / chances[kind[0]] if kind else np.nan for kind in kinds]


def annotate(alleles: pd.DataFrame, annotation: Annotation) -> pd.DataFrame:
    """What an annotation says about each allele.

    Args:
        alleles: columns `chrom`, `pos` (1-based), `ref`, `alt`.
        annotation: of the genome that they lie on.

    Returns:
        `consequence` (None where it has none) and `splice_distance`, the bases to the nearest border of exon and
        intron (infinity where the contig has none), with the index of `alleles`.
    """
    rows = list(zip(*(alleles[name] for name in ("chrom", "pos", "ref", "alt")), strict=True))
    consequences = pd.Series([annotation.consequence(*row) for row in rows], alleles.index, dtype=object)
    distances = pd.Series([annotation.splice_distance(*row) for row in rows], alleles.index, dtype=float)
    return pd.DataFrame({"consequence": consequences, "splice_distance": distances})
