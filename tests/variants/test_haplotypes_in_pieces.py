"""Haplotypes do not end where a VCF was cut."""

import random
from pathlib import Path

import pyarrow.parquet as pq
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import write_fasta, write_vcf

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.variants.haplotypes import Phaser
from genotok.variants.judge import Judge
from genotok.variants.pieces import gather_vcfs, split_vcf
from genotok.variants.score import score_vcf
from genotok.variants.table import gather_tables
from genotok.variants.vcf_input import open_vcf

SAMPLE = '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tme\n"
WINDOW = 8
GENOTYPES = ["0|1", "1|0", "1|1", "0/1", "0|0", "./."]


def write_phased(path: Path, lines: list[str]) -> Path:
    path.write_text(f"##fileformat=VCFv4.2\n{SAMPLE}{COLUMNS}{''.join(line + chr(10) for line in lines)}")
    return path


@st.composite
def phased_lines(draw):
    """Contigs and sorted records on them: letters, indels, some long, and spans by END."""
    contigs = {name: draw(st.text("ACGT", min_size=30, max_size=160)) for name in "cd"}
    lines = []
    for name, letters in contigs.items():
        for place in sorted(draw(st.lists(st.integers(0, len(letters) - 2), max_size=12))):
            kind, more = draw(st.sampled_from("sddx")), draw(st.integers(1, 40))
            ref = letters[place : place + 1 + more * (kind == "d")]
            alt = {"s": "ACGT".replace(ref[0], "")[more % 3], "i": ref[0] + "GT", "d": ref[0], "x": "<DEL>"}[
                kind
            ]
            info = f"END={place + 1 + more}" if kind == "x" else "."
            genotype = draw(st.sampled_from(GENOTYPES))
            lines.append(f"{name}\t{place + 1}\t.\t{ref}\t{alt}\t.\t.\t{info}\tGT\t{genotype}")
    return contigs, lines


def judged(vcf: Path, fasta: Path) -> list:
    """Each own record's line, its neighbours, and what is scored of it on haplotypes."""
    with Reference(fasta) as reference, open_vcf(vcf) as source:
        judge = Judge(reference, WINDOW, True, "skip", {})
        phaser = Phaser(judge, "me", 1)
        return [
            (
                record.line,
                tuple(record.neighbours),
                phaser.judge_alleles(record, [verdict.status for verdict in judge.judge(record)]),
            )
            for record in source.own(phaser.phased(source.with_context()))
        ]


