"""Regions as people write them, as BED has them, and merged."""

import gzip
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.genomes.regions import Region, merge_regions, parse_region, read_bed

CONTIGS = {"chr1": 5000, "2": 100, "HLA-DRB1*16:02:01": 12356, "a:1-5": 40, "b": 9, "b:2-3": 4}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr1:1-1", ("chr1", 0, 1)),
        ("chr1:1,000-2,000", ("chr1", 999, 2000)),
        (" chr1:11-20 ", ("chr1", 10, 20)),
        ("1:5000-5000", ("chr1", 4999, 5000)),
        ("chr2", ("2", 0, 100)),
        ("HLA-DRB1*16:02:01:1-100", ("HLA-DRB1*16:02:01", 0, 100)),
        ("HLA-DRB1*16:02:01", ("HLA-DRB1*16:02:01", 0, 12356)),
        ("a:1-5", ("a:1-5", 0, 40)),
        ("a:1-5:2-3", ("a:1-5", 1, 3)),
    ],
)
def test_regions(text, expected):
    assert parse_region(text, CONTIGS) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("chr1:0-10", "the start must be at least 1 and at most the end"),
        ("chr1:11-10", "the start must be at least 1 and at most the end"),
        ("chr1:1-5001", "ends behind chr1, which has 5,000 bases"),
        ("chrX:1-2", "there is no contig chrX; there are chr1, 2, "),
        ("chr1:10", "is neither CONTIG:START-END"),
        ("chr1:-3-10", "is neither CONTIG:START-END"),
        ("chr1:,-10", "is neither CONTIG:START-END"),
        ("chr1:1-\N{ARABIC-INDIC DIGIT THREE}", "is neither CONTIG:START-END"),
        ("", "is neither CONTIG:START-END"),
        ("b:2-3", "is a contig's name and a part of contig b; write b:2-3:1-4 for the contig"),
    ],
)
def test_bad_regions(text, sentence):
    with pytest.raises(InputError, match=r"^region ") as caught:
        parse_region(text, CONTIGS)
    assert sentence in str(caught.value)


def test_bed_is_read_plain_and_compressed(tmp_path):
    text = "# a comment\nbrowser position 2:1-5\ntrack name=x\n\n2\t3\t10\tname\t0\t+\nchr2 0 0\n1\t0\t5000\n"
    expected = [("2", 3, 10), ("chr1", 0, 5000)]
    (tmp_path / "a.bed").write_text(text)
    (tmp_path / "a.bed.gz").write_bytes(gzip.compress(text.encode()))
    assert read_bed(tmp_path / "a.bed", CONTIGS) == expected
    assert read_bed(tmp_path / "a.bed.gz", CONTIGS) == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2\t5", "line 2: a line of BED has at least three columns"),
        ("2\t-5\t7", "line 2: the start '-5' is no position"),
        ("2\t5\tx", "line 2: the end 'x' is no position"),
        ("3\t5\t7", "line 2: there is no contig 3; there are chr1, 2, "),
        ("2\t8\t7", "line 2: the interval ends at 7, before it starts at 8"),
        ("2\t8\t101", "line 2: ends behind 2, which has 100 bases"),
    ],
)
def test_bad_lines_of_bed_are_named(tmp_path, line, sentence):
    bed = tmp_path / "a.bed"
    bed.write_text("2\t0\t1\n" + line + "\n")
    with pytest.raises(InputError) as caught:
        read_bed(bed, CONTIGS)
    assert str(caught.value).startswith(f"{bed}: {sentence}")


def test_a_bed_that_cannot_be_read(tmp_path):
    (tmp_path / "a.bed").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "b.bed").write_bytes(b"\xff\xfe\n")
    for name in ("a.bed", "b.bed", "absent.bed"):
        with pytest.raises(InputError, match=f"{name}: cannot be read as BED"):
            read_bed(tmp_path / name, CONTIGS)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 6)), max_size=8))
def test_merged_regions_hold_the_same_bases_once_and_in_order(spans):
    regions = [Region(contig, start, start + length) for contig, start, length in spans]
    bases = {(contig, place) for contig, start, end in regions for place in range(start, end)}
    merged = merge_regions(regions, "ba")
    assert merged == sorted(merged, key=lambda region: ("ba".index(region.contig), region.start))
    assert [(r.contig, place) for r in merged for place in range(r.start, r.end)] == sorted(
        bases, key=lambda base: ("ba".index(base[0]), base[1])
    )
    for first, second in pairwise(merged):
        assert first.contig != second.contig or first.end < second.start
