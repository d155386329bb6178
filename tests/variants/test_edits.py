"""One edit, many writings."""

import pytest
from haplotype_oracle import edited, leftmost_difference, reverse_complement
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.genomes.fasta import Reference
from genotok.variants.alleles import Edit, is_symbolic, left_align, reverse_edit, spelled
from genotok.variants.letters import BLOCK, PatchedStrand, ReferenceLetters, ReverseStrand
from genotok.variants.windows import haplotypes, window_pairs


class Contig:
    """A contig in memory."""

    def __init__(self, sequence: str):
        self.sequence, self.length = sequence.encode(), len(sequence)

    def fetch(self, start: int, end: int) -> bytes:
        return self.sequence[max(start, 0) : max(end, 0)]


repetitive = st.text("AC", max_size=30) | st.text("ACGT", min_size=1, max_size=30)


@st.composite
def variants(draw):
    """A contig with repeats, and (pos, ref, alt) on it."""
    contig = "A" + draw(repetitive) + draw(repetitive)
    start = draw(st.integers(0, len(contig) - 1))
    ref = contig[start : start + draw(st.integers(1, 6))]
    return contig, start + 1, ref, draw(st.text("AC", min_size=1, max_size=8))


@given(variants())
def test_left_alignment_depends_on_the_two_sequences_alone(variant):
    contig, pos, ref, alt = variant
    found = left_align(Edit(pos - 1, ref.encode(), alt.encode()), Contig(contig))
    if ref == alt:
        assert (found.ref, found.alt) == (b"", b"")
    else:
        start, short_ref, short_alt = leftmost_difference(contig, edited(contig, pos, ref, alt))
        assert found == (start, short_ref.encode(), short_alt.encode())


@given(variants())
def test_an_edit_of_the_other_strand_makes_the_other_strand_of_the_edited_contig(variant):
    contig, pos, ref, alt = variant
    start, reverse_ref, reverse_alt = reverse_edit(Edit(pos - 1, ref.encode(), alt.encode()), len(contig))
    made = edited(reverse_complement(contig), start + 1, reverse_ref.decode(), reverse_alt.decode())
    assert made == reverse_complement(edited(contig, pos, ref, alt))


@pytest.mark.parametrize("unit", ["A", "CAG", "ACGTTGCAAC"])
def test_an_indel_is_shifted_through_a_long_repeat(unit):
    contig = "TTT" + unit * 40_000
    last = len(contig) - len(unit)
    assert left_align(Edit(last, unit.encode(), b""), Contig(contig)) == (3, unit.encode(), b"")
    assert left_align(Edit(len(contig), b"", unit.encode()), Contig(contig)) == (3, b"", unit.encode())


def test_a_shift_ends_at_an_ambiguous_letter_and_at_the_start_of_the_contig():
    assert left_align(Edit(4, b"A", b""), Contig("ANAAA")) == (2, b"A", b"")
    assert left_align(Edit(4, b"A", b""), Contig("AAAAA")) == (0, b"A", b"")


@pytest.mark.parametrize(
    "alt", ["<DEL>", "<*>", "<NON_REF>", "*", "G]chr2:1]", "]chr2:1]G", "G.", ".G", "C<x>"]
)
def test_alleles_that_are_not_spelled_out(alt):
    assert is_symbolic(alt.encode())


def test_letters_are_read_in_either_case_and_u_as_t():
    assert spelled(b"acgtuN") == b"ACGTTN"
    assert not is_symbolic(b"acgtuN")


