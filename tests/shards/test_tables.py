"""Tables as people keep them, and what is said about those that cannot be read."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genotok.errors import InputError
from genotok.shards.tables import read_table

ROWS = [("acgtN", "1", "x"), ("TTTT", "0", "y"), ("ACGU" * 50_000, "", "z")]


def write_csv(path, rows=ROWS, header=("seq", "label", "note"), delimiter=","):
    path.write_text("\n".join(delimiter.join(row) for row in [header, *rows]) + "\n")
    return path


def write_jsonl(path):
    rows = [dict(zip(("seq", "label", "note"), row, strict=True)) for row in ROWS]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def write_parquet(path):
    columns = zip(*ROWS, strict=True)
    named = dict(zip(("seq", "label", "note"), map(list, columns), strict=True))
    pq.write_table(pa.table(named), path, row_group_size=2)
    return path


def write_gzip(path):
    with gzip.open(path, "wt") as handle:
        handle.write(write_csv(path.with_suffix("")).read_text())
    return path


@pytest.mark.parametrize(
    ("name", "write", "place"),
    [
        ("t.csv", write_csv, "line 4"),
        ("t.tsv", lambda path: write_csv(path, delimiter="\t"), "line 4"),
        ("t.csv.gz", write_gzip, "line 4"),
        ("t.jsonl", write_jsonl, "line 3"),
        ("t.parquet", write_parquet, "row 3"),
    ],
)
def test_every_kind_gives_the_same(name, write, place, tmp_path):
    """Also sequences longer than the csv module takes by itself."""
    rows = read_table(write(tmp_path / name), "seq", ["label"])
    assert rows.sequences == [sequence.upper() for sequence, _, _ in ROWS]
    assert rows.values == {"label": ["1", "0", ""]}
    assert rows.places[-1] == place
    assert len(rows) == 3


def test_quotes_lines_and_byte_order_mark(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffseq,"la\nbel"\r\n"ACGT","a, b"\r\n\r\nCC,"c\nd"\r\n'.encode())
    rows = read_table(path, "seq", ["la\nbel"])
    assert rows.sequences == ["ACGT", "CC"]
    assert rows.values["la\nbel"] == ["a, b", "c\nd"]
    assert rows.places == ["line 3", "line 6"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("t.csv", "", "no column 'seq'; there are none"),
        ("t.csv", "seq,label\n", "holds no rows"),
        ("t.csv", "sequence,label\nACGT,1\n", "no column 'seq'; there are sequence, label"),
        ("t.csv", "seq,label,seq\nACGT,1,A\n", "several columns 'seq'"),
        ("t.csv", "seq,label\nACGT,1\nACGT\n", "line 3 has 1 columns, and the first line 2"),
        ("t.csv", "seq,label\nACGT,1\nACXT,1\n", "line 3: column 'seq': 'X' is no nucleotide letter"),
        ("t.csv", "seq,label\n ,1\n", "line 2: column 'seq': holds no sequence"),
        ("t.csv", 'seq,label\n"ACGT,1\n', "cannot be read as a table: unexpected end of data"),
        ("t.tsv", "seq,label\nACGT,1\n", "no column 'seq'; there are seq,label"),
        ("t.jsonl", '{"seq": "A", "label": 1}\n{"seq": \n', "line 2 is not JSON"),
        ("t.jsonl", '["A", 1]\n', "line 1 should be a JSON object"),
        ("t.jsonl", '{"seq": "A"}\n', "line 1 has no key 'label'; there are seq"),
        ("t.jsonl", '{"seq": 7, "label": 1}\n', "line 1: column 'seq': holds no sequence"),
        ("t.parquet", "no parquet", "cannot be read as a table"),
        ("t.csv.gz", "no gzip", "no column 'seq'; there are no gzip"),
        ("t.xlsx", "", "its name should end in .csv, .tsv, .jsonl"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(name, text, sentence, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_table(path, "seq", ["label"])
    assert str(error.value).startswith(f"{path}: {sentence}")


def test_an_absent_table(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv: cannot be read: No such file"):
        read_table(tmp_path / "nowhere.csv", "seq", [])
