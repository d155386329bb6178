"""Pieces of a VCF, and what is made of them again."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pytest
from variant_files import DATA, read_scores, write_fasta, write_vcf

from genotok.errors import InputError
from genotok.variants import table as table_module
from genotok.variants.pieces import gather_vcfs, split_vcf
from genotok.variants.score import score_vcf
from genotok.variants.table import gather_tables

LETTERS = "".join("ACGT"[(5 * i * i + i // 3) % 4] for i in range(2300))


def records(number):
    """Records on two contigs that no header names."""
    return [
        ("cd"[pos > 100], pos, LETTERS[pos - 1], "ACGT".replace(LETTERS[pos - 1], "")[pos % 3])
        for pos in range(20, 20 + 3 * number, 3)
    ]


@pytest.mark.parametrize(
    ("number", "sizes"), [(750, [256, 256, 238]), (600, [256, 256, 88]), (2, [0, 0, 2]), (0, [0, 0, 0])]
)
def test_pieces_are_balanced_and_hold_everything_once(tmp_path, number, sizes):
    vcf = write_vcf(tmp_path / "in.vcf", records(number), "##x=1\n")
    pieces = [tmp_path / f"{i}.vcf.gz" for i in range(3)]
    assert split_vcf(vcf, pieces) == sizes
    header = vcf.read_bytes().splitlines(keepends=True)[:3]
    body = b""
    for piece, size in zip(pieces, sizes, strict=True):
        lines = gzip.decompress(piece.read_bytes()).splitlines(keepends=True)
        assert lines[:2] + lines[3:4] == header
        assert lines[2] == b"##genotok_piece=before 0, records %d, context 0\n" % size
        assert len(lines) == 4 + size
        body += b"".join(lines[4:])
    assert b"".join(header) + body == vcf.read_bytes()


def test_a_real_file_split_and_gathered_has_its_bytes(tmp_path):
    source = DATA / "haplogrep_example-wgs.vcf.gz"
    pieces = [tmp_path / f"{i}.vcf.gz" for i in range(5)]
    assert sum(split_vcf(source, pieces)) == 3892
    gather_vcfs(pieces, tmp_path / "out.vcf.gz")
    assert gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()) == gzip.decompress(source.read_bytes())
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as gathered:
        assert len(list(gathered.fetch("MT", 1000, 1100))) > 0


@pytest.mark.parametrize("batch_size", [None, 7])
def test_gathered_scores_are_those_of_the_whole(tmp_path, model_folder, batch_size):
    """To the last digit: scoring cuts blocks at the same records, whatever the number of pieces."""
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS, "d": LETTERS})
    vcf = write_vcf(
        tmp_path / "in.vcf", [*records(700), ("nowhere", 4, "A", "C,<DEL>"), ("nowhere", 5, "A", ".")]
    )
    options = {"window": 16, "threads": 1, "batch_size": batch_size}
    score_vcf(
        str(vcf), fasta, model_folder, str(tmp_path / "whole.vcf.gz"), parquet=tmp_path / "whole.parquet",
        command="gather", **options,
    )  # fmt: skip
    pieces = [tmp_path / f"{i}.vcf.gz" for i in range(4)]
    split_vcf(vcf, pieces)
    scored = [tmp_path / f"{i}.scored.vcf.gz" for i in range(4)]
    tables = [tmp_path / f"{i}.parquet" for i in range(4)]
    for piece, output, table in zip(pieces, scored, tables, strict=True):
        score_vcf(str(piece), fasta, model_folder, str(output), parquet=table, command=f"{piece}", **options)
    gather_vcfs(scored, tmp_path / "gathered.vcf.gz", command="gather")
    gather_tables(tables, tmp_path / "gathered.parquet")
    for name in ("vcf.gz", "vcf.gz.tbi", "parquet"):
        assert (tmp_path / f"gathered.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
    assert len(read_scores(tmp_path / "gathered.vcf.gz")) == 702


def test_row_groups_do_not_depend_on_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "ROW_GROUP", 7)
    rows = [("c", i, "A", "C", None, i / 8, None, "ok") for i in range(30)]
    for name, size in (("whole", 30), ("single", 1), ("some", 11)):
        with table_module.open_table(tmp_path / name) as table:
            for begin in range(0, 30, size):
                table.write(rows[begin : begin + size])
    for cut in (0, 3, 14, 30):
        for name, part in (("left", rows[:cut]), ("right", rows[cut:])):
            with table_module.open_table(tmp_path / name) as table:
                table.write(part)
        gather_tables([tmp_path / "left", tmp_path / "right"], tmp_path / "gathered")
        assert (tmp_path / "gathered").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (
        (tmp_path / "single").read_bytes()
        == (tmp_path / "some").read_bytes()
        == (tmp_path / "whole").read_bytes()
    )
    file = pq.ParquetFile(tmp_path / "whole")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [7, 7, 7, 7, 2]
    assert file.read().to_pylist()[9]["llr_fwd"] == 9 / 8


def test_pieces_of_different_scoring_are_refused(tmp_path, model_folder):
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS, "d": LETTERS})
    vcf = write_vcf(tmp_path / "in.vcf", records(2))
    for window in (8, 16):
        score_vcf(str(vcf), fasta, model_folder, str(tmp_path / f"{window}.vcf"), window=window, threads=1)
    with pytest.raises(InputError, match=r"16.vcf: was not scored as \S*8.vcf was \(##genotok_window=16\)"):
        gather_vcfs([tmp_path / "8.vcf", tmp_path / "16.vcf"], tmp_path / "out.vcf")
    with pytest.raises(InputError, match=r"in.vcf: was not scored as"):
        gather_vcfs([tmp_path / "8.vcf", vcf], tmp_path / "out.vcf")
    assert not (tmp_path / "out.vcf").exists()


def test_bad_pieces(tmp_path):
    vcf = write_vcf(tmp_path / "in.vcf", records(2))
    with pytest.raises(InputError, match=r"in.vcf: cannot be read as Parquet"):
        gather_tables([vcf], tmp_path / "out.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other.parquet: its columns are not those of a table of scores"):
        gather_tables([tmp_path / "other.parquet"], tmp_path / "out.parquet")
    with pytest.raises(InputError, match="standard input cannot be split"):
        split_vcf("-", [tmp_path / "a.vcf"])
    with pytest.raises(InputError, match="name at least one piece"):
        split_vcf(vcf, [])
    with pytest.raises(InputError, match="name at least one piece"):
        gather_vcfs([], tmp_path / "out.vcf")
    assert not (tmp_path / "out.parquet").exists()


def test_no_piece_is_written_over(tmp_path):
    """It would be lost: the scored one, and the VCF that is split."""
    vcf = write_vcf(tmp_path / "in.vcf", records(2))
    before, link = vcf.read_bytes(), tmp_path / "link.vcf"
    link.symlink_to(vcf)
    for run in (
        lambda: split_vcf(vcf, [tmp_path / "a.vcf", link]),
        lambda: split_vcf(vcf, [tmp_path / "a.vcf", tmp_path / "a.vcf"]),
        lambda: gather_vcfs([link], vcf),
        lambda: gather_tables([link], vcf),
    ):
        with pytest.raises(InputError, match="is named twice among input and outputs"):
            run()
    assert vcf.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.vcf", "link.vcf"]