@pytest.fixture(scope="module")
def long_contig(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    sequence = "".join("acgtu"[(i * i + i // 7) % 5] for i in range(3 * BLOCK + 11))
    path.write_text(f">one\n{sequence}\n>two\nACG\n")
    return ReferenceLetters(Reference(path)), sequence.upper().replace("U", "T")


@given(st.integers(-5, 3 * BLOCK + 20), st.integers(-5, 2 * BLOCK))
@settings(max_examples=60)
def test_letters_are_the_same_across_blocks_and_outside_the_contig(long_contig, start, length):
    letters, sequence = long_contig
    end = start + length
    expected = sequence[max(start, 0) : max(end, 0)].encode()
    contig = letters.contig("one")
    assert contig.fetch(start, end) == expected
    reverse = reverse_complement(sequence)[max(start, 0) : max(end, 0)].encode()
    assert ReverseStrand(contig).fetch(start, end) == reverse
    patched = sequence[: BLOCK - 2] + "GGGGG" + sequence[BLOCK + 3 :]
    assert (
        PatchedStrand(contig, BLOCK - 2, b"GGGGG").fetch(start, end)
        == patched[max(start, 0) : max(end, 0)].encode()
    )


SEQUENCE = "ACGTTGCAATCGGATC"


@pytest.mark.parametrize(
    ("edit", "window", "ref", "alt"),
    [
        (Edit(8, b"A", b"C"), 6, b"GCAATC", b"GCACTC"),
        (Edit(8, b"A", b"C"), 5, b"CAATC", b"CACTC"),
        (Edit(8, b"", b"GG"), 6, b"GCAATC", b"GCAGGA"),
        (Edit(8, b"AT", b""), 6, b"GCAATC", b"GCACGG"),
        (Edit(1, b"C", b"T"), 6, b"ACGTTG", b"ATGTTG"),
        (Edit(14, b"T", b""), 6, b"GGATC", b"GGAC"),
        (Edit(16, b"", b"AA"), 6, b"ATC", b"ATCAA"),
        (Edit(8, b"A", b""), 100, SEQUENCE.encode(), b"ACGTTGCATCGGATC"),
    ],
)
def test_both_windows_begin_half_a_window_before_the_edit(edit, window, ref, alt):
    pair = haplotypes(edit, Contig(SEQUENCE), window)
    assert pair[:2] == (ref, alt)
    assert (
        pair.ref[: pair.shared]
        == pair.alt[: pair.shared]
        == SEQUENCE[: edit.start].encode()[-(window // 2) :]
    )


@pytest.mark.parametrize(
    ("edit", "horizon", "ref", "alt"),
    [
        (Edit(8, b"A", b"C"), 0, b"GCA", b"GCC"),
        (Edit(8, b"A", b"C"), 2, b"GCATC", b"GCCTC"),
        (Edit(8, b"", b"GG"), 1, b"GCATC", b"GCGGA"),
        (Edit(8, b"AT", b""), 1, b"GCATC", b"GCCGG"),
        (Edit(8, b"A", b"C"), 90, b"GCATCGGATC", b"GCCTCGGATC"),
    ],
)
def test_the_horizon_bounds_what_counts_behind_the_longer_allele(edit, horizon, ref, alt):
    contig = Contig("GC" + SEQUENCE[8:])
    moved = Edit(edit.start - 6, edit.ref, edit.alt)
    assert haplotypes(moved, contig, 40, horizon)[:2] == (ref, alt)
    assert haplotypes(moved, contig, 40, None) == haplotypes(moved, contig, 40, 1000)


def test_the_reverse_strand_has_windows_of_its_own():
    pairs = window_pairs(Edit(8, b"A", b"C"), Contig(SEQUENCE), 6, both_strands=True)
    assert pairs == [(b"GCAATC", b"GCACTC", 3, (4, 4)), (b"CGATTG", b"CGAGTG", 3, (4, 4))]
    assert window_pairs(Edit(8, b"A", b"C"), Contig(SEQUENCE), 6, both_strands=False) == pairs[:1]


def test_on_each_strand_an_indel_is_placed_at_its_own_leftmost_position():
    forward, reverse = window_pairs(Edit(3, b"A", b""), Contig("CGTAAAAGCT"), 4, both_strands=True)
    assert forward == (b"GTAA", b"GTAA", 2, (3, 2))
    assert reverse == (b"GCTT", b"GCTT", 2, (3, 2))
