"""The report on chunks, made by the verb from real files."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from genotok.cli import app
from genotok.genomes.gff import CodingPart, Transcript
from genotok.interpret.token_survey import Compression
from genotok.report.page import write_page
from genotok.report.token_track import track_figure, track_table
from genotok.report.tokens import stability_figure, stability_table

FIGURES = ("token_enrichment", "token_words", "token_stages", "token_track", "token_stability")


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    gff, bed = folder / "genes.gff3", folder / "sites.bed"
    gff.write_text("valid1\t.\tCDS\t11\t190\t.\t+\t0\tID=a\ntest2\t.\tCDS\t101\t220\t.\t-\t0\tID=b\n")
    bed.write_text("test2\t5\t30\n")
    words = ["report", "tokens", results.fasta, "-m", results.run, "-o", folder / "out", "--gff", gff]
    words += ["--places", bed, "--region", "valid1", "--region", "test2:1-300", "--window", 128, "--sites", 0]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--threads", 1]])
    assert done.exit_code == 0, done.output
    return folder / "out"


def test_tables(folder):
    tables = {name: pd.read_csv(folder / f"{name}.tsv", sep="\t") for name in FIGURES}
    enrichment = tables["token_enrichment"].set_index(["stage", "kind"])
    assert enrichment.loc[(0, "codon_position_1"), "bases"] == 60
    assert enrichment.loc[(0, "reverse_codon_position_1"), "bases"] == 40
    assert enrichment.loc[(1, "sites"), "bases"] == 25
    assert set(tables["token_words"]["stage"]) == {0, 1}
    assert tables["token_track"]["bases"].sum() == 700
    assert list(tables["token_track"]["contig"]) == ["test2", "valid1"]
    assert tables["token_stability"].empty
    for name in FIGURES:
        assert (folder / f"{name}.svg").read_text().startswith("<?xml")


def test_summary_and_page(folder, tmp_path):
    summary = json.loads((folder / "tokens.json").read_text())
    assert summary["bases"] == 700
    assert summary["regions"] == ["test2:1-300", "valid1:1-400"]
    for stage in summary["stages"]:
        assert stage["mean_length"] == pytest.approx(700 / stage["chunks"])
    write_page([folder], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "What the chunks follow" in page
    assert "Where chunks begin" in page
    assert "1,000 rotations" in page


def test_bins_without_chunks_or_certain_bases_are_empty():
    found = Compression({("c", 0): 1000, ("c", 1): 500}, {("c", 0, 0): 250, ("c", 1, 0): 0},
                        {("c", 0): 1900.0, ("c", 1): 0.0}, {("c", 0): 1000, ("c", 1): 0})  # fmt: skip
    data = track_table(found)
    assert data["bases_per_chunk_stage0"].tolist()[0] == 4.0
    assert data["bits_per_base"].tolist()[0] == 1.9
    assert data.loc[1, ["bits_per_base", "bases_per_chunk_stage0"]].isna().all()
    assert data["start"].tolist() == [1, 1001]


def test_a_model_without_changes_is_said():
    assert "could change" in stability_figure(stability_table([])).texts[0].get_text()


def test_stages_beside_each_other(folder):
    """Lengths, what chunks hold and which boundaries they keep, against the other tables of the survey."""
    stages = pd.read_csv(folder / "token_stages.tsv", sep="\t", dtype={"group": str})
    summary = {row["stage"]: row for row in json.loads((folder / "tokens.json").read_text())["stages"]}
    enrichment = pd.read_csv(folder / "token_enrichment.tsv", sep="\t").set_index(["stage", "kind"])
    for stage, about in summary.items():
        lengths = stages[(stages["stage"] == stage) & (stages["measure"] == "length")]
        values = lengths["group"].astype(int)
        assert lengths["count"].sum() == about["chunks"]
        assert (values * lengths["count"]).sum() == 700
        assert lengths["share"].sum() == pytest.approx(1, abs=1e-4)
        rate = about["chunks"] / 700
        assert lengths["expected"].tolist() == pytest.approx(rate * (1 - rate) ** (values - 1), rel=1e-4)
    inner = stages[stages["stage"] == 1].set_index(["measure", "group"])
    held = inner.loc["held"]
    assert held["count"].sum() == summary[1]["chunks"]
    assert (held.index.astype(int) * held["count"]).sum() == summary[0]["chunks"]
    assert inner.loc[("kept", "all"), "share"] == pytest.approx(
        summary[1]["chunks"] / summary[0]["chunks"], rel=1e-5
    )
    kept = enrichment.loc[(1, "gc"), "boundaries"] / enrichment.loc[(0, "gc"), "boundaries"]
    assert inner.loc[("kept", "gc"), "share"] == pytest.approx(kept, rel=1e-5)


def test_genes_below_the_track(folder):
    """Named where they are few; coding shares in the table in any case."""
    track = pd.read_csv(folder / "token_track.tsv", sep="\t").set_index("contig")
    assert track.loc["valid1", ["coding_forward", "coding_reverse"]].tolist() == [0.18, 0]
    assert track.loc["test2", ["coding_forward", "coding_reverse"]].tolist() == [0, 0.12]
    svg = (folder / "token_track.svg").read_text()
    assert "<!-- a ▶ -->" in svg
    assert "<!-- ◀ b -->" in svg


def test_many_genes_are_a_share():
    """More than sixty: no names, and a share for each strand in bins of any place, against counting."""
    genes = [
        Transcript(f"g{n}", "c", n % 2 == 0, [(n * 40, n * 40 + 30)], [CodingPart(n * 40, n * 40 + 30, 0)])
        for n in range(5, 80)
    ]
    places = {("c", n): 1000 for n in range(4)}
    found = Compression(places, {(*place, 0): 250 for place in places}, dict.fromkeys(places, 1.0), places)
    data = track_table(found, {"c": genes})
    for row in data.itertuples():
        bases = range(row.start - 1, row.start + 999)
        forward = sum(any(g.start <= base < g.end for g in genes if g.forward) for base in bases)
        assert row.coding_forward == forward / 1000
    figure = track_figure(data, {"c": genes})
    shown = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert shown == ["\N{MINUS SIGN} genes", "+ genes"]
    assert not [text for axes in figure.axes for text in axes.texts if "▶" in text.get_text()]
