"""`genotok attribute` end to end: files, tracks and pages of real regions of SARS-CoV-2."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest
import torch
from matplotlib.text import Text

import genotok.cli
from genotok.errors import InputError
from genotok.genomes.fasta import Reference, write_fasta
from genotok.genomes.regions import Region
from genotok.interpret.attention_maps import AttentionMap
from genotok.interpret.attribution import Attribution, AttributionSettings, Attributor
from genotok.interpret.attribution_files import region_name
from genotok.models import GenomicLM, ModelConfig
from genotok.report import attribution as report_attribution
from genotok.report.attribution import write_attributions
from genotok.report.attribution_figures import attention_figure, changes_figure, contributions_figure

RESOURCES = Path(__file__).parents[2] / "resources" / "genomes"
CONTIG = "NC_045512.2"
METHODS = ["input_x_gradient", "mutagenesis", "attention"]
MODEL = {
    "layout": ["m1", ["T1"], "m1"],
    "d_model": [16, 16],
    "d_intermediate": [0, 32],
    "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 32},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model with drawn weights whose router finds chunks, and a copy of the genome."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "genome.fa.gz").write_bytes((RESOURCES / "sars_cov_2.fa.gz").read_bytes())
    torch.manual_seed(5)
    model = GenomicLM(ModelConfig.from_dict(MODEL))
    with torch.no_grad():
        model.backbone.chunker.query.weight.normal_(std=0.25)
    model.save_pretrained(folder / "model")
    (folder / "more.bed").write_text(f"{CONTIG}\t0\t12\n")
    return folder


@pytest.fixture(scope="module")
def written(work):
    write(work, work / "out")
    return work / "out"


def write(work, output, regions=(f"{CONTIG}:21,563-21,622",), **settings):
    about = AttributionSettings(METHODS, window=80, **settings)
    write_attributions(
        work / "model", work / "genome.fa.gz", output, about,
        regions=regions, bed=work / "more.bed", gff=RESOURCES / "sars_cov_2.gff3", device="cpu", threads=1,
    )  # fmt: skip


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files(written):
    of_region = {
        "attribution.html",
        "attribution.npz",
        "attention.npz",
        *(
            f"{name}.{ending}"
            for name in ("attribution", "attribution_changes", "chunks", "attention_maps")
            for ending in ("svg", "tsv")
        ),
    }
    regions = [f"{CONTIG}_1-12", f"{CONTIG}_21563-21622"]
    expected = {f"{region}/{name}" for region in regions for name in of_region}
    expected |= {"attributions.json", "input_x_gradient.bw", "mutagenesis.bw"}
    assert set(files_of(written)) == expected


def test_the_same_bytes_every_time(work, written):
    write(work, work / "again")
    assert files_of(work / "again") == files_of(written)


def test_tables_arrays_and_tracks_hold_what_the_methods_give(work, written):
    folder = written / f"{CONTIG}_21563-21622"
    table = pd.read_csv(folder / "attribution.tsv", sep="\t")
    with Reference(work / "genome.fa.gz") as reference:
        settings = AttributionSettings(METHODS, window=80, random_draws=0)
        found = Attributor(work / "model", reference, settings).attribute(Region(CONTIG, 21562, 21622))
        assert "".join(table.ref) == reference.fetch(CONTIG, 21562, 21622)
    assert table.position.tolist() == list(range(21563, 21623))
    arrays = np.load(folder / "attribution.npz", allow_pickle=False)
    assert (str(arrays["contig"]), int(arrays["start"]), int(arrays["end"])) == (CONTIG, 21562, 21622)
    assert arrays["methods"].tolist() == METHODS[:2]
    np.testing.assert_array_equal(arrays["contributions"], arrays["contributions_of_input_x_gradient"])
    changes = pd.read_csv(folder / "attribution_changes.tsv", sep="\t")[list("ACGT")].fillna(0)
    np.testing.assert_allclose(arrays["mutagenesis_delta"], changes, rtol=1e-4, atol=1e-6)
    for method in METHODS[:2]:
        per_base = (arrays[f"contributions_of_{method}"] * arrays["one_hot"]).sum(1)
        np.testing.assert_allclose(per_base, found.per_base(method), atol=1e-5)
        np.testing.assert_allclose(per_base, table[method], rtol=1e-4, atol=1e-6)
        with pyBigWig.open(str(written / f"{method}.bw")) as track:
            np.testing.assert_allclose(track.values(CONTIG, 21562, 21622), per_base, atol=1e-6)
            assert len(track.intervals(CONTIG)) == 72


def test_the_page_needs_nothing_else_and_says_how_to_read_it(written):
    page = (written / f"{CONTIG}_21563-21622" / "attribution.html").read_text()
    assert page.count('src="data:image/svg+xml;base64,') == page.count("src=") == 4
    assert not re.search(r'(href|src)="(?!#|data:)', page)
    for words in (
        f"{CONTIG}:21,563-21,622",
        "log-likelihood of the region",
        "letters above the line raise it",
        "dots mark the letters that stand there",
        "share of attention",
        "Random weights (Adebayo et al. 2018,",
        "Between 60 independent numbers chance gives less than 0.26 in 95 of 100 cases",
        "sha256:",
    ):
        assert words in page
    genes = pd.read_csv(written / f"{CONTIG}_21563-21622" / "chunks.tsv", sep="\t")
    assert set(genes.gene) == {"S"}
    assert "".join(genes.amino_acid[::3]) == "MFVFLVLLPLVSSQCVNLTT"


def test_the_summary(written):
    summary = json.loads((written / "attributions.json").read_text())
    assert summary["window"] == 80
    about = summary["regions"][f"{CONTIG}_21563-21622"]
    assert (about["region"], about["bases"]) == (f"{CONTIG}:21563-21622", 60)
    (method, likeness), *rest = about["correlation_with_random_weights"].items()
    assert method == "input_x_gradient"
    assert not rest
    assert len(likeness["pearson"]) == len(likeness["spearman"]) == 3
    assert all(abs(value) < 0.95 for values in likeness.values() for value in values)


def test_attention_data_are_the_maps(written):
    folder = written / f"{CONTIG}_21563-21622"
    arrays = np.load(folder / "attention.npz", allow_pickle=False)
    (layer,) = arrays["layers"].tolist()
    weights, keys = arrays[f"{layer}.weights"], arrays[f"{layer}.keys"]
    np.testing.assert_allclose(weights.sum(2), 1, rtol=1e-5)
    table = pd.read_csv(folder / "attention_maps.tsv", sep="\t")
    inside = (keys[:, 1] > 21562) & (keys[:, 0] < 21622)
    shown = weights[:, :, inside]
    assert table.weight.sum() == pytest.approx(shown[shown >= 1e-3].sum(), rel=1e-4)
    assert ((table.query_end >= 21563) & (table.key_start <= 21622)).all()


def test_a_model_without_attention_or_chunks_says_so(work, tmp_path):
    config = MODEL | {"layout": ["m1"], "d_model": [16], "d_intermediate": [0]}
    GenomicLM(ModelConfig.from_dict(config)).save_pretrained(tmp_path / "model")
    write_attributions(
        tmp_path / "model", work / "genome.fa.gz", tmp_path / "out", AttributionSettings(["attention"]),
        regions=[f"{CONTIG}:101-130"], device="cpu", threads=1,
    )  # fmt: skip
    folder = tmp_path / "out" / f"{CONTIG}_101-130"
    assert {path.name for path in folder.iterdir()} == {
        "attribution.html", "attention_maps.svg", "attention_maps.tsv", "chunks.svg", "chunks.tsv",
    }  # fmt: skip
    assert (folder / "attention_maps.tsv").read_text().count("\n") == 1
    assert not list((tmp_path / "out").glob("*.bw"))


def test_a_region_of_ambiguous_letters_alone(work, tmp_path):
    write_fasta([("n", [b"ACGT" * 5 + b"N" * 10 + b"ACGT" * 5])], tmp_path / "n.fa")
    settings = AttributionSettings(("integrated_gradients", *METHODS), window=40, steps=2)
    write_attributions(
        work / "model", tmp_path / "n.fa", tmp_path / "out", settings,
        regions=["n:21-30"], device="cpu", threads=1,
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "out" / "n_21-30" / "attribution.tsv", sep="\t")
    assert table[["integrated_gradients", *METHODS[:2]]].isna().to_numpy().all()
    about = json.loads((tmp_path / "out" / "attributions.json").read_text())["regions"]["n_21-30"]
    assert about["correlation_with_random_weights"]["integrated_gradients"] == {
        "pearson": [None] * 3,
        "spearman": [None] * 3,
    }


def test_an_annotation_of_another_genome_is_told_before_any_work(work, tmp_path, monkeypatch):
    (tmp_path / "other.gff3").write_text("chrZ\t.\tCDS\t1\t90\t.\t+\t0\tID=a\n")
    monkeypatch.setattr(report_attribution, "Attributor", None)  # nothing is read of the model
    with pytest.raises(InputError, match=r"other\.gff3: has no exon or CDS on a contig of the genome"):
        write_attributions(
            work / "model", work / "genome.fa.gz", tmp_path / "out", AttributionSettings(METHODS),
            regions=[f"{CONTIG}:101-130"], gff=tmp_path / "other.gff3", device="cpu", threads=1,
        )  # fmt: skip


def test_all_names_are_within_the_figure_and_have_a_unit():
    values = np.linspace(-1234, 1234, 32, dtype=np.float32).reshape(8, 4)
    methods = dict.fromkeys(["integrated_gradients", "input_x_gradient", "mutagenesis"], values)
    one_hot = np.eye(4, dtype=np.uint8)[[0, 1, 2, 3] * 2]
    found = Attribution(Region("c", 1_234_567, 1_234_575), "ACGT" * 2, "f", one_hot, methods, changes=values)
    for figure in (contributions_figure(found, None), changes_figure(found)):
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        boxes = [text.get_window_extent() for text in texts]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
        assert any("(nats)" in text.get_text() for text in texts)
    assert not any("nats" in text.get_text() for text in changes_figure(found, "").findobj(Text))


def test_attention_maps_have_whole_positions_and_titles_within_the_figure():
    """Also where the region is one base."""
    spans = np.array([[23_640, 23_641]])
    maps = [AttentionMap("stage1.encoder.10", 0, spans, spans, np.ones((4, 1, 1), np.float32))]
    figure = attention_figure(maps, 23_640, 23_641, "")
    figure.draw_without_rendering()
    labels = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert "23,641" in labels
    assert all(label.replace(",", "").isdigit() for label in labels if label)
    titles = [axes.title.get_window_extent() for axes in figure.axes]
    assert len(titles) == 4
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in titles)


def test_names_of_regions():
    assert region_name(Region("chr1", 1000, 1100)) == "chr1_1001-1100"
    odd = Region("../HLA*16:02|x", 0, 9)
    assert region_name(odd) == "_HLA_16_02_x_1-9"
    assert region_name(odd, {"_HLA_16_02_x_1-9"}) == "_HLA_16_02_x_1-9_"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "attribute: name what is to be attributed"),
        (["--region", f"{CONTIG}:29,900-29,999"], f"ends behind {CONTIG}"),
        (["--region", f"{CONTIG}:1-601"], "has 601 bases, and a page shows at most 600"),
        (["--region", f"{CONTIG}:1-30", "--window", "20"], "has 30 bases, and the window 20"),
        (["--region", f"{CONTIG}:1-30", "--target", "label"], "the model has no prediction head"),
        (["--region", f"{CONTIG}:1-30", "--method", "lime"], "--method: 'lime' should be one of"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(work, tmp_path, arguments, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", command(work, tmp_path / "x", *arguments)[2:])
    with pytest.raises(SystemExit) as ended:
        genotok.cli.main()
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_verb(work, tmp_path):
    """A variant's score by hand, one method, on one strand."""
    arguments = ["--region", f"{CONTIG}:23,395-23,414", "--target", "allele", "--strands", "forward"]
    arguments += ["--variant", f"{CONTIG}:23,403:A:G", "--method", "integrated_gradients", "--window", "60"]
    arguments += ["--baseline", "shuffled", "--shuffles", "2", "--steps", "8", "--random-draws", "0"]
    words = command(work, tmp_path / "out", *arguments)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / f"{CONTIG}_23395-23414" / "attribution.html").read_text()
    assert f"Target: score of {CONTIG}:23,403:A:G, log p(ALT) - log p(REF)." in page
    assert "Random weights" not in page
    assert "2 sequences with shuffled dinucleotides; 8 steps" in page
    about = json.loads((tmp_path / "out" / "attributions.json").read_text())["regions"]
    (complete,) = [one["completeness"] for one in about.values()]
    assert abs(complete["gap"]) < 1e-3
    table = pd.read_csv(tmp_path / "out" / f"{CONTIG}_23395-23414" / "attribution.tsv", sep="\t")
    assert table.integrated_gradients[table.position == 23403].tolist() == [0]


def command(work, output, *arguments):
    words = [sys.executable, "-m", "genotok", "attribute", work / "genome.fa.gz", "-m", work / "model"]
    return list(map(str, [*words, "--threads", "1", "--device", "cpu", "-o", output, *arguments]))
