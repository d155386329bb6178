"""Areas under the curves, their intervals, and the scores that need no model."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from genotok.errors import InputError
from genotok.evaluation.consequences import Annotation
from genotok.evaluation.trivial_scores import annotate, sequence_scores
from genotok.evaluation.variant_labels import areas_with_intervals, evaluate_labels
from genotok.genomes.fasta import Reference, write_fasta


def labelled(size=300, seed=0):
    """Scores with ties, labels of which a fifth are positive, and three contigs, of which `c` has no positive."""
    rng = np.random.default_rng(seed)
    chrom = rng.choice(["a", "b", "c"], size, p=[0.5, 0.3, 0.2])
    positive = (rng.random(size) < 0.2) & (chrom != "c")
    return np.round(rng.normal(size=size) + positive, 1), positive, chrom


def weighted(scores, positive, chrom):
    """TraitGym's AUPRC_by_chrom_weighted_average, written out."""
    table = pd.DataFrame({"s": scores, "p": positive, "c": chrom})
    rows = [
        (len(part), average_precision_score(part.p, part.s)) for _, part in table.groupby("c") if part.p.any()
    ]
    return sum(n * area for n, area in rows) / sum(n for n, _ in rows)


def test_areas_are_scikit_learns():
    scores, positive, chrom = labelled()
    found = areas_with_intervals(scores, positive, chrom, resamples=20)
    assert found["auroc"] == pytest.approx(roc_auc_score(positive, scores))
    assert found["auprc"] == pytest.approx(average_precision_score(positive, scores))
    assert found["auprc_by_chrom"] == pytest.approx(weighted(scores, positive, chrom))
    assert (found["n"], found["n_missing"], found["positives"]) == (300, 0, positive.sum())


def test_intervals_are_those_of_resamples_within_strata():
    """Drawn anew with scikit-learn's areas for each, and other random numbers."""
    scores, positive, chrom = labelled()
    found = areas_with_intervals(scores, positive, chrom, resamples=2000, confidence=0.9)
    rng, drawn = np.random.default_rng(7), {"auroc": [], "auprc": [], "auprc_by_chrom": []}
    by_label = [np.flatnonzero(positive == value) for value in (True, False)]
    by_contig = [
        np.flatnonzero((positive == value) & (chrom == name)) for value in (True, False) for name in "abc"
    ]
    for _ in range(200):
        rows = np.concatenate([rng.choice(places, len(places)) for places in by_label])
        drawn["auroc"].append(roc_auc_score(positive[rows], scores[rows]))
        drawn["auprc"].append(average_precision_score(positive[rows], scores[rows]))
        rows = np.concatenate([rng.choice(places, len(places)) for places in by_contig if len(places)])
        drawn["auprc_by_chrom"].append(weighted(scores[rows], positive[rows], chrom[rows]))
    for name, values in drawn.items():
        low, high = np.quantile(values, [0.05, 0.95])
        assert found[f"{name}_low"] == pytest.approx(low, abs=0.03)
        assert found[f"{name}_high"] == pytest.approx(high, abs=0.03)


def test_perfect_and_reversed_scores_have_no_spread():
    positive = np.array([1, 1, 0, 0, 0, 0], bool)
    found = areas_with_intervals([6, 5, 4, 3, 2, np.inf - np.inf], positive, list("ababab"), resamples=50)
    assert found["n_missing"] == 1
    for name in ("auroc", "auprc", "auprc_by_chrom"):
        assert (found[name], found[f"{name}_low"], found[f"{name}_high"]) == (1, 1, 1)
    backwards = areas_with_intervals([1, 2, 3, 4, 5, np.inf], positive, ["a"] * 6, resamples=50)
    assert (backwards["auroc"], backwards["auroc_high"]) == (0, 0)


@pytest.mark.parametrize("positive", [[True] * 4, [False] * 4])
def test_one_label_alone_has_no_area(positive):
    found = areas_with_intervals([1, 2, 3, 4], positive, ["a"] * 4)
    assert found["auroc"] is found["auprc_low"] is found["auprc_by_chrom_high"] is None
    json.dumps(found, allow_nan=False)


def table():
    rng = np.random.default_rng(1)
    scores, positive, chrom = labelled(120)
    rows = pd.DataFrame({"chrom": chrom, "ref": rng.choice(list("AC"), 120), "alt": "G", "llr": -scores})
    rows["positive"] = pd.Series(positive.astype(object))
    rows["consequence"] = np.where(positive, "missense", rng.choice(["missense", "intron"], 120))
    return rows.assign(low_gc=rng.normal(size=120), splice_distance=np.inf)


