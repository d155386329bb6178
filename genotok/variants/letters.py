"""Letters of contigs around variants, read from the FASTA in blocks: upper-case bytes with T for U."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from genotok.genomes.alphabets import reverse_complement
from genotok.genomes.fasta import Reference

BLOCK = 1 << 16
BLOCKS_KEPT = 64


class ContigLetters(Protocol):
    """One strand of one contig, 5' to 3'."""

    length: int

    def fetch(self, start: int, end: int) -> bytes:
        """The letters of `[start, end)`; what lies outside the contig is left out."""


class ReferenceLetters:
    """Random access to a FASTA that reads blocks of 64 kb and keeps the latest 64 of them (4 MB)."""

    def __init__(self, reference: Reference):
        self.reference = reference
        self._block = lru_cache(BLOCKS_KEPT)(self._read_block)

    def _read_block(self, contig: str, block: int) -> bytes:
        letters = self.reference.fetch(contig, block * BLOCK, (block + 1) * BLOCK)
        return letters.replace("U", "T").encode()

    def contig(self, name: str) -> "ForwardStrand":
        """The forward strand of a contig that the FASTA has."""
        return ForwardStrand(self, name)

    def fetch(self, contig: str, start: int, end: int) -> bytes:
        """The letters of `[start, end)`, which must lie inside the contig."""
        first, last = start // BLOCK, (end - 1) // BLOCK
        if first == last:
            return self._block(contig, first)[start - first * BLOCK : end - first * BLOCK]
        joined = b"".join(self._block(contig, block) for block in range(first, last + 1))
        return joined[start - first * BLOCK : end - first * BLOCK]


class ForwardStrand:
    """A contig as the FASTA has it."""

    def __init__(self, letters: ReferenceLetters, name: str):
        self.letters, self.name = letters, name
        self.length = letters.reference.contigs[name]

    def fetch(self, start: int, end: int) -> bytes:
        """The letters of `[start, end)`; what lies outside the contig is left out."""
        start, end = max(start, 0), min(end, self.length)
        return self.letters.fetch(self.name, start, end) if start < end else b""


class PatchedStrand:
    """A contig of which the letters from `start` on read `patch` instead."""

    def __init__(self, contig: ContigLetters, start: int, patch: bytes):
        self.contig, self.start, self.patch = contig, start, patch
        self.length = contig.length

    def fetch(self, start: int, end: int) -> bytes:
        """The letters of `[start, end)`; what lies outside the contig is left out."""
        start, end = max(start, 0), min(end, self.length)
        first, last = max(start, self.start), min(end, self.start + len(self.patch))
        if first >= last:
            return self.contig.fetch(start, end)
        inside = self.patch[first - self.start : last - self.start]
        return self.contig.fetch(start, first) + inside + self.contig.fetch(last, end)


class ReverseStrand:
    """The opposite strand of a contig: position 0 is the forward strand's last."""

    def __init__(self, contig: ContigLetters):
        self.contig = contig
        self.length = contig.length

    def fetch(self, start: int, end: int) -> bytes:
        """The letters of `[start, end)`; what lies outside the contig is left out."""
        letters = self.contig.fetch(self.length - end, self.length - start)
        return reverse_complement(letters)


class EditedStrand:
    """A contig with edits made; positions are those of the edited contig.

    Args:
        contig: the letters before.
        edits: (start, letters there, letters instead), ascending, none touching a letter of another.
    """

    def __init__(self, contig: ContigLetters, edits: Sequence[tuple[int, bytes, bytes]]):
        self.contig = contig
        self._stretches: list[
            tuple[int, int, bytes | int]
        ] = []  # start, end, and letters or start in the contig
        place = begin = 0
        for start, ref, alt in edits:
            self._stretches.append((place, place + start - begin, begin))
            place += start - begin
            self._stretches.append((place, place + len(alt), alt))
            place, begin = place + len(alt), start + len(ref)
        self.length = place + contig.length - begin
        self._stretches.append((place, self.length, begin))

    def fetch(self, start: int, end: int) -> bytes:
        """The letters of `[start, end)`; what lies outside the contig is left out."""
        start, end = max(start, 0), min(end, self.length)
        parts = []
        for begin, stop, letters in self._stretches:
            first, last = max(start, begin) - begin, min(end, stop) - begin
            if first < last and isinstance(letters, int):
                parts.append(self.contig.fetch(letters + first, letters + last))
            elif first < last:
                parts.append(letters[first:last])
        return b"".join(parts)

    def before_edits(self, position: int) -> int:
        """Where a position lies on the contig before; within new letters, where these begin."""
        begin = 0
        for start, stop, letters in self._stretches:
            if isinstance(letters, int):
                begin = letters
                if position < stop:
                    return begin + position - start
                begin += stop - start
            elif position < stop:
                return begin
        return begin + position - self.length
