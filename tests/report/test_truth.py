"""Labels and measured effects, of INFO fields and of tables, and the figures that show them."""

import gzip
import json

import pandas as pd
import pytest

from genotok.errors import InputError
from genotok.evaluation.variant_labels import evaluate_labels
from genotok.report.page import write_page
from genotok.report.score_sets import report_score_sets, score_sets, sets_table
from genotok.report.truth import Truth, alleles_with_truth, positives
from genotok.report.variants import label_areas, report_variants


@pytest.mark.parametrize(
    ("labels", "positive", "negative", "expected"),
    [
        ([1, 0, 1.0, "0", "True", False, "x", "", None, float("nan")], (), (), "+-+-+-????"),
        (["Pathogenic", "benign", "VUS", ".", None], ("pathogenic",), ("Benign",), "+-???"),
        (["A", "B", " a ", "", "."], ("a",), (), "+-+??"),
        (["A", "1", "B"], (), ("b",), "?+-"),
    ],
)
def test_labels(labels, positive, negative, expected):
    named = {True: "+", False: "-", None: "?"}
    assert "".join(named[value] for value in positives(labels, positive, negative)) == expected


def with_info(results, folder, declared, values):
    """The scored VCF with one more INFO field, whose values go round."""
    lines, number = [], 0
    for line in gzip.decompress(results.vcf.read_bytes()).decode().splitlines(keepends=True):
        if line.startswith("#CHROM"):
            lines.append(f'##INFO=<ID=L,{declared},Description="x">\n')
        elif not line.startswith("#"):
            columns = line.rstrip("\n").split("\t")
            columns[7] += values[number % len(values)]
            line, number = "\t".join(columns) + "\n", number + 1
        lines.append(line)
    path = folder / "labelled.vcf"
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(
    ("declared", "values", "expected"),
    [
        ("Number=0,Type=Flag", (";L", ""), [True, True, False, False]),
        ("Number=1,Type=Integer", (";L=1", ";L=0"), [True, True, False, False]),
        ("Number=.,Type=String", (";L=yes", ";L=no,other"), [True, True, False, False]),
        ("Number=A,Type=Integer", (";L=1,0", ";L=."), [True, False, None, None]),
    ],
)
def test_info_fields_of_any_kind(results, tmp_path, declared, values, expected):
    if "Number=A" in declared:  # the last two records have one allele each
        values = (*values * 20, ";L=1", ";L=1")
    vcf = with_info(results, tmp_path, declared, values)
    known = Truth(label="L", positive=("yes",) if "String" in declared else ())
    found, baselines = alleles_with_truth(results.parquet, vcf, known)
    assert found["positive"][:4].tolist() == expected
    assert baselines == []


def write_table(results, folder, **changed):
    table = pd.read_parquet(results.parquet)
    table = table[table["status"] == "ok"][["chrom", "pos", "ref", "alt"]].reset_index(drop=True)
    table["growth"] = [str(number % 7) if number % 5 else "." for number in table.index]
    table["sick"] = [str(number % 3 % 2) for number in table.index]
    for name, cell in changed.items():
        table.loc[3, name] = cell
    table = table.iloc[::-1]
    table.to_csv(folder / "known.tsv", sep="\t", index=False)
    return table


def test_a_table_is_joined_by_allele(results, tmp_path):
    table = write_table(results, tmp_path)
    known = Truth(truth="growth", label="sick", table=tmp_path / "known.tsv")
    found, _ = alleles_with_truth(results.parquet, tmp_path / "not needed.vcf", known)
    assert len(found) == 82
    scored = found[found["status"] == "ok"].reset_index(drop=True)
    for row, expected in zip(scored.itertuples(), table.iloc[::-1].itertuples(), strict=True):
        assert (row.pos, row.alt) == (expected.pos, expected.alt)
        assert str(row.truth) == ("nan" if expected.growth == "." else f"{expected.growth}.0")
        assert row.positive == (expected.sick == "1")
    table.to_parquet(tmp_path / "known.parquet")
    same, _ = alleles_with_truth(
        results.parquet, results.vcf, Truth(truth="growth", label="sick", table=tmp_path / "known.parquet")
    )
    pd.testing.assert_frame_equal(found, same)


