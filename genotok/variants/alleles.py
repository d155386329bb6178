"""An ALT allele as an edit of the reference: what can be scored, and one way to write each edit.

Letters are upper-case bytes with T for U; positions are 0-based.
"""

from typing import NamedTuple

from genotok.genomes.alphabets import reverse_complement
from genotok.variants.letters import ContigLetters

# Why an allele has a score or none. The first that applies counts, in this order:
#   missing         the record has no ALT allele (`.`)
#   symbolic        the allele is not spelled out: `<DEL>`, `<NON_REF>`, `*`, a breakend
#   unknown_contig  the FASTA has no contig of this name
#   ref_mismatch    REF is not what the FASTA has at this position, or the position lies outside the contig
#   ambiguous_base  a letter other than A C G T in REF or ALT, or in the FASTA under REF
#   too_long        what remains of REF or ALT without common ends is longer than half the window
STATUSES = ("ok", "ref_mismatch", "unknown_contig", "symbolic", "missing", "ambiguous_base", "too_long")

_FIRST_LOOK, _FARTHEST_LOOK = 64, 1 << 16  # letters fetched at a time while an indel is shifted


class Edit(NamedTuple):
    """The letters `ref` from `start` on become `alt`; either may be empty."""

    start: int
    ref: bytes
    alt: bytes


def spelled(allele: bytes) -> bytes:
    """An allele's letters in the writing of the FASTA: upper case, T for U."""
    return allele.upper().replace(b"U", b"T")


def is_symbolic(alt: bytes) -> bool:
    """Whether an ALT allele other than `.` is not spelled out (VCF 4.5, sections 1.6.1 and 5)."""
    return any(mark in alt for mark in b"<>[]*.")


def is_certain(letters: bytes) -> bool:
    """Whether there are letters, and all of them are A, C, G or T."""
    return bool(letters) and not letters.translate(None, b"ACGT")


def reverse_edit(edit: Edit, length: int) -> Edit:
    """The same edit on the opposite strand of a contig of `length` letters."""
    start = length - edit.start - len(edit.ref)
    return Edit(start, reverse_complement(edit.ref), reverse_complement(edit.alt))


def left_align(edit: Edit, contig: ContigLetters) -> Edit:
    """The one shortest and leftmost writing of an edit (Tan et al. 2015, doi:10.1093/bioinformatics/btv112).

    Edits that make the same sequence of the contig become equal. Other than in VCF no letter is kept in front
    of an insertion or deletion, so that one of the alleles is empty there.

    Args:
        edit: `ref` must be the contig's letters at `start`.
        contig: the letters around it.
    """
    start, ref, alt = edit
    same = _common_end(ref, alt)
    ref, alt = ref[: len(ref) - same], alt[: len(alt) - same]
    if ref and alt:
        same = _common_start(ref, alt)
        return Edit(start + same, ref[same:], alt[same:])
    if not (ref or alt):
        return Edit(start, ref, alt)
    start, moved = _shift_left(start, ref or alt, contig)
    return Edit(start, moved, b"") if ref else Edit(start, b"", moved)


def _shift_left(start: int, moved: bytes, contig: ContigLetters) -> tuple[int, bytes]:
    """Shift an inserted or deleted stretch as far left as the sequence stays the same."""
    look = _FIRST_LOOK
    while start:
        look = min(look, start)
        before = contig.fetch(start - look, start)
        repeated = (moved * (look // len(moved) + 1))[-look:]
        same = _common_end(before, repeated)
        moved = (before[look - same :] + moved)[: len(moved)]
        start -= same
        if same < look:
            break
        look = min(2 * look, _FARTHEST_LOOK)
    return start, moved


def _common_start(a: bytes, b: bytes) -> int:
    """How many letters two stretches begin with alike."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def _common_end(a: bytes, b: bytes) -> int:
    return _common_start(a[::-1], b[::-1])
