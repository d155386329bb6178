"""The results page: whole, self-contained, and true to its inputs."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import genotok
from genotok.errors import InputError
from genotok.report.captions import CAPTIONS
from genotok.report.chunks import report_chunks
from genotok.report.evaluation import report_evaluation
from genotok.report.page import write_page
from genotok.report.training import report_training
from genotok.report.variants import report_variants


class Page(HTMLParser):
    """Notes headings, tables, images and links, and that every element is closed where it should be."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.tables, self.images, self.links, self.ids = [], [], [], [], [], []
        self.words = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [value for name, value in attributes if name in ("href", "src", "action")]
        if tag == "img":
            self.images.append(values)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)

    def table(self, first):
        """Rows of the table whose first heading is `first`, by their first cell."""
        return next({row[0]: row for row in table} for table in self.tables if table[0][0] == first)


@pytest.fixture(scope="module")
def folders(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    report_training(results.run, folder)
    report_evaluation(results.metrics, folder)
    report_chunks(results.run, results.fasta, "c&1$x$:101-160", folder, window=64, device="cpu")
    for name, truth in (("first", "FITNESS"), ("second<i>", None)):
        options = {"resamples": 20, "harmful_below": -0.5}
        report_variants(results.parquet, results.vcf, truth, "CLASS", folder / name, **options)
    return [folder, folder / "first", folder / "second<i>"]


@pytest.fixture(scope="module")
def text(folders):
    write_page(folders, folders[0] / "index.html", title="A < B")
    return (folders[0] / "index.html").read_text()


@pytest.fixture
def page(text):
    return Page(text)


def test_sections_in_order(page):
    assert page.headings == [
        "A < B",
        "Training",
        "Bits per base",
        "Contigs",
        "Compression",
        "Learned chunks",
        "c&1$x$:101-160",
        "Variants: first",
        "Variants: second<i>",
        "Provenance",
    ]


def test_self_contained(text, page):
    assert "http" not in text
    assert "@import" not in text
    assert "<script" not in text
    inside = [link for link in page.links if link.startswith("#")]
    assert sorted(link[1:] for link in inside) == sorted(page.ids)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links if link not in inside)


def test_figures_with_their_captions(page, folders):
    names = ["training", "bits_per_base", "chunk_lengths", "chunks"]
    names = [(folders[0], name) for name in names]
    names += [(folders[1], name) for name in ("variant_effect", "llr_against_truth", "llr_distribution")]
    names += [(folders[2], "llr_distribution")]
    assert len(page.images) == len(names)
    words = "".join(page.words)
    for image, (folder, name) in zip(page.images, names, strict=True):
        assert base64.b64decode(image["src"].split(",")[1]) == (folder / f"{name}.svg").read_bytes()
        assert image["alt"]
        assert f"{CAPTIONS[name]} Data: {name}.tsv." in words


def test_numbers_are_those_of_the_inputs(page, results, folders):
    metrics = json.loads(results.metrics.read_text())
    bits = page.table("Predictor")
    assert bits["this model"][1] == f"{metrics['model']['bits_per_base']:.4f}"
    assert bits["Markov, order 2"][1] == f"{metrics['baselines']['markov_2']['bits_per_base']:.4f}"
    contigs = {row[1]: row for row in next(table for table in page.tables if table[0][0] == "Genome")}
    for contig in metrics["contigs"]:
        assert contigs[contig["contig"]][-1] == f"{contig['bits_per_base']:.4f}"
        assert contigs[contig["contig"]][2] == "400"
    stages = page.table("Stage")
    for stage in metrics["stages"]:
        row = [str(stage["stage"]), str(stage["chunks"]), f"{stage['mean_length']:.2f}"]
        assert stages[str(stage["stage"])] == row
    summary = json.loads((folders[1] / "variant_effect.json").read_text())
    assert page.table("Status")["ok"][1:] == ["80", f"{100 * 80 / 82:.2f}"]
    model = summary["statistics"]["predictors"]["model"]
    shown = [f"{model[key]:+.3f}".replace("-", "\N{MINUS SIGN}") for key in ("spearman", "ci_low", "ci_high")]
    assert page.table("Variants")["all"][1:] == [
        "this model",
        str(model["n"]),
        *shown,
        str(model["harmful"]),
        f"{model['auroc']:.3f}",
        f"{model['average_precision']:.3f}",
    ]


def test_provenance(page, results):
    metrics, about = json.loads(results.metrics.read_text()), page.table("What")
    assert about["genotok"][1] == genotok.__version__
    assert about["Model, SHA-256"][1] == metrics["model_sha256"]
    assert about["Parameters"][1] == f"{metrics['parameters']:,}"
    assert about["Layout"][1] == '["m1", ["m1", ["T1"], "m1"], "m1"]'
    assert about["first: window"][1] == "32"
    assert about["first: model sha256"][1] == metrics["model_sha256"]


def test_headline(page, results):
    metrics, words = json.loads(results.metrics.read_text()), "".join(page.words)
    assert (
        f"The model needs {metrics['model']['bits_per_base']:.4f} bits per base on the split test;" in words
    )
    assert "first: 80 of 82 alleles have a score. Spearman's correlation with FITNESS: this model " in words
    assert "second<i>: 80 of 82 alleles have a score.\n" in words + "\n"


def test_same_bytes(folders, text, tmp_path):
    write_page(folders, tmp_path / "again.html", title="A < B")
    assert (tmp_path / "again.html").read_text() == text
    assert not re.search(r"/tmp|\d{4}-\d\d-\d\d", re.sub(r"base64,[^\"]*", "", text))


def test_one_part_alone(folders, tmp_path):
    write_page([folders[2]], tmp_path / "index.html")
    page = Page((tmp_path / "index.html").read_text())
    assert page.headings == ["genotok results", "Variants: second<i>", "Provenance"]


def test_many_contigs(results, tmp_path):
    metrics = json.loads(results.metrics.read_text())
    contig = metrics["contigs"][0]
    metrics["contigs"] = [contig | {"contig": f"c{n}", "nucleotides": n} for n in range(73)]
    metrics["model"]["bits_per_base"] = None
    metrics["stages"] = []
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    report_evaluation(tmp_path / "metrics.json", tmp_path)
    write_page([tmp_path], tmp_path / "index.html")
    page = Page((tmp_path / "index.html").read_text())
    rows = next(table for table in page.tables if table[0][0] == "Genome")[1:]
    assert [row[1] for row in rows] == [f"c{n}" for n in range(72, 22, -1)]
    assert "23 shorter contigs are left out here; they are in bits_per_base.tsv." in "".join(page.words)
    assert page.table("Predictor")["this model"][1] == "\N{EN DASH}"


def test_starts_at_once():
    """The page needs neither torch nor matplotlib."""
    code = "import sys, genotok.report.page; print({'torch', 'matplotlib', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_nothing_to_show(tmp_path):
    with pytest.raises(InputError, match=r"holds none of training\.json, evaluation\.json"):
        write_page([tmp_path], tmp_path / "index.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_damaged_folders(folders, tmp_path, damage):
    for path in folders[2].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = "llr_distribution.svg" if damage is Path.unlink else "variant_effect.json"
    damage(tmp_path / damaged)
    with pytest.raises(InputError, match=re.escape(damaged)):
        write_page([tmp_path], tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()
