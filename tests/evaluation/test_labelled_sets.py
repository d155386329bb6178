"""The sets of labelled sequences that come along, as they are read."""

from pathlib import Path

import numpy as np
import pytest

from genotok.evaluation.duplicates import duplicate_groups
from genotok.evaluation.kmer_counts import kmer_frequencies
from genotok.evaluation.labelled_rows import read_labelled_rows
from genotok.evaluation.linear_probe import fit_and_predict
from genotok.evaluation.resampling import point_metrics
from genotok.evaluation.splits import hold_out

LABELLED = Path(__file__).resolve().parents[2] / "resources" / "labelled"


@pytest.mark.parametrize(
    ("name", "label", "sequence", "counts"),
    [
        ("ecoli_promoters.csv.gz", "labels", "seqs", [2860, 2860]),
        ("enhancers.csv.gz", "label", "sequence", [1484, 1484]),
    ],
)
def test_tables(name, label, sequence, counts):
    rows = read_labelled_rows(LABELLED / name, [label], sequence)
    assert rows.head.kind == "classification"
    assert np.bincount(rows.labels).tolist() == counts


def test_classes_of_rna_stand_in_headers():
    train = read_labelled_rows(LABELLED / "ncrna_train.fasta.gz", ["name"])
    test = read_labelled_rows(LABELLED / "ncrna_test.fasta.gz", ["name"], like=train.head)
    assert (len(train), len(test), train.head.outputs) == (6160, 2529, 13)
    assert np.bincount(train.labels)[train.head.classes.index("IRES")] == 312
    known = set(train.sequences)
    among = duplicate_groups(test.sequences, train.sequences)[1]
    assert among.tolist() == [letters in known for letters in test.sequences]
    assert among.sum() == 341


def test_promoters_are_told_by_their_words():
    """A class of the real data that three letters tell a little of, on rows that were held out."""
    rows = read_labelled_rows(LABELLED / "ecoli_promoters.csv.gz", ["labels"], "seqs")
    rows = rows.take(np.arange(0, len(rows), 4))
    groups, _ = duplicate_groups(rows.sequences)
    train, test = hold_out(rows, groups, 0.2, 0)
    words = {"3-mers": kmer_frequencies(rows.sequences, 3).toarray()}
    found = point_metrics(
        fit_and_predict(words, rows, groups, train, test, 0).predictions, rows.labels[test], rows.head
    )
    assert 0.6 < found["auroc"] < 0.98
