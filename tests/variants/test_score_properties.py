"""What holds for the scores of all variants, found on random ones."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from haplotype_oracle import edited, leftmost_difference, ratios, reverse_complement
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from variant_files import read_scores, write_fasta, write_vcf

from genotok.variants.score import score_vcf

CLOSE = {"rel": 1e-4, "abs": 2e-4}
SAME = {"rel": 1e-5, "abs": 1e-5}  # the order of sums may differ
REPEATS = ("A", "CA", "GTC", "ACGT")


def scores(folder, contigs, records, **options):
    """(records, alleles, 3) numbers as nested lists: mean, forward, reverse."""
    with tempfile.TemporaryDirectory() as place:
        fasta = write_fasta(Path(place) / "g.fa", contigs)
        vcf = write_vcf(Path(place) / "in.vcf", records)
        output = str(Path(place) / "out.vcf")
        score_vcf(str(vcf), fasta, folder, output, **{"window": 20, "threads": 1, "batch_size": 8} | options)
        found = read_scores(Path(output))
    assert all(set(record.status) == {"ok"} for record in found)
    return [list(zip(record.llr, record.forward, record.reverse, strict=True)) for record in found]


@st.composite
def contigs(draw):
    """Letters with a repeat inside, so that indels there have several writings."""
    left, right = draw(st.text("ACGT", min_size=1, max_size=25)), draw(st.text("ACGT", max_size=25))
    return left + draw(st.sampled_from(REPEATS)) * draw(st.integers(0, 6)) + right


@st.composite
def variants(draw, contig):
    """(pos, ref, alt) on a contig, of any kind that is spelled out."""
    start = draw(st.integers(0, len(contig) - 1))
    ref = contig[start : start + draw(st.integers(1, 6))]
    kind = draw(st.sampled_from(("any", "deletion", "insertion")))
    if kind == "deletion":
        return start + 1, ref, ref[:1]
    added = draw(st.text("ACGT", min_size=1, max_size=6) | st.sampled_from(REPEATS))
    return start + 1, ref, ref + added if kind == "insertion" else added


def writings(contig, haplotype):
    """All records of at most 12 letters that turn one sequence into the other."""
    grown = len(haplotype) - len(contig)
    found = []
    for start in range(len(contig)):
        if contig[:start] != haplotype[:start]:
            break
        for end in range(start + 1, min(len(contig), start + 12) + 1):
            length = end - start + grown
            if length > 0 and contig[end:] == haplotype[start + length :]:
                found.append((start + 1, contig[start:end], haplotype[start : start + length]))
    return found


@given(st.data())
@settings(max_examples=15, derandomize=True, deadline=None)
def test_all_writings_of_a_variant_score_what_the_definition_says(model, model_folder, data):
    contig = data.draw(contigs())
    pos, ref, alt = data.draw(variants(contig))
    records = writings(contig, edited(contig, pos, ref, alt))
    assume(records)
    found = scores(model_folder, {"c": contig}, [("c", *record) for record in records])
    assert len({numbers for ((numbers),) in found}) == 1
    assert found[0][0][1:] == pytest.approx(ratios(model, contig, pos, ref, alt, 20), **CLOSE)


def test_there_are_many_writings_in_repeats():
    """That the property above is about something."""
    assert len(writings("GG" + "CA" * 5 + "TT", "GG" + "CA" * 4 + "TT")) > 30
    assert leftmost_difference("GG" + "CA" * 5 + "TT", "GG" + "CA" * 4 + "TT")[0] == 2


@given(st.data())
@settings(max_examples=12, derandomize=True, deadline=None)
def test_swapping_ref_and_alt_negates(model_folder, data):
    contig = data.draw(contigs())
    pos, ref, alt = data.draw(variants(contig))
    there = scores(model_folder, {"c": contig}, [("c", pos, ref, alt)])
    back = scores(model_folder, {"c": edited(contig, pos, ref, alt)}, [("c", pos, alt, ref)])
    assert np.array(there) == pytest.approx(-np.array(back), **CLOSE)


@given(st.data())
@settings(max_examples=12, derandomize=True, deadline=None)
def test_the_opposite_strand_swaps_the_strands(model_folder, data):
    contig = data.draw(contigs())
    pos, ref, alt = data.draw(variants(contig))
    mirrored = (len(contig) - (pos - 1) - len(ref) + 1, reverse_complement(ref), reverse_complement(alt))
    ((here,),) = scores(model_folder, {"c": contig}, [("c", pos, ref, alt)])
    ((there,),) = scores(model_folder, {"c": reverse_complement(contig)}, [("c", *mirrored)])
    assert here == pytest.approx((there[0], there[2], there[1]), **SAME)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@given(st.data())
@settings(max_examples=6, derandomize=True, deadline=None)
def test_scores_depend_on_nothing_but_the_variant(model_folder, data):
    """Neither on batch size, order, neighbours, multi-allelic sites nor the number of threads."""
    sequences = {"c": data.draw(contigs()), "d": data.draw(contigs())}
    records = [
        (name, *data.draw(variants(sequences[name])))
        for name in data.draw(st.lists(st.sampled_from("cd"), min_size=2, max_size=6))
    ]
    expected = [scores(model_folder, sequences, [record], batch_size=1)[0] for record in records]
    order = data.draw(st.permutations(range(len(records))))
    shuffled = scores(
        model_folder,
        sequences,
        [records[i] for i in order],
        batch_size=data.draw(st.integers(1, 30)),
        threads=data.draw(st.integers(1, 2)),
    )
    for place, i in enumerate(order):
        assert np.array(shuffled[place]) == pytest.approx(np.array(expected[i]), **SAME)
    sites = [(name, pos, ref, f"{alt},{ref}TT,{alt}") for name, pos, ref, alt in records]
    for alleles, alone in zip(scores(model_folder, sequences, sites), expected, strict=True):
        assert alleles[0] == alleles[2] == pytest.approx(alone[0], **SAME)
