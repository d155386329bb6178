"""Where on a contig each kind of annotated place lies, as one flag a base."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from genotok.errors import InputError
from genotok.genomes.contigs import match_contig
from genotok.genomes.gff import Transcript, read_transcripts
from genotok.genomes.intervals import covered, intervals_by_contig

PROMOTER = 200  # bases in front of the first base of a transcript
SPLICE_SITE = 2  # bases of an intron at each of its ends
SHORTEST_HOMOPOLYMER = 5  # equal letters in a row

Masks = dict[str, np.ndarray]


class Annotation:
    """Intervals and transcripts of a genome, which give masks contig by contig.

    Args:
        contigs: name -> length in bases.
        gff: GFF3 with transcripts; None for none.
        beds: files of intervals, each a kind of its own under the file's name without its endings.

    Raises:
        InputError: a file cannot be read, or lies on none of the contigs.
    """

    def __init__(self, contigs: Mapping[str, int], gff: Path | None = None, beds: Sequence[Path] = ()):
        self.contigs = contigs
        self.transcripts = _by_contig(gff, contigs) if gff is not None else None
        self.intervals = {_kind(bed): intervals_by_contig(bed, contigs)[0] for bed in beds}

    def masks(self, contig: str, letters: bytes, start: int = 0) -> Masks:
        """The kinds of places on a stretch of a contig, each as (L,) bool.

        Of letters alone: `soft_masked`, `homopolymer` (five equal letters or more) and `gc` (G or C).
        Of a GFF3: `cds`, and in the genes of the forward strand `codon_position_1` to `_3` (in those of the other
        strand `reverse_codon_position_1` to `_3`, counted as the gene is read); `start_codon` and `stop_codon` (their
        three bases), `splice_donor` and `splice_acceptor` (two bases of the intron), `exon`, `utr`, `intron`,
        `promoter` (200 bases in front of a transcript) and `intergenic`. A kind that the stretch has none of is
        left out.

        Args:
            contig: the contig's name.
            letters: those of the stretch, lower case where soft-masked.
            start: position of the first of them, 0-based.
        """
        codes = np.frombuffer(letters, np.uint8)
        upper = codes & 0xDF
        masks = {
            "soft_masked": codes >= ord("a"),
            "homopolymer": _homopolymers(upper),
            "gc": (upper == ord("G")) | (upper == ord("C")),
        }
        if self.transcripts is not None:
            masks |= _transcript_masks(self.transcripts.get(contig, []), start, len(letters))
        for kind, by_contig in self.intervals.items():
            masks[kind] = covered(by_contig.get(contig, []), start, start + len(letters))
        return {kind: mask for kind, mask in masks.items() if mask.any()}


def _kind(bed: Path) -> str:
    return bed.name.removesuffix(".gz").rsplit(".", 1)[0]


def _by_contig(gff: Path, contigs: Mapping[str, int]) -> dict[str, list[Transcript]]:
    found: dict[str, list[Transcript]] = {}
    for transcript in read_transcripts(gff):
        contig = match_contig(transcript.contig, contigs)
        if contig is not None:
            found.setdefault(contig, []).append(transcript)
    if not found:
        raise InputError(f"{gff}: has no exon or CDS on a contig of the genome; is it of another assembly?")
    return found


def _homopolymers(letters: np.ndarray) -> np.ndarray:
    """(L,) bool: which bases lie in a run of equal letters that are certain."""
    edges = np.flatnonzero(np.diff(letters)) + 1
    starts, ends = np.concatenate([[0], edges]), np.append(edges, len(letters))
    long = (ends - starts >= SHORTEST_HOMOPOLYMER) & np.isin(letters[starts], list(b"ACGT"))
    return covered(np.stack([starts[long], ends[long]], 1), 0, len(letters))


def _transcript_masks(transcripts: Sequence[Transcript], begin: int, length: int) -> Masks:
    spans: dict[str, list[tuple[int, int]]] = {kind: [] for kind in ("cds", "exon", "intron", "gene")}
    spans |= {
        kind: [] for kind in ("promoter", "splice_donor", "splice_acceptor", "start_codon", "stop_codon")
    }
    codons = {
        f"{strand}codon_position_{k}": np.zeros(length, bool)
        for strand in ("", "reverse_")
        for k in (1, 2, 3)
    }
    near = [t for t in transcripts if t.start - PROMOTER < begin + length and begin < t.end + PROMOTER]
    for transcript in near:
        spans["exon"] += transcript.exons
        spans["gene"].append((transcript.start, transcript.end))
        spans["cds"] += [part[:2] for part in transcript.coding]
        spans["promoter"].append(_in_front(transcript, PROMOTER))
        for start, end in transcript.introns:
            spans["intron"].append((start, end))
            sides = ("splice_donor", "splice_acceptor")
            left, right = sides if transcript.forward else sides[::-1]
            spans[left].append((start, start + SPLICE_SITE))
            spans[right].append((end - SPLICE_SITE, end))
        _add_codons(transcript, begin, codons, spans)
    masks = {kind: covered(found, begin, begin + length) for kind, found in spans.items()}
    masks["utr"] = masks["exon"] & ~masks["cds"] & covered(_genes_with_protein(near), begin, begin + length)
    masks["intron"] &= ~masks["exon"]
    masks["promoter"] &= ~masks["gene"]
    masks["intergenic"] = ~masks.pop("gene")
    return masks | codons


def _genes_with_protein(transcripts: Sequence[Transcript]) -> list[tuple[int, int]]:
    return [(transcript.start, transcript.end) for transcript in transcripts if transcript.coding]


def _in_front(transcript: Transcript, bases: int) -> tuple[int, int]:
    if transcript.forward:
        return transcript.start - bases, transcript.start
    return transcript.end, transcript.end + bases


def _add_codons(
    transcript: Transcript, begin: int, codons: Masks, spans: dict[str, list[tuple[int, int]]]
) -> None:
    """Number the coding bases in the direction of reading; a part with a phase begins with so many of a codon.

    Bases that two genes read in different frames count for each of them. A codon may span an intron.
    """
    if not transcript.coding:
        return
    strand = "" if transcript.forward else "reverse_"
    read, ordered = 0, []
    for part in transcript.coding:
        if part.phase is not None:
            read = -part.phase % 3
        bases = np.arange(part.start, part.end)[:: 1 if transcript.forward else -1]
        for k in range(3):
            mask, found = codons[f"{strand}codon_position_{k + 1}"], bases[(k - read) % 3 :: 3] - begin
            mask[found[(found >= 0) & (found < len(mask))]] = True
        read = (read + len(bases)) % 3
        ordered.append(bases)
    bases = np.concatenate(ordered)
    if not transcript.coding[0].phase:
        spans["start_codon"] += [(base, base + 1) for base in bases[:3]]
    if read == 0:
        spans["stop_codon"] += [(base, base + 1) for base in bases[-3:]]
