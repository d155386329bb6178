"""What variants do to the transcripts of an annotation: one consequence class each, the severest."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genotok.errors import InputError
from genotok.genomes.alphabets import BASE_COMPLEMENT
from genotok.genomes.codons import codons
from genotok.genomes.contigs import match_contig
from genotok.genomes.fasta import Reference
from genotok.genomes.gff import Transcript, read_transcripts

SEVEREST_FIRST = (
    "splice_site",
    "nonsense",
    "frameshift",
    "stop_lost",
    "start_lost",
    "inframe_indel",
    "missense",
    "splice_region",
    "synonymous",
    "utr",
    "noncoding_exon",
    "intron",
    "intergenic",
)
SITE = 2  # intronic bases beside an exon: GT and AG
REGION_EXON, REGION_INTRON = 3, 8  # bases beside the border (Sequence Ontology, SO:0001630)
_BIN = 1 << 14
_CODINGS_KEPT = 64
_BASES = "TCAG"
_CODONS = [first + second + third for first in _BASES for second in _BASES for third in _BASES]
_USUAL = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
_AMINO_ACIDS = {  # NCBI translation tables; 11 differs from 1 in its starts alone
    1: _USUAL,
    2: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG",
    3: "FFLLSSSSYY**CCWWTTTTPPPPHHQQRRRRIIMMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    4: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    5: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSSSSVVVVAAAADDEEGGGG",
    11: _USUAL,
}
GENETIC_CODES = {number: dict(zip(_CODONS, letters, strict=True)) for number, letters in _AMINO_ACIDS.items()}


class Change(NamedTuple):
    """REF's bases `[start, end)` (0-based) become `alt`, both without letters that REF and ALT share at an end."""

    start: int
    end: int
    alt: str


def trimmed(position: int, ref: str, alt: str) -> Change:
    """The change that a VCF allele makes; `position` is 1-based."""
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    shared = 0
    while shared < min(len(ref), len(alt)) and ref[shared] == alt[shared]:
        shared += 1
    start = position - 1 + shared
    return Change(start, position - 1 + len(ref), alt[shared:])