def test_table_is_evaluated_beside_the_trivial_scores():
    rows = table()
    rows.loc[0, "llr"] = np.nan
    rows.loc[1:3, "positive"] = None
    found = evaluate_labels(rows, ["low_gc", "splice_distance"], resamples=20)
    json.dumps(found, allow_nan=False)
    judged = rows[4:]
    assert (found["n"], found["n_missing"], found["positives"]) == (116, 4, judged["positive"].sum())
    always = ["model", "model_absolute", "transition", "low_gc", "splice_distance"]
    assert list(found["predictors"]) == [*always, "consequence", "consequence_then_transition"]
    areas = {name: values["auroc"] for name, values in found["predictors"].items()}
    positive = judged["positive"].astype(bool)
    assert areas["model"] == pytest.approx(roc_auc_score(positive, -judged["llr"]))
    assert areas["model_absolute"] == pytest.approx(roc_auc_score(positive, judged["llr"].abs()))
    assert areas["transition"] == pytest.approx(roc_auc_score(positive, judged["ref"] == "C"))
    assert areas["low_gc"] == pytest.approx(roc_auc_score(positive, -judged["low_gc"]))
    assert areas["splice_distance"] == 0.5
    assert areas["consequence"] == pytest.approx(roc_auc_score(positive, judged["consequence"] == "missense"))
    assert {name: list(values) for name, values in found["per_consequence"].items()} == {
        "intron": always,
        "missense": always,
    }
    assert found["per_consequence"]["intron"]["model"]["auroc"] is None
    missense = judged[judged["consequence"] == "missense"]
    assert found["per_consequence"]["missense"]["model"]["auprc"] == pytest.approx(
        average_precision_score(missense["positive"].astype(bool), -missense["llr"])
    )
    with pytest.raises(InputError, match="no column 'positive'"):
        evaluate_labels(rows.drop(columns="positive"))


def write_reference(folder, letters):
    write_fasta([("c", [letters.encode()])], folder / "g.fa")
    return Reference(folder / "g.fa")


def test_gc_and_mutability(tmp_path):
    """ACG stands on both strands (as CGT); its C becomes T far oftener than for other contexts."""
    letters = ("A" * 200) + "ACGT" * 50 + ("T" * 200)
    reference = write_reference(tmp_path, letters)
    rows = [("c", 202 + 4 * i, "C", "T") for i in range(50)]  # ACG > ATG
    rows += [("chrc", 203 + 4 * i, "G", "A") for i in range(50)]  # CGT > CAT, the same change
    rows += [("c", 100 + i, "A", "G") for i in range(50)]  # AAA > AGA, folded TTT > TCT
    rows += [("c", 420 + i, "T", "C") for i in range(50)]
    rows += [("c", 60, "AA", "A"), ("c", 61, "G", "A"), ("c", 1, "A", "C"), ("x", 5, "A", "C")]
    alleles = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt"], index=range(5, 209))
    found = sequence_scores(alleles, reference)
    assert list(found.index) == list(alleles.index)
    contexts = {}
    for _, pos, ref, _ in rows[:200]:
        text = letters[max(pos - 51, 0) : pos + 50 + len(ref) - 1]
        for context in ("ACG", "CGT", "AAA", "TTT"):
            count = sum(text.startswith(context, at) for at in range(len(text)))
            contexts[context] = contexts.get(context, 0) + count
    expected = 100 / (contexts["ACG"] + contexts["CGT"]), 100 / (contexts["AAA"] + contexts["TTT"])
    assert found["mutability"][:100].tolist() == pytest.approx([expected[0]] * 100)
    assert found["mutability"][100:200].tolist() == pytest.approx([expected[1]] * 100)
    assert found["mutability"][200:].isna().all()
    text = letters[201 - 50 : 201 + 51]
    assert found["low_gc"].iloc[0] == pytest.approx(-(text.count("G") + text.count("C")) / 101)
    assert found["low_gc"].iloc[202] == 0
    assert np.isnan(found["low_gc"].iloc[203])
    assert sequence_scores(alleles[:199], reference)["mutability"].isna().all()


def test_annotated_alleles(tmp_path):
    reference = write_reference(tmp_path, "ATGTGGTAA" + "C" * 30)
    (tmp_path / "g.gff").write_text("c\tx\tCDS\t1\t9\t.\t+\t0\tID=a\n")
    alleles = pd.DataFrame(
        [("c", 6, "G", "A"), ("c", 20, "C", "A"), ("c", 5, "G", "<DEL>")],
        columns=["chrom", "pos", "ref", "alt"],
    )
    found = annotate(alleles, Annotation(tmp_path / "g.gff", reference))
    assert found["consequence"].tolist() == ["nonsense", "intergenic", None]
    assert np.isinf(found["splice_distance"]).all()
