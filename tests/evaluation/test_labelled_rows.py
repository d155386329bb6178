"""Labels as they stand in files, and what kind of labels they are."""

import gzip
import json

import numpy as np
import pytest
from labelled_files import write_csv

from genotok.errors import InputError
from genotok.evaluation.labelled_rows import column_names, read_labelled_rows, stream_fasta

FASTA = ">tRNA first\r\nACGTAC\r\nGT\r\n>miRNA\r\nGGGTTT\r\n\r\n>tRNA\r\nacgtnn\r\n>miRNA x=1\r\nCC"


@pytest.mark.parametrize("ending", ["fa", "fasta.gz"])
def test_headers_of_fasta_may_come_again(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(gzip.compress(FASTA.encode()) if ending.endswith("gz") else FASTA.encode())
    rows = read_labelled_rows(path, ["name"])
    assert rows.sequences == ["ACGTACGT", "GGGTTT", "ACGTNN", "CC"]
    assert rows.head.classes == ["miRNA", "tRNA"]
    assert rows.labels.tolist() == [1, 0, 1, 0]
    assert [header for _, header, _ in stream_fasta(path)] == ["tRNA first", "miRNA", "tRNA", "miRNA x=1"]


def test_headers_are_found_wherever_the_text_is_cut(tmp_path):
    """More text than one block holds, with a `>` inside headers."""
    records = [(f"c{k % 3} a>b", "ACGT" * (k % 50 + 1)) for k in range(3000)]
    (tmp_path / "x.fa").write_text("".join(f">{name}\n{letters}\n" for name, letters in records))
    found = [(header, letters) for _, header, letters in stream_fasta(tmp_path / "x.fa")]
    assert found == records


@pytest.mark.parametrize(
    ("cells", "kind", "classes"),
    [
        (["1.0", "0.0", "1", "0"], "classification", None),
        (["yes", "no", "yes", "no"], "classification", ["no", "yes"]),
        (["-1", "1", "-1", "1"], "classification", ["-1", "1"]),
        (["10", "9", "10", "9"], "classification", ["9", "10"]),
        (["0.5", "1", "2", "3"], "regression", None),
    ],
)
def test_the_kind_is_told_from_the_labels(tmp_path, cells, kind, classes):
    rows = read_labelled_rows(write_csv(tmp_path / "t.csv", [("ACGT", cell) for cell in cells]), ["label"])
    assert (rows.head.kind, rows.head.classes) == (kind, classes)
    if kind == "classification":
        names = classes or ["0", "1"]
        assert [float(names[k]) if classes != ["no", "yes"] else names[k] for k in rows.labels] == [
            float(cell) if classes != ["no", "yes"] else cell for cell in cells
        ]
    else:
        assert rows.labels[:, 0].tolist() == [0.5, 1, 2, 3]


def test_many_whole_numbers_are_no_classes(tmp_path):
    path = write_csv(tmp_path / "t.csv", [("ACGT", k) for k in range(40)])
    assert read_labelled_rows(path, ["label"]).head.kind == "regression"


def test_several_columns_are_answers(tmp_path):
    rows = [("ACGT", k % 2, int(k < 2)) for k in range(5)]
    path = write_csv(tmp_path / "t.csv", rows, ("sequence", "a", "b"))
    found = read_labelled_rows(path, ["a", "b"])
    assert (found.head.kind, found.head.outputs) == ("multi_label", 2)
    assert found.labels.tolist() == [[a, b] for _, a, b in rows]


def test_unknown_labels_are_left_out_and_counted(tmp_path):
    cells = ["x", "", "y", "NA", "x", "nan", "y"]
    path = write_csv(tmp_path / "t.csv", [("ACGT" + "A" * k, cell) for k, cell in enumerate(cells)])
    rows = read_labelled_rows(path, ["label"])
    assert [len(letters) - 4 for letters in rows.sequences] == [0, 2, 4, 6]
    assert rows.unlabelled == 3


def test_json_and_its_columns(tmp_path):
    lines = [{"id": k, "seq": "ACGT", "y": k % 2 == 0} for k in range(4)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert column_names(tmp_path / "t.jsonl") == ["id", "seq", "y"]
    assert read_labelled_rows(tmp_path / "t.jsonl", ["y"], "seq").labels.tolist() == [1, 0, 1, 0]


def test_a_test_table_has_the_classes_of_the_training_table(tmp_path):
    train = read_labelled_rows(write_csv(tmp_path / "a.csv", [("A", x) for x in "xyxy"]), ["label"])
    test = write_csv(tmp_path / "b.csv", [("A", x) for x in "yyy"])
    rows = read_labelled_rows(test, ["label"], like=train.head)
    assert rows.labels.tolist() == [1, 1, 1]
    with pytest.raises(
        InputError, match=r"b\.csv: line 3: column 'label': 'z' is no class of the training table: x, y"
    ):
        read_labelled_rows(
            write_csv(tmp_path / "b.csv", [("A", x) for x in "yzy"]), ["label"], like=train.head
        )


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        ([("ACGT", "x"), ("ACGA", "x")], {}, "column 'label' holds one class alone, 'x'"),
        ([("ACGT", 2.5), ("ACGA", 2.5)], {}, "column 'label' holds 2.5 alone"),
        ([("ACGT", ""), ("ACGA", "NA")], {}, "column 'label' holds no label"),
        ([("ACGT", f"id{k}") for k in range(6)], {}, "holds 6 classes in 6 rows"),
        ([("ACGT", 1), ("ACGA", 0)], {"columns": ["y"]}, "no column 'y'; there are sequence, label"),
        ([("ACGT", 1), ("ACGA", 0)], {"sequence": "seq"}, "no column 'seq'"),
        (
            [("ACGT", 1), ("ACGA", 1.5)],
            {"kind": "classification"},
            "line 3: column 'label': '1.5' is no class",
        ),
        (
            [("ACGT", 1), ("ACGA", 2)],
            {"kind": "multi_label"},
            "line 3: column 'label': '2' is neither 0 nor 1",
        ),
        ([("ACGT", 1), ("ACGA", "x")], {"kind": "regression"}, "line 3: column 'label': 'x' is no number"),
        ([("ACGT", 1), ("ACGU", 0)], {}, "line 2 has T and line 3 has U"),
        ([("ACGT", 1), ("MKVL", 0)], {}, "line 3: column 'sequence': 'L' is no nucleotide letter"),
        ([], {}, "holds no rows"),
        ([("ACGT", 1), ("ACGA", 0)], {"kind": "ranking"}, "--kind: 'ranking' should be auto, classification"),
    ],
)
def test_bad_tables(tmp_path, rows, settings, sentence):
    path = write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(InputError) as caught:
        read_labelled_rows(path, settings.pop("columns", ["label"]), **settings)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        (">a\nACGT\n>b\nACGU\n", "record 1 has T and record 2 has U"),
        (">a\n>b\nACGT\n", "record 1 holds no sequence"),
        (">a\nACGT\n>b\nAC!T\n", "'!' is no nucleotide letter"),
        (">a\nACGT\n>a\nACGT\n", "holds one class alone"),
    ],
)
def test_bad_fasta(tmp_path, text, sentence):
    (tmp_path / "x.fa").write_text(text)
    with pytest.raises(InputError, match=r"x\.fa: ") as caught:
        read_labelled_rows(tmp_path / "x.fa", ["name"])
    assert sentence in str(caught.value)


def test_fasta_has_no_other_columns(tmp_path):
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    with pytest.raises(InputError, match="no column 'label'; FASTA has name and description"):
        read_labelled_rows(tmp_path / "x.fa", ["label"])


def test_labels_are_of_the_types_of_heads(tmp_path):
    path = write_csv(tmp_path / "t.csv", [("ACGT", k) for k in (0, 1, 2)] * 2)
    assert read_labelled_rows(path, ["label"]).labels.dtype == np.int64
    assert read_labelled_rows(path, ["label"], kind="regression").labels.dtype == np.float32