class Annotation:
    """The transcripts of a GFF3 beside the reference they lie on.

    Args:
        gff: the GFF3, plain or gzip; its contigs may be named otherwise than the reference's, as
            `genotok.genomes.contigs.match_contig` allows.
        reference: the genome.

    Raises:
        InputError: the GFF3 cannot be read, has no transcript on a contig of the reference, or names a genetic code
            that is not known here.
    """

    def __init__(self, gff: Path, reference: Reference):
        self.reference = reference
        self._bins: dict[tuple[str, int], list[Transcript]] = defaultdict(list)
        borders: dict[str, set[int]] = defaultdict(set)
        for transcript in read_transcripts(gff):
            contig = reference.match(transcript.contig)
            if contig is None:
                continue
            if transcript.coding and transcript.genetic_code not in GENETIC_CODES:
                known = ", ".join(map(str, GENETIC_CODES))
                raise InputError(
                    f"{gff}: {transcript.name}: transl_table={transcript.genetic_code} is none of {known}"
                )
            transcript.contig = contig
            for number in range(transcript.start // _BIN, (transcript.end - 1) // _BIN + 1):
                self._bins[contig, number].append(transcript)
            borders[contig].update(border for intron in transcript.introns for border in intron)
        if not self._bins:
            raise InputError(f"{gff}: has no exon or CDS on a contig of {reference.path}")
        self._borders = {contig: np.array(sorted(found)) for contig, found in borders.items() if found}
        self._codings: dict[int, _Coding] = {}

    def consequence(self, contig: str, position: int, ref: str, alt: str) -> str | None:
        """The severest consequence of an allele over all transcripts, of `SEVEREST_FIRST`.

        Args:
            contig: as in the VCF.
            position: 1-based.
            ref: the REF allele; the reference is taken for it.
            alt: the ALT allele.

        Returns:
            None where an allele is not of the letters A, C, G and T, changes nothing, or the contig is unknown.
        """
        name = self.reference.match(contig)
        ref, alt = ref.upper(), alt.upper()
        if name is None or set(ref + alt) - set("ACGT") or ref == alt:
            return None
        change = trimmed(position, ref, alt)
        first, last = max(change.start - 1, 0), max(change.end, change.start + 1)
        near = {
            id(transcript): transcript
            for number in range(first // _BIN, last // _BIN + 1)
            for transcript in self._bins.get((name, number), ())
            if _touches(change, transcript.start, transcript.end)
        }
        found = {effect for transcript in near.values() for effect in self._effects(transcript, change)}
        return min(found, key=SEVEREST_FIRST.index, default="intergenic")

    def splice_distance(self, contig: str, position: int, ref: str, alt: str) -> float:
        """Bases from an allele to the nearest border of exon and intron, 1 for those beside it.

        Returns:
            infinity where the contig has no intron.
        """
        name = match_contig(contig, self._borders)
        if name is None:
            return float("inf")
        start, end, _ = trimmed(position, ref.upper(), alt.upper())
        borders = self._borders[name]
        behind = np.searchsorted(borders, start)
        distances = [max(border - end + 1, 1) for border in borders[behind : behind + 1]]
        distances += [start - border + 1 for border in borders[max(behind - 1, 0) : behind]]
        return float(min(distances))

    def _effects(self, transcript: Transcript, change: Change) -> Iterator[str]:
        yield from _splice_effects(transcript, change)
        parts = transcript.coding
        if any(_touches(change, part.start, part.end) for part in parts):
            yield self._coding_effect(transcript, change)
        gaps = transcript.introns
        if any(_touches(change, start, end) for start, end in gaps):
            yield "intron"
        outside = [*gaps, *((part.start, part.end) for part in parts)]
        if any(
            not any(start <= base < end for start, end in outside)
            for base in _bases_of(change)
            if transcript.start <= base < transcript.end
        ):
            yield "utr" if parts else "noncoding_exon"

    def _coding_effect(self, transcript: Transcript, change: Change) -> str:
        """The effect on the protein, for a change that touches a coding part."""
        coding = self._coding(transcript)
        code = GENETIC_CODES[transcript.genetic_code]
        bases = range(change.start, change.end) or (change.start - 1, change.start)
        inserted_between = change.start == change.end
        numbers = [set(coding.codons_at.get(base, ())) for base in bases]
        touched = sorted(numbers[0] & numbers[1] if inserted_between else set().union(*numbers))
        before = [coding.spell(number, {}) for number in touched]
        starts = [
            number == 0 and coding.starts_whole and word == "ATG"
            for number, word in zip(touched, before, strict=True)
        ]
        if change.end - change.start != len(change.alt):
            removed = sum(base in coding.letters for base in range(change.start, change.end))
            if (removed - len(change.alt)) % 3:
                return "frameshift"
            lost = "stop_lost" if "*" in map(code.get, before) else "inframe_indel"
            return "start_lost" if any(starts) else lost
        altered = dict(zip(range(change.start, change.end), change.alt, strict=True))
        found = {
            _codon_effect(word, coding.spell(number, altered), code, start)
            for number, word, start in zip(touched, before, starts, strict=True)
        }
        return min(found, key=SEVEREST_FIRST.index, default="synonymous")

    def _coding(self, transcript: Transcript) -> "_Coding":
        """The codons of a transcript; those of the last few are kept, since variants come sorted."""
        if id(transcript) not in self._codings:
            while len(self._codings) >= _CODINGS_KEPT:
                del self._codings[next(iter(self._codings))]
            self._codings[id(transcript)] = _Coding(transcript, self.reference)
        return self._codings[id(transcript)]


class _Coding:
    """The codons of a transcript beside the letters of its coding parts."""

    def __init__(self, transcript: Transcript, reference: Reference):
        self.forward = transcript.forward
        self.starts_whole = not transcript.coding[0].phase
        self.letters: dict[int, str] = {}
        for part in transcript.coding:
            letters = reference.fetch(transcript.contig, part.start, part.end)
            self.letters.update(zip(range(part.start, part.end), letters, strict=False))
        self.codons = codons(transcript.coding, transcript.forward)
        self.codons_at: dict[int, list[int]] = defaultdict(list)
        for number, codon in enumerate(self.codons):
            for base in codon:
                self.codons_at[base].append(number)

    def spell(self, number: int, altered: dict[int, str]) -> str:
        """The letters of a codon, in the direction of reading, some bases of the forward strand being others."""
        word = "".join(altered.get(base) or self.letters.get(base, "N") for base in self.codons[number])
        return word if self.forward else word.translate(BASE_COMPLEMENT)


def _bases_of(change: Change) -> range:
    """The bases that a change replaces; of an insertion, those on both sides."""
    if change.start == change.end:
        return range(change.start - 1, change.start + 1)
    return range(change.start, change.end)


def _touches(change: Change, start: int, end: int) -> bool:
    """Whether a change replaces a base of `[start, end)`, or inserts between two of them."""
    if change.start == change.end:
        return start < change.start < end
    return change.start < end and start < change.end


def _splice_effects(transcript: Transcript, change: Change) -> Iterator[str]:
    bases = _bases_of(change)
    for start, end in transcript.introns:
        if any(_touches(change, *site) for site in ((start, start + SITE), (end - SITE, end))):
            yield "splice_site"
        for left, right in (
            (start - REGION_EXON, start + REGION_INTRON),
            (end - REGION_INTRON, end + REGION_EXON),
        ):
            if bases.start < right and left < bases.stop:
                yield "splice_region"


def _codon_effect(before: str, after: str, code: dict[str, str], start: bool) -> str:
    old, new = code.get(before), code.get(after)
    if before == after or old is None or new is None:
        return "synonymous" if before == after else "missense"
    if start:
        return "start_lost"
    if old == new:
        return "synonymous"
    if new == "*":
        return "nonsense"
    return "stop_lost" if old == "*" else "missense"
