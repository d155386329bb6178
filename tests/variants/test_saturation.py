"""Every variant of one base of regions."""

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
import typer.testing
from haplotype_oracle import edited
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import read_scores, write_fasta

from genotok import cli
from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region
from genotok.variants import saturation
from genotok.variants.saturation import Saturation, find_regions
from genotok.variants.score import score_vcf
from genotok.variants.tracks import TRACKS, write_tracks

HLA = "HLA-DRB1*15:01:01:01"


def records_of(folder: Path, contigs: dict[str, str], regions: list[tuple]) -> list[tuple]:
    with Reference(write_fasta(folder / "genome.fa", contigs)) as reference:
        variants = Saturation([Region(*region) for region in regions])
        found = [
            (record.contig, record.position, record.ref.decode(), [alt.decode() for alt in record.alts])
            for record in variants.open(reference)
        ]
        assert variants.count(reference) == len(found)
    return found


def test_the_records_of_a_region(tmp_path):
    found = records_of(tmp_path, {"c": "GATTACA"}, [("c", 1, 5)])
    assert found == [
        ("c", 1, "GA", ["G"]),
        ("c", 2, "A", ["C", "G", "T"]),
        ("c", 2, "AT", ["A"]),
        ("c", 3, "T", ["A", "C", "G"]),
        ("c", 4, "T", ["A", "C", "G"]),
        ("c", 4, "TA", ["T"]),
        ("c", 5, "A", ["C", "G", "T"]),
    ]


def test_substitutions_alone(tmp_path):
    with Reference(write_fasta(tmp_path / "genome.fa", {"c": "GATTACA"})) as reference:
        variants = Saturation([Region("c", 0, 3)], deletions=False)
        assert [record.position for record in variants.open(reference)] == [1, 2, 3]
        assert variants.count(reference) == 3


def test_the_first_base_of_a_contig_is_deleted_with_the_base_behind_it(tmp_path):
    assert records_of(tmp_path, {"c": "GAT"}, [("c", 0, 1)]) == [
        ("c", 1, "G", ["A", "C", "T"]),
        ("c", 1, "GA", ["A"]),
    ]
    assert records_of(tmp_path, {"c": "G"}, [("c", 0, 1)]) == [("c", 1, "G", ["A", "C", "T"])]
    assert ("c", 1, "GG", ["G"]) in records_of(tmp_path, {"c": "GGA"}, [("c", 0, 2)])


def test_ambiguous_letters_are_left_out_and_u_is_t(tmp_path):
    assert records_of(tmp_path, {"c": "nacuR"}, [("c", 0, 5)]) == [
        ("c", 2, "A", ["C", "G", "T"]),
        ("c", 2, "AC", ["A"]),
        ("c", 3, "C", ["A", "G", "T"]),
        ("c", 3, "CT", ["C"]),
        ("c", 4, "T", ["A", "C", "G"]),
    ]


def test_a_run_that_begins_in_front_of_a_region_is_shortened_within_it(tmp_path):
    found = records_of(tmp_path, {"c": "CAAAAG"}, [("c", 2, 3), ("c", 4, 6)])
    assert [record for record in found if len(record[2]) == 2] == [
        ("c", 2, "AA", ["A"]),
        ("c", 4, "AA", ["A"]),
        ("c", 5, "AG", ["A"]),
    ]


@st.composite
def genomes(draw):
    contigs = {
        name: draw(st.text("ACGT", min_size=1, max_size=40) | st.text("ACN", min_size=1)) for name in "xy"
    }
    name = draw(st.sampled_from("xy"))
    start = draw(st.integers(0, len(contigs[name]) - 1))
    return contigs, (name, start, draw(st.integers(start + 1, len(contigs[name]))))


