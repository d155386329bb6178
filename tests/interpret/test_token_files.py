"""Chunks and tracks of whole genomes in the formats of genome browsers."""

import gzip
import re
import struct
from itertools import pairwise

import numpy as np
import pyBigWig
import pytest
from staged_model import staged_model
from typer.testing import CliRunner

from genotok.cli import app
from genotok.errors import InputError
from genotok.genomes.twobit import read_twobit
from genotok.interpret.chunk_rows import ChunkRows
from genotok.interpret.chunks import RegionChunks, find_chunks
from genotok.interpret.token_files import write_token_files


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "two_stages"
    model.save_pretrained(folder)
    return folder


def genotok(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def rows_of(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def part_of(whole, start, end):
    """The bases `[start, end)` of a region's chunks."""
    places = slice(start - whole.start, end - whole.start)
    begins, probability = (
        [values[places] for values in stages] for stages in (whole.begins, whole.probability)
    )
    return RegionChunks(
        whole.contig, start, end, whole.letters[places], begins, probability, whole.surprisal[places]
    )


def rows_from(parts):
    rows = ChunkRows()
    return [row for part in parts for row in rows.add(part)] + rows.close()


@pytest.mark.parametrize("cuts", [[10, 200], [10, 11, 12, 57, 130, 131, 199, 200], list(range(10, 201))])
def test_parts_give_the_chunks_of_the_whole(model, reference, cuts):
    whole = find_chunks(model, reference, "one", 10, 200, window=400)
    found = rows_from(part_of(whole, start, end) for start, end in pairwise(cuts))
    expected = sorted(
        (start, stage, end) for stage in range(2) for start, end in whole.chunks(stage).tolist()
    )
    assert [(row.start, row.stage, row.end) for row in found] == expected
    assert [row.letters for row in found] == [reference.fetch("one", *row[::2]) for row in expected]


def test_regions_with_a_gap_between_them_stay_apart(model, reference):
    whole = find_chunks(model, reference, "one", 10, 200, window=400)
    found = rows_from([part_of(whole, 10, 30), part_of(whole, 31, 50)])
    assert {30, 50} <= {row.end for row in found if row.stage == 1}
    assert [row.number for row in found if row.start == 31] == [0, 0]


def test_whole_genome_as_bed_and_tracks(folder, model, reference, tmp_path):
    """Without a region all contigs are read, in the order of their names."""
    genotok("tokens", reference.path, "-m", folder, "-o", tmp_path / "all.bed", "--bigwig", tmp_path / "all",
            "--window", 100)  # fmt: skip
    rows = rows_of(tmp_path / "all.bed")
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert {row[0] for row in rows} == set(reference.contigs)
    with (
        pyBigWig.open(str(tmp_path / "all.surprisal.bw")) as surprisal,
        pyBigWig.open(str(tmp_path / "all.boundary.stage1.bw")) as boundary,
    ):
        for contig, length in reference.contigs.items():
            found = find_chunks(model, reference, contig, 0, length, window=100)
            np.testing.assert_allclose(surprisal.values(contig, 0, length), found.surprisal, atol=1e-5)
            np.testing.assert_allclose(boundary.values(contig, 0, length), found.probability[1], atol=1e-5)
            spans = {(int(r[1]), int(r[2])) for r in rows if r[0] == contig and r[3].startswith("s1")}
            assert spans == set(map(tuple, found.chunks(1).tolist()))


def test_bigbed_holds_what_bed_does(folder, reference, tmp_path):
    (tmp_path / "regions.bed").write_text("one\t5\t90\none\t80\t120\ntwo\t0\t50\n")
    words = ("tokens", reference.path, "-m", folder, "--bed", tmp_path / "regions.bed", "--window", 64)
    genotok(*words, "-o", tmp_path / "x.bb")
    genotok(*words, "-o", tmp_path / "x.bed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["regions.bed", "x.bb", "x.bed"]
    with pyBigWig.open(str(tmp_path / "x.bb")) as file:
        assert file.isBigBed()
        found = [
            [contig, str(start), str(end), *rest.split("\t")]
            for contig, length in sorted(file.chroms().items())
            for start, end, rest in file.entries(contig, 0, length)
        ]
        columns = re.findall(r"(\w+);", file.SQL().decode())
    assert columns == [
        *("chrom", "chromStart", "chromEnd", "name", "score", "strand", "thickStart", "thickEnd", "itemRgb")
    ]
    fields, of_bed = struct.unpack_from("<HH", (tmp_path / "x.bb").read_bytes(), 32)
    assert (fields, of_bed) == (9, 9)  # which browsers go by
    assert found == rows_of(tmp_path / "x.bed")
    assert found[0][1] == "5"
    assert max(int(row[2]) for row in found if row[0] == "one") == 120


def test_trackhub(folder, reference, tmp_path):
    genotok("tokens", reference.path, "-m", folder, "--trackhub", tmp_path / "hub", "--window", 128)
    hub = (tmp_path / "hub" / "hub.txt").read_text()
    stanzas = [dict(line.split(" ", 1) for line in text.splitlines()) for text in hub.split("\n\n")]
    assert stanzas[0]["useOneFile"] == "on"
    assert stanzas[1]["twoBitPath"] == "genome.2bit"
    tracks = {stanza["track"]: stanza for stanza in stanzas[2:]}
    assert set(tracks) == {
        "chunks_stage0",
        "chunks_stage1",
        "boundary_stage0",
        "boundary_stage1",
        "surprisal",
    }
    for stanza in tracks.values():
        with pyBigWig.open(str(tmp_path / "hub" / stanza["bigDataUrl"])) as file:
            assert file.isBigBed() == (stanza["type"] == "bigBed 9")
            assert set(file.chroms()) == set(reference.contigs)
    letters = {name: b"".join(parts) for name, parts in read_twobit(tmp_path / "hub" / "genome.2bit")}
    assert {name: len(text) for name, text in letters.items()} == dict(reference.contigs)
    genotok("tokens", reference.path, "-m", folder, "--trackhub", tmp_path / "hub", "--assembly", "hg38")
    assert "genome hg38\n" in (tmp_path / "hub" / "hub.txt").read_text()
    assert not (tmp_path / "hub" / "genome.2bit").exists()


def test_a_model_without_stages_has_surprisal_alone(reference, tmp_path):
    staged_model(["m2"]).save_pretrained(tmp_path / "flat")
    words = ("tokens", reference.path, "-m", tmp_path / "flat", "--region", "one:1-50")
    genotok(*words, "--bigwig", tmp_path / "flat_tracks")
    assert [path.name for path in tmp_path.glob("flat_tracks*")] == ["flat_tracks.surprisal.bw"]
    with pytest.raises(InputError, match="has no chunking stage"):
        genotok(*words, "-o", tmp_path / "x.bed.gz")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [((), "name at least one output"), (("-o", "x.bed", "--trackhub", "hub"), "leave out -o and --bigwig")],
)
def test_outputs_that_do_not_fit(folder, reference, words, sentence):
    with pytest.raises(InputError, match=sentence):
        genotok("tokens", reference.path, "-m", folder, *words)


def test_nothing_is_left_when_reading_fails(model, reference, tmp_path):
    def parts():
        yield find_chunks(model, reference, "one", 0, 50)
        raise InputError("the genome is damaged")

    outputs = {"bed": tmp_path / "x.bb", "bigwig": tmp_path / "x"}
    with pytest.raises(InputError, match="damaged"):
        write_token_files(parts(), reference.contigs, 2, **outputs)
    assert not list(tmp_path.iterdir())


def test_the_same_bytes_each_time(folder, reference, tmp_path):
    for name in ("a", "b"):
        genotok("tokens", reference.path, "-m", folder, "--region", "two", "-o", tmp_path / f"{name}.bed.gz",
                "--bigwig", tmp_path / name)  # fmt: skip
    assert gzip.decompress((tmp_path / "a.bed.gz").read_bytes()).startswith(b"two\t0\t")
    for suffix in (".bed.gz", ".surprisal.bw", ".boundary.stage0.bw"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
