"""What `genotok motifs` reads and writes, as a user and the MEME suite meet it."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import memelite.io
import numpy as np
import pandas as pd
import pytest
from planted_motifs import motif_of, one_hot, planted, smooth_noise
from typer.testing import CliRunner

from genotok.cli import app
from genotok.errors import InputError
from genotok.interpret import meme_format
from genotok.interpret.contributions import Contributions, read_contributions
from genotok.interpret.meme_format import read_meme, tomtom
from genotok.interpret.motif_files import attribution_files, write_motif_files
from genotok.interpret.motif_matches import match_motifs
from genotok.interpret.motif_search import search_motifs
from genotok.report.motifs import report_motifs

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ROOT / "resources" / "motifs" / "known.meme"
FILES = ["index.html", "matches.tsv", "motif_logos.svg", "motif_logos.tsv", "motifs.json", "motifs.meme"]
FILES += ["motifs.tsv", "seqlets.bed"]


def save(region, path, **others):
    arrays = {"contig": region.contig, "start": region.start, "end": region.start + len(region.one_hot)}
    arrays |= {"one_hot": region.one_hot, "contributions": region.contributions}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays | others)


@pytest.fixture(scope="module")
def found():
    regions, _ = planted([motif_of("TAAGGAGGT"), motif_of("TACTGTATATATATACAGTA")], stretches=30)
    return search_motifs(regions, known=read_meme(KNOWN), matches=2)


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("motifs")
    report_motifs(found, folder)
    return folder


def test_all_files_are_there_and_the_same_every_time(found, folder, tmp_path):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    report_motifs(found, tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_memelite_reads_the_motifs(found, folder):
    read = memelite.io.read_meme(str(folder / "motifs.meme"))
    assert list(read) == [f"{motif.name} {motif.consensus}" for motif in found.motifs]
    for motif, matrix in zip(found.motifs, read.values(), strict=True):
        np.testing.assert_allclose(matrix.T, motif.probabilities, atol=1e-6)
    text = (folder / "motifs.meme").read_text()
    assert text.startswith(
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies\nA 0."
    )
    for motif in found.motifs:
        assert f"alength= 4 w= {len(motif.counts)} nsites= {len(motif.sites)} E= 0\n" in text


def test_tables(found, folder):
    motifs = pd.read_csv(folder / "motifs.tsv", sep="\t")
    assert list(motifs.best_match.str.split().str[0]) == [
        "anti_16S_end" if len(motif.counts) < 12 else "LexA" for motif in found.motifs
    ]
    assert (motifs.p_value < 1e-4).all()
    assert (motifs.forward + motifs.reverse == motifs.sites).all()
    matches = pd.read_csv(folder / "matches.tsv", sep="\t")
    assert list(matches.motif) == [motif.name for motif in found.motifs for _ in range(2)]
    logos = pd.read_csv(folder / "motif_logos.tsv", sep="\t")
    assert len(logos) == sum(len(motif.counts) for motif in found.motifs)
    counts = logos[[f"sites_{letter}" for letter in "ACGT"]].to_numpy()
    np.testing.assert_array_equal(counts, np.concatenate([motif.counts for motif in found.motifs]))


def test_the_bed_file_is_sorted_and_has_contig_coordinates(found, folder):
    lines = (folder / "seqlets.bed").read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    assert lines[0].startswith("#contig\tstart\tend\tname\tscore\tstrand")
    assert len(rows) == len(found.seqlets)
    assert [(row[0], int(row[1]), int(row[2])) for row in rows] == sorted(
        (
            found.regions[s.region].contig,
            found.regions[s.region].start + s.start,
            found.regions[s.region].start + s.end,
        )
        for s in found.seqlets
    )
    regions = {region.contig: region for region in found.regions}
    for contig, start, end, name, score, strand, contribution, _ in rows:
        region = regions[contig]
        bases = region.per_base[int(start) - region.start : int(end) - region.start]
        assert float(contribution) == pytest.approx(bases.sum(), rel=1e-4)
        assert 0 < int(score) <= 1000
        assert (strand in "+-") == (name != "no_motif")
    assert sum(row[3] == "motif_1" for row in rows) == len(found.motifs[0].sites)


def test_page_and_summary(found, folder):
    summary = json.loads((folder / "motifs.json").read_text())
    assert summary["known"] == 50
    assert not summary["few_known"]
    page = (folder / "index.html").read_text()
    assert found.statement in page
    assert "LexA TACTGTATATATATACAGTA" in page
    assert "http" not in page


def test_nothing_found_is_empty_and_valid(tmp_path):
    found = search_motifs(planted([])[0], known=read_meme(KNOWN))
    report_motifs(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert memelite.io.read_meme(str(tmp_path / "motifs.meme")) == {}
    assert len(pd.read_csv(tmp_path / "motifs.tsv", sep="\t")) == 0
    assert "so there is no motif." in (tmp_path / "index.html").read_text()
    with pytest.raises(InputError, match=r"motifs\.meme: holds no motif in MEME format"):
        read_meme(tmp_path / "motifs.meme")


def test_without_known_motifs(tmp_path):
    found = search_motifs(planted([motif_of("TAAGGAGGT")], stretches=15)[0])
    report_motifs(found, tmp_path)
    assert pd.read_csv(tmp_path / "motifs.tsv", sep="\t").best_match.isna().all()
    assert "Known motifs" not in (tmp_path / "index.html").read_text()


def test_few_known_motifs_are_said_to_be_few(tmp_path):
    known = {"one": motif_of("TAAGGAGGT"), "two": motif_of("GATTACAG")}
    report_motifs(search_motifs(planted([motif_of("TAAGGAGGT")], stretches=15)[0], known=known), tmp_path)
    assert "The known motifs are few" in (tmp_path / "index.html").read_text()


def test_tomtom_on_both_strands():
    words = ["TAAGGAGGTC", "GACCTCCTTA", "CATTGCATCC"]
    known = [*read_meme(KNOWN).values(), motif_of("TAAGGAGGTC")]
    compared = tomtom([motif_of(word) for word in words], known)
    ratio = compared["p_value"][0] / compared["p_value"][1]  # medians of few distances are rough
    assert (abs(np.log2(ratio)) < 1).all()
    assert compared["p_value"][0, -1] == pytest.approx(4**-10)
    assert compared["p_value"][2, -1] > 1e-2
    assert list(compared["reverse"][:2, -1]) == [False, True]
    assert list(compared["overlap"][:2, -1]) == [10, 10]
    assert compared["p_value"].min() >= 0
    assert compared["p_value"].max() <= 1


def test_comparing_leaves_the_threads_of_torch_as_they_are():
    """In a process of its own: numba sets its threads up once."""
    code = (
        "import numpy, torch; from genotok.interpret.meme_format import tomtom; torch.set_num_threads(1); "
        "tomtom([numpy.eye(4)], [numpy.eye(4)]); print(torch.get_num_threads())"
    )
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, capture_output=True, timeout=240
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_q_values_are_those_of_benjamini_and_hochberg(found):
    known = read_meme(KNOWN)
    pairs = match_motifs(found.motifs, known, most=len(known))
    ordered = sorted(pairs, key=lambda match: match.p_value)
    lowest = 1.0
    for rank in range(len(ordered), 0, -1):
        lowest = min(lowest, ordered[rank - 1].p_value * len(ordered) / rank)
        assert ordered[rank - 1].q_value == pytest.approx(lowest)
    assert match_motifs([], known) == []


def test_known_motifs_are_what_their_maker_makes():
    maker = runpy.run_path(str(ROOT / "resources" / "known_motifs.py"))
    known = read_meme(KNOWN)
    assert list(known) == [f"{name} {consensus}" for name, consensus in maker["MOTIFS"].items()]
    for (name, matrix), consensus in zip(known.items(), maker["MOTIFS"].values(), strict=True):
        for column, symbol in zip(matrix, consensus, strict=True):
            likely = {letter for letter, share in zip("ACGT", column, strict=True) if share > 0.2}
            assert likely == set(maker["IUPAC"][symbol]), name


DNA = "MOTIF one\nletter-probability matrix: alength= 4 w= 2 nsites= 1 E= 0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no motif in MEME format"),
        ("MEME version 4\n\nMOTIF one\n", "has 1 lines MOTIF and 0 motifs|holds no motif"),
        (
            DNA + "1 0 0 0\n0 1 0 0\n" + DNA + "1 0 0 0\n0 1 0 0\n",
            "2 lines MOTIF and 1 motifs; .* two names agree",
        ),
        (
            DNA + "1 0 0 0\n0 1 0 0\n" + DNA.replace("one", "two") + "1 0 0 0\n",
            "ends 1 rows before the matrix of motif two",
        ),
        (DNA + "1 0 0 0\n\n" + DNA.replace("one", "two"), "line 5: the matrix of motif one has 1 rows fewer"),
        (
            DNA + "1 0 0 0 0\n0 1 0 0 0\n",
            "line 3: '1 0 0 0 0' is no row of the matrix of motif one, four numbers",
        ),
        (DNA + "1 0 0 0\n0 1 x 0\n", "line 4: '0 1 x 0' is no row of the matrix of motif one, four numbers"),
        (DNA + "1 1 0 0\n0 1 0 0\n", "motif one: a row of its matrix does not sum to 1"),
        (DNA + "2 -1 0 0\n0 1 0 0\n", "motif one: a row of its matrix does not sum to 1"),
    ],
)
def test_known_motifs_that_cannot_be_read(tmp_path, text, said):
    (tmp_path / "k.meme").write_text(text)
    with pytest.raises(InputError, match=rf"k\.meme: .*({said})"):
        read_meme(tmp_path / "k.meme")


def test_a_missing_file_of_known_motifs(tmp_path):
    with pytest.raises(InputError, match=r"none\.meme: cannot be read: No such file"):
        read_meme(tmp_path / "none.meme")


def test_memelite_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(meme_format, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"run pip install 'genotok\[motifs\]' or leave out the file of known"
    ):
        read_meme(KNOWN)


def test_contributions_are_read_as_they_were_saved(tmp_path):
    regions, _ = planted([], stretches=2, length=20)
    for region in regions:
        other = region.contributions * 2
        save(region, tmp_path / region.contig / "attribution.npz", contributions_of_mutagenesis=other)
    assert attribution_files([tmp_path]) == sorted(tmp_path.glob("*/attribution.npz"))
    for factor, method in ((1, None), (2, "mutagenesis")):
        read = read_contributions(attribution_files([tmp_path]), method)
        for region, again in zip(regions, read, strict=True):
            assert (again.contig, again.start) == (region.contig, region.start)
            np.testing.assert_array_equal(again.contributions, factor * region.contributions)
            np.testing.assert_array_equal(again.one_hot, region.one_hot)


def damaged(path, kind):
    region = Contributions("c", 5, one_hot(np.arange(4)), np.ones((4, 4)))
    if kind == "text":
        path.write_text("no archive")
    elif kind == "cut":
        save(region, path)
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "empty":
        np.savez(path)
    elif kind == "objects":
        save(region, path, contributions=np.array([{}] * 4))
    elif kind == "shape":
        save(region, path, contributions=np.ones((4, 5)))
    elif kind == "start":
        save(region, path, start=np.array("x"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "cannot be read as .npz of `genotok attribute`: .*No such file"),
        ("text", "cannot be read as .npz of `genotok attribute`: File is not a zip file"),
        ("cut", "cannot be read as .npz of `genotok attribute`: File is not a zip file"),
        ("empty", "lacks the array contig; it holds nothing"),
        ("objects", "cannot be read as .npz of `genotok attribute`: Object arrays cannot be loaded"),
        ("shape", r"contributions of c from base 6: contributions has shape \(4, 5\)"),
        ("start", "cannot be read as .npz of `genotok attribute`: invalid literal"),
    ],
)
def test_contributions_that_cannot_be_read(tmp_path, kind, said):
    damaged(tmp_path / "a.npz", kind)
    with pytest.raises(InputError, match=rf"a\.npz: {said}"):
        read_contributions([tmp_path / "a.npz"])


def test_a_method_that_the_file_lacks(tmp_path):
    save(Contributions("c", 5, one_hot(np.arange(4)), np.ones((4, 4))), tmp_path / "a.npz")
    said = "lacks the array contributions_of_shap; it holds contig, contributions, end, one_hot, start"
    with pytest.raises(InputError, match=said):
        read_contributions([tmp_path / "a.npz"], "shap")


def test_a_folder_without_attributions(tmp_path):
    with pytest.raises(
        InputError, match=r"holds no attribution\.npz; let `genotok attribute` write into it first"
    ):
        attribution_files([tmp_path])


def genotok_motifs(folder, *words):
    command = [sys.executable, "-m", "genotok", "motifs", *map(str, words)]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=120)


def test_the_verb(tmp_path):
    for region in planted([motif_of("TAAGGAGGT")], stretches=12)[0]:
        save(region, tmp_path / "a" / region.contig / "attribution.npz")
    for region in smooth_noise(3, stretches=12, memory=0.0):
        save(region, tmp_path / "noise" / region.contig / "attribution.npz")
    done = genotok_motifs(tmp_path, "a", "-o", "m", "--database", KNOWN, "--control", "noise")
    assert (done.returncode, done.stderr) == (0, "")
    assert " make 1 motif, which hold " in done.stdout
    (row,) = pd.read_csv(tmp_path / "m" / "motifs.tsv", sep="\t").itertuples()
    assert row.best_match == "anti_16S_end TAAGGAGGT"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--min-length", "9", "--max-length", "8"], "--max-length 8: must be at least --min-length, 9"),
        (["--database", "none.meme"], "none.meme: cannot be read"),
        (["--control", "none"], "none: cannot be read as .npz"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, words, said):
    save(Contributions("c", 5, one_hot(np.arange(4)), np.ones((4, 4))), tmp_path / "attribution.npz")
    done = CliRunner().invoke(app, ["motifs", str(tmp_path), "-o", str(tmp_path / "n"), *words])
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith(said)
    assert not (tmp_path / "n").exists()


def test_a_folder_that_cannot_be_written(found, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_motif_files(found, tmp_path / "file")