@given(genomes(), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_every_changed_sequence_stands_there_once_and_in_order(tmp_path_factory, genome, block):
    contigs, (name, start, end) = genome
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saturation, "_BLOCK", block)
        found = records_of(tmp_path_factory.mktemp("g"), contigs, [(name, start, end)])
    contig = contigs[name]
    made = [edited(contig, pos, ref, alt) for _, pos, ref, alts in found for alt in alts]
    expected = {
        contig[:i] + letter + contig[i + 1 :]
        for i in range(start, end)
        for letter in "ACGT"
        if contig[i] in "ACGT"
    } - {contig}
    runs = set()
    for i in range(start, end):
        first = i
        while first > start and contig[first - 1] == contig[i]:
            first -= 1
        anchor = contig[first - 1] if first else contig[1:2]
        if contig[i] in "ACGT" and anchor and anchor in "ACGT":
            runs.add(contig[:i] + contig[i + 1 :])
    assert len(made) == len(set(made))
    assert set(made) == expected | runs
    assert [pos for _, pos, _, _ in found] == sorted(pos for _, pos, _, _ in found)


def test_regions_on_the_command_line(tmp_path):
    fasta = write_fasta(tmp_path / "g.fa", {"chr1": "A" * 100, HLA: "C" * 50})
    (tmp_path / "r.bed").write_text("1\t15\t30\n1\t40\t50\n")
    with Reference(fasta) as reference:
        found = find_regions(reference, [f"{HLA}:3-4", HLA + ":5-6", "1:11-20"], tmp_path / "r.bed")
        assert found == [("chr1", 10, 30), ("chr1", 40, 50), (HLA, 2, 6)]
        assert find_regions(reference, [HLA]) == [(HLA, 0, 50)]
        (tmp_path / "empty.bed").write_text("# nothing\n")
        with pytest.raises(InputError, match=r"empty.bed: holds no region"):
            find_regions(reference, [], tmp_path / "empty.bed")


@pytest.fixture(scope="module")
def scored(tmp_path_factory, model_folder):
    """A FASTA and the scored variants of two regions of it."""
    folder = tmp_path_factory.mktemp("scored")
    fasta = write_fasta(folder / "g.fa", {"a": "AACGTTTGCANNACCGT", "b": "TTT", HLA: "GGGATACCAT"})
    regions = [Region("a", 0, 17), Region(HLA, 1, 6), Region(HLA, 8, 10)]
    score_vcf(Saturation(regions), fasta, model_folder, str(folder / "out.vcf.gz"), window=16, threads=1)
    return folder, regions


def test_all_variants_have_scores(scored):
    folder, _ = scored
    found = read_scores(folder / "out.vcf.gz")
    assert {status for record in found for status in record.status} == {"ok"}
    assert {record.place[0] for record in found} == {"a", HLA}
    assert (folder / "out.vcf.gz.tbi").is_file()


def test_tracks_hold_the_scores_of_the_vcf(scored):
    folder, _ = scored
    write_tracks(folder / "out.vcf.gz", folder / "track")
    letters = {"a": "AACGTTTGCANNACCGT", HLA: "GGGATACCAT"}
    expected = {
        (track, name): np.full(len(text), np.nan) for track in TRACKS for name, text in letters.items()
    }
    for record in read_scores(folder / "out.vcf.gz"):
        name, pos, ref, alts = record.place
        if len(ref) == 1:
            for alt, llr in zip(alts, record.llr, strict=True):
                expected[alt, name][pos - 1] = llr
            expected["mean", name][pos - 1] = sum(record.llr) / 3
            expected["min", name][pos - 1] = min(record.llr)
        else:
            shorter = edited(letters[name], pos, ref, alts[0])
            for i in range(len(letters[name])):
                inside = name == "a" or 1 <= i < 6 or 8 <= i < 10
                if inside and letters[name][:i] + letters[name][i + 1 :] == shorter:
                    expected["deletion", name][i] = record.llr[0]
    assert sum(np.isfinite(values).sum() for values in expected.values()) == 22 * 6 - 1
    for track in TRACKS:
        with pyBigWig.open(str(folder / f"track.{track}.bw")) as file:
            assert file.chroms() == {name: len(text) for name, text in letters.items()}
            for name, text in letters.items():
                found = file.values(name, 0, len(text), numpy=True)
                np.testing.assert_allclose(found, expected[track, name], rtol=1e-6, err_msg=f"{track} {name}")


