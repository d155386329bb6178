"""What is attributed to the letters of a region, on either strand: a likelihood, a variant's score, or a label."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region
from genotok.interpret.differentiable_letters import (
    LETTERS,
    HeadOutput,
    LetterFunction,
    LogLikelihood,
    Reading,
    letter_ids,
)
from genotok.models import GenomicLM
from genotok.tokenizers import Tokenizer
from genotok.variants.alleles import Edit, is_certain, left_align, reverse_edit
from genotok.variants.letters import ContigLetters, ReferenceLetters, ReverseStrand
from genotok.variants.windows import haplotypes

TARGETS = ("likelihood", "allele", "label")
STRANDS = ("both", "forward", "reverse")
_CODES = np.full(256, -1, np.int64)
_CODES[list(LETTERS.encode())] = range(4)


@dataclass(frozen=True)
class Target:
    """A number that the model gives for a stretch of sequence.

    `likelihood` is the log-likelihood, in nats, of the region's letters and those behind it in the window, given
    those in front: up to a constant that of the window, whose differences `genotok score` gives. `allele` is the
    score of a variant as `genotok score` has it, log p(window with ALT) - log p(window with REF). `label` is the
    output of a prediction head.

    Attributes:
        kind: of `TARGETS`.
        window: letters that the model reads. For `allele` they lie around the variant, else around the region;
            None reads the region alone.
        contig: of the variant.
        edit: of `allele`, the variant's leftmost writing.
        output: what of the model's output is meant.
        text: the target in words.
    """

    kind: str
    window: int | None
    output: LogLikelihood | HeadOutput
    text: str
    contig: str = ""
    edit: Edit | None = None

    @property
    def unit(self) -> str:
        """Of the target's value; empty for a head's output, which has one of its own."""
        return "" if self.kind == "label" else "nats"


class Strand(NamedTuple):
    """One strand of a contig."""

    letters: ContigLetters
    forward: bool

    def place(self, start: int, end: int) -> tuple[int, int]:
        """The stretch `[start, end)` of the forward strand in the coordinates of this one, or the other way."""
        return (start, end) if self.forward else (self.letters.length - end, self.letters.length - start)


def strands_of(reference: Reference, contig: str, strands: str) -> list[Strand]:
    """The strands that are read."""
    forward = ReferenceLetters(reference).contig(contig)
    found = {"forward": Strand(forward, True), "reverse": Strand(ReverseStrand(forward), False)}
    return list(found.values()) if strands == "both" else [found[strands]]


def parse_variant(text: str, reference: Reference) -> tuple[str, Edit]:
    """Read a variant as people write it.

    Args:
        text: `CONTIG:POSITION:REF:ALT`, the position 1-based; the contig may hold colons.
        reference: the genome.

    Returns:
        The contig's name in the FASTA, and the leftmost writing of the edit.

    Raises:
        InputError: the text is no variant, or REF is not what the FASTA has there.
    """
    parts = text.rsplit(":", 3)
    if len(parts) != 4 or not parts[1].replace(",", "").isdecimal():
        raise InputError(f"--variant: {text!r} should be CONTIG:POSITION:REF:ALT, as in chr1:1,234:A:G")
    contig, start = reference.match(parts[0]), int(parts[1].replace(",", "")) - 1
    if contig is None:
        raise InputError(f"--variant: {reference.path} has no contig {parts[0]}")
    ref, alt = (part.upper().replace("U", "T").encode() for part in parts[2:])
    if not (is_certain(ref) and is_certain(alt)):
        raise InputError(f"--variant: {text!r}: REF and ALT should be spelled with A, C, G and T")
    letters = ReferenceLetters(reference).contig(contig)
    there = letters.fetch(start, start + len(ref)) if start >= 0 else b""
    if there != ref:
        raise InputError(
            f"--variant: {text!r}: the FASTA has {there.decode() or 'no letter'} at {start + 1:,}, not {parts[2]}"
        )
    if ref == alt:
        raise InputError(f"--variant: {text!r}: REF and ALT are the same")
    return contig, left_align(Edit(start, ref, alt), letters)


def window_around(region: Region, length: int, window: int | None) -> tuple[int, int]:
    """The stretch that is read: `window` letters with the region in their middle, moved where the contig ends.

    Raises:
        InputError: the region is longer than the window.
    """
    bases = region.end - region.start
    window = bases if window is None else window
    if bases > window:
        raise InputError(
            f"region {region.contig}:{region.start + 1}-{region.end}: has {bases:,} bases, and the window "
            f"{window:,}; take a shorter region or a longer --window"
        )
    begin = min(region.start - (window - bases) // 2, length - window)
    return max(begin, 0), min(max(begin, 0) + window, length)


def letter_function(
    model: GenomicLM, target: Target, strand: Strand, region: Region, held: bool
) -> LetterFunction:
    """The target as a function of the region's letters, in the order in which the strand reads them.

    Raises:
        InputError: the model has no such output, or its tokens are not letters, or the region does not fit.
    """
    letter_ids(model.tokenizer)
    target.output.check(model)
    start, end = strand.place(region.start, region.end)
    codes = _CODES[np.frombuffer(strand.letters.fetch(start, end), np.uint8)]
    if target.kind == "allele":
        readings = list(_allele_readings(model.tokenizer, target, strand, start, end))
    else:
        begin, stop = strand.place(*window_around(region, strand.letters.length, target.window))
        letters = strand.letters.fetch(begin, stop)
        counted = np.arange(begin, stop) >= start
        if target.kind == "label":
            counted &= np.arange(begin, stop) < end
        readings = [_reading(model.tokenizer, letters, np.arange(begin, stop) - start, codes, counted)]
    varies = np.zeros(len(codes), bool)
    for reading in readings:
        varies[reading.letters.numpy()] = True
    codes = torch.from_numpy(np.where(varies, codes, -1)).to(model.device)
    moved = [_on(reading, model.device) for reading in readings]
    return LetterFunction(model, moved, target.output, codes, held)


def _allele_readings(
    tokenizer: Tokenizer, target: Target, strand: Strand, start: int, end: int
) -> Iterator[Reading]:
    """The windows with REF and with ALT, as the scorer cuts them; the letters of the variant itself stay."""
    edit = target.edit
    if not strand.forward:
        edit = left_align(reverse_edit(edit, strand.letters.length), strand.letters)
    pair = haplotypes(edit, strand.letters, target.window)
    codes = _CODES[np.frombuffer(strand.letters.fetch(start, end), np.uint8)]
    behind = edit.start + len(edit.ref)
    for letters, first, sign in ((pair.ref, pair.behind[0], -1.0), (pair.alt, pair.behind[1], 1.0)):
        places = np.full(len(letters), -1)
        places[: pair.shared] = np.arange(edit.start - pair.shared, edit.start)
        places[first:] = np.arange(behind, behind + len(letters) - first)
        of_region = np.where(places < 0, -1, places - start)
        reading = _reading(tokenizer, letters, of_region, codes, np.arange(len(letters)) >= pair.shared)
        reading.sign = sign
        yield reading


def _reading(
    tokenizer: Tokenizer, letters: bytes, of_region: np.ndarray, codes: np.ndarray, counted: np.ndarray
) -> Reading:
    """A window in tokens.

    Args:
        tokenizer: with a token a letter.
        letters: the W letters of the window.
        of_region: (W,) which letter of the region each is; others are outside it.
        codes: (L,) the region's letters, negative where ambiguous.
        counted: (W,) bool, the letters whose likelihood counts if they are certain.
    """
    ids = tokenizer.encode_letters(letters).astype(np.int64)
    inside = (of_region >= 0) & (of_region < len(codes))
    inside[inside] = codes[of_region[inside]] >= 0
    counted = counted & tokenizer.is_nucleotide[ids]
    skipped = 0
    if tokenizer.start_id is not None:
        ids, counted, skipped = np.append(tokenizer.start_id, ids), np.append(False, counted), 1
    places = np.flatnonzero(inside)
    parts = ids, places + skipped, of_region[places], counted
    return Reading(*map(torch.from_numpy, parts))


def _on(reading: Reading, device: torch.device) -> Reading:
    parts = (reading.ids, reading.places, reading.letters, reading.counted)
    return Reading(*(part.to(device) for part in parts), sign=reading.sign)
