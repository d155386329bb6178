"""The codons of a transcript, base by base."""

from collections.abc import Sequence

from genotok.genomes.gff import CodingPart

Codon = tuple[int, int, int]


def codons(parts: Sequence[CodingPart], forward: bool) -> list[Codon]:
    """The codons of a coding sequence, each by the 0-based positions of its bases in the direction of reading.

    A codon may span an intron. Where the phase of a part does not go on from the one before, as behind a shift of
    the frame, reading begins anew. Bases of no whole codon are left out.

    Args:
        parts: in the direction of reading, as `genotok.genomes.gff.Transcript.coding` has them.
        forward: whether that is the forward strand's.
    """
    found: list[Codon] = []
    waiting: list[int] = []
    for first, part in enumerate(parts):
        bases = range(part.start, part.end)[:: 1 if forward else -1]
        expected = -len(waiting) % 3
        phase = expected if part.phase is None else part.phase
        if phase != expected or not first:
            waiting, bases = [], bases[phase:]
        waiting += bases
        whole = len(waiting) // 3 * 3
        found += [tuple(waiting[i : i + 3]) for i in range(0, whole, 3)]
        waiting = waiting[whole:]
    return found