def test_tracks_are_the_same_bytes_each_time(scored):
    folder, _ = scored
    for prefix in ("one", "two"):
        write_tracks(folder / "out.vcf.gz", folder / prefix)
    for track in TRACKS:
        assert (folder / f"one.{track}.bw").read_bytes() == (folder / f"two.{track}.bw").read_bytes()


def test_a_track_without_a_value_is_whole(tmp_path, model_folder):
    fasta = write_fasta(tmp_path / "g.fa", {"a": "NNNNAANN"})
    score_vcf(
        Saturation([Region("a", 4, 6)]), fasta, model_folder, str(tmp_path / "o.vcf"), window=8, threads=1
    )
    write_tracks(tmp_path / "o.vcf", tmp_path / "t")
    with pyBigWig.open(str(tmp_path / "t.A.bw")) as file:
        assert all(math.isnan(value) for value in file.values("a", 0, 8))


def test_tracks_that_cannot_be_written(scored, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_tracks(scored[0] / "out.vcf.gz", tmp_path / "file" / "track")


def test_a_long_region_takes_little_memory(tmp_path):
    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACGTTGCA" * 10_000})
    with Reference(fasta) as reference:
        tracemalloc.start()
        count = sum(1 for _ in Saturation([Region("c", 0, 80_000)]).open(reference))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 80_000 + 6 * 10_000 + 1  # six runs of letters a repeat, and the first letter
    assert peak < 4e6


def command(*words) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(cli.app, ["score", *map(str, words)])


def test_the_command_line_writes_all_files(tmp_path, model_folder):
    fasta = write_fasta(tmp_path / "g.fa", {HLA: "ACGTTGCAATCGGATC", "c": "AAACCC"})
    options = ["-r", fasta, "-m", model_folder, "-o", tmp_path / "o.vcf.gz", "--window", 8, "--threads", 1]
    result = command("--region", f"{HLA}:3-6", "--region", "c", *options, "--logo", tmp_path / "l.svg")
    assert result.exit_code == 0, result.output
    assert {(record.place[0], record.place[1]) for record in read_scores(tmp_path / "o.vcf.gz")} == {
        *((HLA, pos) for pos in range(2, 7)),
        *(("c", pos) for pos in range(1, 7)),
    }
    assert {path.name for path in tmp_path.glob("l.*")} == {"l.svg", "l.tsv"}
    (tmp_path / "r.bed").write_text("c\t0\t6\n")
    assert command("--bed", tmp_path / "r.bed", *options, "--bigwig", tmp_path / "t").exit_code == 0
    assert len(list(tmp_path.glob("t.*.bw"))) == len(TRACKS)


def test_options_that_do_not_go_together(tmp_path, model_folder):
    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACGTTGCAATCGGATC" * 50})
    options = ["-r", fasta, "-m", model_folder, "-o", tmp_path / "o.vcf"]
    for words, sentence in [
        ([], "give either a VCF, or --region or --bed"),
        (["in.vcf", "--region", "c"], "give either a VCF, or --region or --bed"),
        (["in.vcf", "--bigwig", "x"], "--bigwig and --logo show whole regions"),
        (["--region", "c", "-o", "-", "--logo", "x.svg"], "give -o a file"),
        (["--region", "c", "--contig-aliases", "x"], "--contig-aliases is for a VCF"),
        (["--region", "c", "--logo", "x.svg"], "a logo of 800 bases cannot be read"),
        (["--region", "c:1-9", "--logo", "/proc/x.svg"], "/proc/x.svg: cannot be written"),
        (["--region", "c", "--bigwig", "/proc/x"], "/proc/x.A.bw: cannot be written"),
        (["--region", "d"], "is neither CONTIG:START-END"),
    ]:
        result = command(*options, *words)
        assert isinstance(result.exception, InputError), (words, result.output)
        assert sentence in str(result.exception)
    assert not (tmp_path / "o.vcf").exists()