@given(phased_lines(), st.integers(2, 5), st.integers(1, 4))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_windows_do_not_depend_on_the_pieces(tmp_path_factory, drawn, number, block):
    contigs, lines = drawn
    folder = tmp_path_factory.mktemp("pieces")
    fasta = write_fasta(folder / "g.fa", contigs)
    vcf = write_phased(folder / "in.vcf", lines)
    pieces = [folder / f"{i}.vcf" for i in range(number)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genotok.variants.pieces.BLOCK_RECORDS", block)
        patch.setattr("genotok.variants.pieces._PORTION", 1)
        split_vcf(vcf, pieces, 2 * WINDOW)
    assert [found for piece in pieces for found in judged(piece, fasta)] == judged(vcf, fasta)
    gather_vcfs(pieces, folder / "gathered.vcf")
    assert (folder / "gathered.vcf").read_bytes() == vcf.read_bytes()


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory) -> tuple[Path, Path]:
    """600 variants, each within the windows of others, on two contigs; the FASTA and the VCF."""
    folder = tmp_path_factory.mktemp("neighbours")
    drawn = random.Random(1)
    contigs = {name: "".join(drawn.choices("ACGT", k=1600)) for name in "cd"}
    lines = []
    for name, letters in contigs.items():
        for place in range(20, 1520, 5):
            ref, genotype = letters[place : place + 1 + (place % 7 == 0)], GENOTYPES[place // 5 % 5]
            alt = "ACGT".replace(ref[0], "")[place % 3]
            lines.append(f"{name}\t{place + 1}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t{genotype}")
    return write_fasta(folder / "g.fa", contigs), write_phased(folder / "in.vcf", lines)


OPTIONS = {"window": 16, "threads": 1, "haplotypes": "me", "fields": ("boundaries",)}


def test_bytes_do_not_depend_on_the_pieces(tmp_path, neighbours, model_folder):
    fasta, vcf = neighbours
    score_vcf(
        str(vcf),
        fasta,
        model_folder,
        str(tmp_path / "whole.vcf.gz"),
        parquet=tmp_path / "whole.parquet",
        **OPTIONS,
    )
    pieces = [tmp_path / f"{i}.vcf.gz" for i in range(3)]
    assert split_vcf(vcf, pieces, 32) == [256, 256, 88]
    for i, piece in enumerate(pieces):
        output, table = str(tmp_path / f"{i}.scored.vcf.gz"), tmp_path / f"{i}.parquet"
        score_vcf(str(piece), fasta, model_folder, output, parquet=table, workers=i % 2, **OPTIONS)
    gather_vcfs([tmp_path / f"{i}.scored.vcf.gz" for i in range(3)], tmp_path / "gathered.vcf.gz")
    gather_tables([tmp_path / f"{i}.parquet" for i in range(3)], tmp_path / "gathered.parquet")
    for name in ("vcf.gz", "vcf.gz.tbi", "parquet"):
        assert (tmp_path / f"gathered.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
    check_table(tmp_path / "gathered.parquet", tmp_path / "gathered.vcf.gz")


def check_table(table: Path, vcf: Path) -> None:
    """The haplotype columns are what the VCF says."""
    rows = pq.read_table(table)
    assert rows.column_names[-3:] == ["llr_h1", "llr_h2", "haplotype_status"]
    names = ("GENOTOK_LLR_H1", "GENOTOK_LLR_H2", "GENOTOK_HAPLOTYPE_STATUS")
    with pysam.VariantFile(str(vcf)) as records:
        expected = [tuple(record.info[name][0] for name in names) for record in records]
    found = list(zip(*(rows[name].to_pylist() for name in rows.column_names[-3:]), strict=True))
    assert found == expected
    assert {status for _, _, status in found} == {"ok", "not_carried", "unphased", "unphased_neighbour"}


def test_without_its_surroundings_a_piece_is_scored_in_no_other_way_than_plainly(
    tmp_path, neighbours, model_folder
):
    fasta, vcf = neighbours
    pieces = [tmp_path / f"{i}.vcf" for i in range(2)]
    split_vcf(vcf, pieces, 31)
    with pytest.raises(
        InputError, match=r"0.vcf: is a piece that holds records of 31 letters .* --context 32"
    ):
        score_vcf(str(pieces[0]), fasta, model_folder, str(tmp_path / "out.vcf"), **OPTIONS)
    split_vcf(vcf, pieces)
    with pytest.raises(InputError, match=r"1.vcf: is a piece that holds records of 0 letters"):
        score_vcf(str(pieces[1]), fasta, model_folder, str(tmp_path / "out.vcf"), **OPTIONS)
    plain = OPTIONS | {"haplotypes": None}
    seen = []
    for context in (0, 100):
        split_vcf(vcf, pieces, context)
        score_vcf(str(pieces[1]), fasta, model_folder, str(tmp_path / "out.vcf"), **plain)
        seen.append((tmp_path / "out.vcf").read_bytes())
    assert seen[0] == seen[1]
    assert seen[0].count(b"\nc") + seen[0].count(b"\nd") == 344
    assert b"genotok_piece" not in seen[0]


def test_what_is_no_piece_and_cannot_be_one(tmp_path, neighbours, model_folder):
    fasta, _ = neighbours
    for records in ([("c", 5, "A", "C"), ("c", 3, "A", "C")], [("c", 5, "A", "C"), ("d", 3, "A", "C")] * 2):
        vcf = write_vcf(tmp_path / "in.vcf", records)
        with pytest.raises(InputError, match=r"in.vcf: c:\d: is not sorted; sort the VCF to split it"):
            split_vcf(vcf, [tmp_path / "a.vcf"], 10)
        assert split_vcf(vcf, [tmp_path / "a.vcf"]) == [len(records)]
    vcf = write_vcf(tmp_path / "in.vcf", [], "##genotok_piece=half\n")
    with pytest.raises(InputError, match="'##genotok_piece=half' is not as `genotok vcf split` writes it"):
        score_vcf(str(vcf), fasta, model_folder, str(tmp_path / "out.vcf"), threads=1)
