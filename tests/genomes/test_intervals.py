"""Intervals of BED, GFF3 and GTF files, and the boundaries that they make."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.genomes.intervals import (
    boundary_mask,
    covered,
    edges_by_contig,
    interval_edges,
    read_intervals,
)

BED = "# by hand\ntrack name=x\nbrowser position a\na\t3\t7\tgene\nb 0 2\n\na\t5\t5\r\n"
GFF = """##gff-version 3
a%20b\t.\tgene\t1\t10\t.\t+\t.\tID=1
a%20b\t.\tCDS\t4\t6\t.\t+\t0\tID=2
c\t.\texon\t2\t2\t.\t-\t.\tID=3
##FASTA
>c
ACGT
"""


def read(folder, name, text, **settings):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return {contig: found.tolist() for contig, found in read_intervals(path, **settings).items()}


@pytest.mark.parametrize("name", ["x.bed", "x.bed.gz", "x.v2.bed.bgz"])
def test_bed(tmp_path, name):
    assert read(tmp_path, name, BED) == {"a": [[3, 7], [5, 5]], "b": [[0, 2]]}


@pytest.mark.parametrize("name", ["x.gff", "x.gff3.gz", "x.gtf"])
def test_gff(tmp_path, name):
    """Counted from 1 with both ends; names are unescaped, and sequences at the end are none of it."""
    assert read(tmp_path, name, GFF) == {"a b": [[0, 10], [3, 6]], "c": [[1, 2]]}
    assert read(tmp_path, name, GFF, features=["CDS", "exon"]) == {"a b": [[3, 6]], "c": [[1, 2]]}


@pytest.mark.parametrize(
    ("name", "text", "features", "sentence"),
    [
        ("x.bed", "a\t1\t2\nb\t3\n", (), "x.bed: line 2: a line of BED has at least three columns"),
        ("x.bed", "a\t1\t2\n\nb\tx\t3\n", (), "x.bed: line 3: the start 'x' is no position"),
        ("x.bed", "a\t-1\t3\n", (), "line 1: the start '-1' is no position"),
        ("x.bed", f"a\t1\t{10**30}\n", (), "line 1: the end '1000"),
        ("x.bed", "a\t5\t3\n", (), "line 1: the interval ends at 3, before it starts at 5"),
        ("x.bed", "# nothing\n", (), "x.bed: holds no intervals"),
        ("x.bed", "a\t1\t2\n", ["CDS"], "x.bed: a BED file has no kinds of features"),
        ("x.gff", "a\t.\tgene\t0\t5\t.\t.\t.\t.\n", (), "line 1: 0 to 5 is no interval; GFF counts from 1"),
        ("x.gff", "a\t.\tgene\t6\t5\t.\t.\t.\t.\n", (), "line 1: 6 to 5 is no interval"),
        ("x.gff", "a\t.\tgene\n", (), "line 1: has 3 columns, and a line of GFF has nine"),
        ("x.gff", GFF, ["CDS", "mRNA"], "there is no feature 'mRNA'; there are CDS, exon, gene"),
        ("x.txt", BED, (), "x.txt: the name should end in .bed, .gff, .gff3 or .gtf"),
        ("x.gz", BED, (), "x.gz: the name should end in .bed"),
    ],
)
def test_bad_files(tmp_path, name, text, features, sentence):
    with pytest.raises(InputError) as caught:
        read(tmp_path, name, text, features=features)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "half.bed.gz").write_bytes(gzip.compress(BED.encode() * 99)[:60])
    (tmp_path / "latin.bed").write_bytes(b"a\xe9\t1\t2\n")
    for name in ("half.bed.gz", "latin.bed", "none.bed"):
        with pytest.raises(InputError, match=rf"{name}: cannot be read as a file of intervals: "):
            read_intervals(tmp_path / name)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), min_size=1, max_size=8),
    st.integers(0, 45),
    st.integers(1, 20),
)
def test_the_mask_of_a_stretch(intervals, start, length):
    """Held against the rule itself, letter by letter."""
    intervals = [(begin, begin + size) for begin, size in intervals]
    wanted = [
        place == start or any(place in interval for interval in intervals)
        for place in range(start, start + length)
    ]
    mask = boundary_mask(interval_edges(np.array(intervals)), start, start + length)
    assert mask.tolist() == wanted


def test_the_mask_of_a_window():
    """Ten bases from 100; of the intervals one reaches in, one overlaps it, two lie outside, and one is empty."""
    intervals = np.array([[95, 103], [101, 106], [50, 60], [108, 108], [110, 120]])
    mask = boundary_mask(interval_edges(intervals), 100, 110)
    assert mask.nonzero()[0].tolist() == [0, 1, 3, 6, 8]
    assert boundary_mask(np.empty(0, np.int64), 0, 3).tolist() == [True, False, False]


def test_contigs_of_other_names(tmp_path):
    (tmp_path / "x.bed").write_text("chr1\t3\t7\nchrM\t1\t2\n1\t5\t9\nscaffold\t1\t2\n")
    found, unknown = edges_by_contig(tmp_path / "x.bed", {"1": 9, "MT": 5, "2": 3})
    assert {name: edges.tolist() for name, edges in found.items()} == {"1": [3, 5, 7, 9], "MT": [1, 2]}
    assert unknown == ["scaffold"]
    with pytest.raises(InputError, match=r"none of its contigs \(chr1, chrM, 1, scaffold\) is among x, y"):
        edges_by_contig(tmp_path / "x.bed", {"x": 9, "y": 9})


def test_intervals_behind_the_end(tmp_path):
    """Those of another assembly are refused; in GFF3 one may cross the origin of a circular contig."""
    (tmp_path / "x.bed").write_text("a\t3\t7\n")
    with pytest.raises(
        InputError, match=r"x.bed: the interval 4-7 of a lies behind the contig's end, which has 6"
    ):
        edges_by_contig(tmp_path / "x.bed", {"a": 6})
    (tmp_path / "x.gff").write_text("a\t.\tgene\t4\t8\t.\t+\t.\t.\n")
    assert edges_by_contig(tmp_path / "x.gff", {"a": 6})[0]["a"].tolist() == [2, 3]
    with pytest.raises(InputError, match="is the file of another assembly"):
        edges_by_contig(tmp_path / "x.gff", {"a": 2})


@given(
    intervals=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6),
    start=st.integers(0, 30),
    length=st.integers(1, 20),
)
def test_covered_as_told_position_by_position(intervals, start, length):
    """An interval that ends before it starts holds what lies behind its start, and in front of its end."""

    def holds(first, end, position):
        return first <= position < end if first <= end else position >= first or position < end

    wanted = [any(holds(*span, position) for span in intervals) for position in range(start, start + length)]
    assert covered(np.array(intervals, np.int64).reshape(-1, 2), start, start + length).tolist() == wanted
