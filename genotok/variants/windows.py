"""The two windows that a variant is judged by: one with REF, one with ALT.

On the forward strand both begin at the same letter, half a window in front of the leftmost writing of the
variant, and both are one window long, so that it is the right edge that moves with an insertion or deletion.
The reverse strand is treated as if it were a contig of its own: there the variant is shifted and cut in that
strand's sense. A variant's score on the reverse strand is hence its score on the forward strand of the
reverse-complemented contig.
"""

from typing import NamedTuple

from genotok.variants.alleles import Edit, left_align, reverse_edit
from genotok.variants.letters import ContigLetters, ReverseStrand


class WindowPair(NamedTuple):
    """Both windows, and how many letters in front of the variant they share.

    `behind` says at which letter of each window what lies behind the variant begins; only a model of masked tokens
    and the shift of boundaries need it.
    """

    ref: bytes
    alt: bytes
    shared: int
    behind: tuple[int, int] | None = None

    @property
    def is_substitution(self) -> bool:
        """Whether the alleles are of one length, so that everything else of the windows is the same."""
        return self.behind[0] == self.behind[1]


def window_pairs(
    edit: Edit, contig: ContigLetters, window: int, both_strands: bool, horizon: int | None = None
) -> list[WindowPair]:
    """The windows of the forward strand, and those of the reverse strand where asked for.

    Args:
        edit: the variant's leftmost writing; neither allele may be longer than half a window.
        contig: the forward strand.
        window: letters a window.
        both_strands: whether the reverse strand is wanted.
        horizon: letters behind the longer allele that count; None for all of the window.
    """
    pairs = [haplotypes(edit, contig, window, horizon)]
    if both_strands:
        reverse = ReverseStrand(contig)
        mirrored = left_align(reverse_edit(edit, contig.length), reverse)
        pairs.append(haplotypes(mirrored, reverse, window, horizon))
    return pairs


def haplotypes(edit: Edit, contig: ContigLetters, window: int, horizon: int | None = None) -> WindowPair:
    """The windows of both haplotypes of an edit, each up to `window` letters, and up to the horizon behind the edit.

    They are shorter, and may differ in length, where the contig ends first.
    """
    before = contig.fetch(edit.start - window // 2, edit.start)
    if horizon is not None:
        window = min(window, len(before) + max(len(edit.ref), len(edit.alt)) + horizon)
    behind = edit.start + len(edit.ref)
    after = contig.fetch(behind, behind + window - len(before) - min(len(edit.ref), len(edit.alt)))
    ref, alt = (before + edit.ref + after)[:window], (before + edit.alt + after)[:window]
    return WindowPair(ref, alt, len(before), (len(before) + len(edit.ref), len(before) + len(edit.alt)))