@pytest.mark.parametrize(
    ("changed", "known", "sentence"),
    [
        ({}, {"truth": "g"}, "has no column 'g'; its columns are chrom, pos"),
        ({"growth": "high"}, {"truth": "growth"}, "pos and growth are to be numbers"),
        ({}, {"truth": "growth", "gff": "x.gff"}, "give --reference"),
    ],
)
def test_tables_that_do_not_fit(results, tmp_path, changed, known, sentence):
    write_table(results, tmp_path, **changed)
    with pytest.raises(InputError, match=sentence):
        alleles_with_truth(results.parquet, results.vcf, Truth(table=tmp_path / "known.tsv", **known))


def test_an_allele_twice_in_a_table(results, tmp_path):
    table = write_table(results, tmp_path)
    pd.concat([table, table[:1]]).to_csv(tmp_path / "known.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match=r"known\.tsv: c&1\$x\$:140 .* stands there twice"):
        alleles_with_truth(results.parquet, results.vcf, Truth(truth="growth", table=tmp_path / "known.tsv"))


def test_labels_in_the_report(results, tmp_path):
    """Classes of a GFF3, trivial scores, the figure, and the page with two sets."""
    write_table(results, tmp_path)
    (tmp_path / "g.gff3").write_text("c%261%24x%24\tx\tCDS\t101\t130\t.\t+\t0\tID=a\n")
    known = Truth(
        label="sick", table=tmp_path / "known.tsv", gff=tmp_path / "g.gff3", reference=results.fasta
    )
    report_variants(results.parquet, results.vcf, None, None, tmp_path / "one", known=known, resamples=20)
    report_variants(results.parquet, results.vcf, "FITNESS", None, tmp_path / "two", resamples=20)
    assert sorted(path.name for path in (tmp_path / "one").glob("l*")) == [
        "label_areas.svg",
        "label_areas.tsv",
        "llr_distribution.svg",
        "llr_distribution.tsv",
    ]
    summary = json.loads((tmp_path / "one" / "variant_effect.json").read_text())
    alleles, baselines = alleles_with_truth(results.parquet, results.vcf, known)
    assert baselines == ["low_gc", "splice_distance"]
    assert summary["labels"] == evaluate_labels(alleles, baselines, resamples=20)
    assert sum(part["model"]["n"] for part in summary["labels"]["per_consequence"].values()) == 80
    assert summary["labels"]["per_consequence"]["intergenic"]["model"]["n"] == 20
    report_score_sets([tmp_path / "one", tmp_path / "two"], tmp_path / "sets")
    write_page([tmp_path / "sets", tmp_path / "one", tmp_path / "two"], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    auroc = summary["labels"]["predictors"]["model"]["auroc"]
    assert f"AUROC for sick: this model {auroc:.3f}" in page
    assert "Sets of variants" in page
    assert page.count("data:image/svg+xml") == 6


def test_dots_and_marks():
    one = {"n": 40, "n_missing": 0, "positives": 10}
    one |= {
        f"{area}{end}": 0.6 for area in ("auroc", "auprc", "auprc_by_chrom") for end in ("", "_low", "_high")
    }
    empty = {"n": 4, "n_missing": 0, "positives": 0} | dict.fromkeys(list(one)[3:])
    labels = {"predictors": {"model": one}, "per_consequence": {"intron": {"model": empty}}}
    figure, table = label_areas(labels)
    assert table["positives"].tolist() == [10, 0]
    marks = [axes.lines[0].get_xdata().tolist() for axes in figure.axes]
    assert marks == [[0.5, 0.5], [0.25, 0]]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == ["0.600", "undefined"]


def test_the_best_trivial_score_stands_beside_the_model():
    def found(value):
        return {"n": 9, "spearman": value, "ci_low": -1.0, "ci_high": 1.0}

    predictors = {
        "model": found(0.1),
        "transition": found(0.2),
        "consequence": found(0.4),
        "low_gc": found(None),
    }
    summaries = {"a": {"statistics": {"predictors": predictors}}, "b": {"statistics": None}}
    table = sets_table(summaries)
    assert table[["set", "predictor", "value"]].to_numpy().tolist() == [
        ["a", "model", 0.1],
        ["a", "consequence", 0.4],
    ]
    assert len(score_sets(table).axes) == 1
    assert score_sets(table[:0]).texts[0].get_text().startswith("No set has")


def test_sets_without_a_report(tmp_path):
    with pytest.raises(InputError, match=r"holds no variant_effect\.json"):
        report_score_sets([tmp_path], tmp_path / "out")
