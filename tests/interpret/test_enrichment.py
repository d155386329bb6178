"""Boundaries against annotation: masks base by base, and rotations one by one."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.interpret.annotation_masks import Annotation
from genotok.interpret.enrichment import LEAST_SHIFT, BoundaryEnrichment

GFF = """##gff-version 3
c\t.\texon\t11\t20\t.\t+\t.\tParent=a
c\t.\texon\t41\t60\t.\t+\t.\tParent=a
c\t.\tCDS\t15\t20\t.\t+\t0\tParent=a
c\t.\tCDS\t41\t46\t.\t+\t0\tParent=a
c\t.\tCDS\t71\t79\t.\t-\t0\tID=b
"""


@pytest.fixture
def gff(tmp_path):
    path = tmp_path / "genes.gff3"
    path.write_text(GFF)
    return path


def places(masks, kind):
    """1-based positions of a kind."""
    return (np.flatnonzero(masks[kind]) + 1).tolist()


def test_transcripts_as_masks(gff, tmp_path):
    bed = tmp_path / "sites.of.interest.bed.gz"
    bed.write_bytes(gzip.compress(b"chrc\t3\t5\nother\t0\t1\n"))
    letters = (b"ACGTAAAAAC" * 30)[:300].replace(b"C", b"c", 2)
    masks = Annotation({"c": 300}, gff, [bed]).masks("c", letters)
    assert places(masks, "codon_position_1") == [15, 18, 41, 44]
    assert places(masks, "codon_position_2") == [16, 19, 42, 45]
    assert places(masks, "codon_position_3") == [17, 20, 43, 46]
    assert places(masks, "reverse_codon_position_1") == [73, 76, 79]
    assert places(masks, "reverse_codon_position_3") == [71, 74, 77]
    assert places(masks, "start_codon") == [15, 16, 17, 77, 78, 79]
    assert places(masks, "stop_codon") == [44, 45, 46, 71, 72, 73]
    assert places(masks, "splice_donor") == [21, 22]
    assert places(masks, "splice_acceptor") == [39, 40]
    assert places(masks, "intron") == list(range(21, 41))
    assert places(masks, "utr") == [*range(11, 15), *range(47, 61)]
    assert places(masks, "promoter") == [*range(1, 11), *range(80, 280)]
    assert places(masks, "intergenic") == [*range(1, 11), *range(61, 71), *range(80, 301)]
    assert places(masks, "soft_masked") == [2, 10]
    assert places(masks, "homopolymer")[:7] == [5, 6, 7, 8, 9, 15, 16]
    assert places(masks, "sites.of.interest") == [4, 5]


def test_phases_and_codons_over_introns(tmp_path):
    """A codon of two bases and one behind the intron, and a CDS that begins within a codon."""
    path = tmp_path / "g.gff3"
    path.write_text(
        "c\t.\tCDS\t11\t15\t.\t-\t1\tID=a\nc\t.\tCDS\t31\t32\t.\t-\t0\tID=a\nc\t.\tCDS\t51\t54\t.\t+\t1\tID=b\n"
    )
    masks = Annotation({"c": 60}, path).masks("c", b"A" * 60)
    assert places(masks, "reverse_codon_position_1") == [11, 14, 32]
    assert places(masks, "reverse_codon_position_3") == [12, 15]
    assert places(masks, "start_codon") == [15, 31, 32]
    assert "stop_codon" not in masks or 11 not in places(masks, "stop_codon")
    assert places(masks, "codon_position_1") == [52]
    assert places(masks, "stop_codon") == [52, 53, 54]


def test_files_of_another_assembly(gff, tmp_path):
    with pytest.raises(InputError, match="no exon or CDS on a contig"):
        Annotation({"x": 100}, gff)
    (tmp_path / "y.bed").write_text("c\t1\t5\n")
    with pytest.raises(InputError, match="none of its contigs"):
        Annotation({"x": 100}, None, [tmp_path / "y.bed"])


def slow_overlaps(begins, mask, shifts):
    """How many boundaries lie on the mask when all of them are moved to the left, one rotation after the other."""
    return [int((np.roll(begins, -shift) & mask).sum()) for shift in shifts]


@given(
    length=st.integers(5, 400),
    seed=st.integers(0, 1000),
    rate=st.floats(0.05, 0.9),
    share=st.floats(0.05, 0.9),
)
@settings(max_examples=40, deadline=None)
def test_rotations_as_counted_one_by_one(length, seed, rate, share):
    random = np.random.default_rng(seed)
    begins, mask = random.random(length) < rate, random.random(length) < share
    mask[0] = True
    found = BoundaryEnrichment(rotations=50, seed=seed)
    shifts = found._shifts(length)
    found._blocks = 0
    found.add([begins], {"some": mask})
    assert found._rotated[0, "some"].tolist() == slow_overlaps(begins, mask, shifts)
    (row,) = found.table()
    assert row.boundaries == int((begins & mask).sum())
    assert row.rate == pytest.approx(begins[mask].mean())
    if not mask.all():
        assert row.elsewhere == pytest.approx(begins[~mask].mean())
    if length > 4 * LEAST_SHIFT:
        assert all(LEAST_SHIFT <= shift <= length - LEAST_SHIFT for shift in shifts)


def test_planted_boundaries_are_found_and_scattered_ones_are_not():
    random = np.random.default_rng(3)
    length, found = 20_000, BoundaryEnrichment(rotations=400)
    for _ in range(3):
        starts = np.zeros(length, bool)
        starts[random.choice(length, 400, replace=False)] = True
        scattered = random.random(length) < 0.3
        found.add([scattered | starts, scattered & ~starts, scattered], {"start": starts, "all": ~starts})
    rows = {(row.stage, row.kind): row for row in found.table()}
    assert rows[0, "start"].rate == 1
    assert rows[0, "start"].z > 20
    assert rows[0, "start"].fold > 3
    assert rows[0, "start"].p == pytest.approx(2 / 401)
    assert rows[1, "start"].boundaries == 0
    assert rows[1, "start"].odds_ratio < 0.01
    assert rows[1, "start"].p == pytest.approx(2 / 401)
    assert abs(rows[2, "start"].z) < 4
    assert rows[2, "start"].fold_low < 1 < rows[2, "start"].fold_high
    assert rows[2, "start"].p > 0.001


def test_without_any_boundary_there_is_no_effect():
    enrichment = BoundaryEnrichment(rotations=10)
    enrichment.add([np.zeros(500, bool)], {"few": np.arange(500) < 10})
    (row,) = enrichment.table()
    assert (row.boundaries, row.fold, row.z, row.p) == (0, None, None, 1.0)
    assert np.isnan(row.odds_ratio)


def test_long_contigs_are_rotated_in_blocks(monkeypatch):
    monkeypatch.setattr("genotok.interpret.enrichment.LONGEST_BLOCK", 1000)
    random = np.random.default_rng(4)
    begins, mask = random.random(2500) < 0.3, random.random(2500) < 0.2
    found = BoundaryEnrichment(rotations=20)
    found.add([begins], {"some": mask})
    (row,) = found.table()
    assert row.boundaries == int((begins & mask).sum())
    assert row.bases == int(mask.sum())


def test_masks_of_a_stretch_are_those_of_the_contig(gff):
    annotation, letters = Annotation({"c": 300}, gff), b"ACGTAAAAAC" * 30
    whole = annotation.masks("c", letters)
    for start, end in ((0, 300), (13, 45), (20, 41), (60, 280), (72, 75)):
        part = annotation.masks("c", letters[start:end], start)
        for kind in whole.keys() - {"homopolymer"}:
            expected = whole[kind][start:end]
            assert np.array_equal(part.get(kind, np.zeros(end - start, bool)), expected), kind
