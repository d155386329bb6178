"""The command line as a user meets it: a process with an exit code, standard output and standard error."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pysam
import pytest
import torch
from one_thread import settings_put_back  # noqa: F401
from safetensors.torch import load_file, save_file

import genotok
from genotok.cli import main

REPOSITORY = Path(__file__).parents[1]
DATA = REPOSITORY / "tests" / "data"
LAMBDA = REPOSITORY / "resources" / "genomes" / "lambda.fa.gz"

VERBS = [
    ["fetch"],
    ["tokenize"],
    ["bpe"],
    ["shards", "merge"],
    ["train"],
    ["entropy", "train"],
    ["entropy", "annotate"],
    ["entropy", "threshold"],
    ["evaluate"],
    ["embed"],
    ["probe"],
    ["finetune"],
    ["import"],
    ["score"],
    ["tokens"],
    ["attribute"],
    ["vcf", "split"],
    ["vcf", "gather"],
    ["vcf", "gather-tables"],
    ["report", "training"],
    ["report", "evaluation"],
    ["report", "chunks"],
    ["report", "variants"],
    ["report", "downstream"],
    ["report", "page"],
    ["motifs"],
    ["generate"],
    ["info"],
]

SETTINGS = """
shards: shards
model:
  layout: [m1, [T1], m1]
  d_model: [16, 16]
  d_intermediate: [0, 32]
  attention: {heads: 2, rotary_dim: 8, window: -1}
  mamba2: {d_state: 8, head_dim: 16, chunk_size: 16}
steps: 3
batch_size: 2
threads: 1
"""


def genotok_command(folder: Path, *words: str, text_in: str | None = None) -> subprocess.CompletedProcess:
    """Run `genotok` in a folder."""
    command = [sys.executable, "-m", "genotok", *map(str, words)]
    return subprocess.run(command, cwd=folder, input=text_in, text=True, capture_output=True, timeout=120)


@pytest.fixture
def genotok_here(monkeypatch, capsys):
    """Runs `genotok` in a folder and in this process, which need not import its libraries anew."""

    def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["genotok", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(words, ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder in which the verbs were run by hand, one after the other."""
    folder = tmp_path_factory.mktemp("by_hand")
    (folder / "train.yaml").write_text(SETTINGS)
    fasta = folder / "genome.fa.gz"
    for words in (
        ["fetch", LAMBDA, "-o", fasta],
        ["tokenize", fasta, "-o", "shards", "--window", "2048", "--test", "NC_001416.1"],
        ["tokenize", fasta, "-o", "shards", "--window", "2048", "--name", "phage"],
        ["train", "train.yaml", "-o", "run"],
    ):
        done = genotok_command(folder, *words)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(genotok_here, tmp_path, verb):
    """`--help` ends well and shows a command line."""
    done = genotok_here(tmp_path, *verb, "--help")
    assert done.returncode == 0
    assert f"Example: genotok {' '.join(verb)}" in " ".join(done.stdout.split())


def test_help_answers_at_once(tmp_path):
    """Help takes less than a second of computing, since no room is imported for it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert genotok_command(tmp_path, "--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1


def test_version(tmp_path):
    """`--version` prints the package's version."""
    assert genotok_command(tmp_path, "--version").stdout.split() == ["genotok", genotok.__version__]


def test_an_imported_hnet_gives_the_official_numbers(tmp_path):
    """`genotok import hnet`, then the logits of the official implementation."""
    stem = DATA / "hnet" / "hnet_1stage_tiny"
    done = genotok_command(tmp_path, "import", "hnet", f"{stem}.json", f"{stem}.safetensors", "-o", "model")
    assert done.returncode == 0, done.stderr
    model = genotok.GenomicLM.from_pretrained(tmp_path / "model")
    official = load_file(f"{stem}.io.safetensors")
    for document in range(3):
        ids = official[f"doc{document}.input_ids"][None]
        with torch.no_grad():
            output = model(ids, labels=ids)
        torch.testing.assert_close(output.logits[0], official[f"doc{document}.logits"], atol=2e-5, rtol=0)
        mask = official[f"doc{document}.stage0.boundary_mask"].bool()
        assert torch.equal(output.boundaries[0].mask[0], mask)
        assert abs(output.loss.item() - official[f"doc{document}.ce"].item()) < 1e-5


@pytest.mark.parametrize(("family", "kind"), [("ntv2", "bin"), ("hyenadna", "safetensors")])
def test_other_families_are_imported(family, kind, tmp_path):
    """`genotok import`, from either kind of file, then the official hidden states."""
    stem = DATA / family / f"{family}_tiny"
    weights = tmp_path / f"weights.{kind}"
    state = load_file(f"{stem}.safetensors")
    save_file(state, weights) if kind == "safetensors" else torch.save(state, weights)
    done = genotok_command(tmp_path, "import", family, f"{stem}.json", str(weights), "-o", "model")
    assert done.returncode == 0, done.stderr
    model, official = (
        genotok.GenomicLM.from_pretrained(tmp_path / "model"),
        load_file(f"{stem}.io.safetensors"),
    )
    row, name = ("doc1.", "hidden") if family == "hyenadna" else ("", "embeddings_3")
    ids = official[f"{row}input_ids"]
    lengths = (ids != 1).sum(1) if family == "ntv2" else None
    with torch.no_grad():
        states = model(ids, lengths=lengths, output_hidden_states=True).hidden_states[-1]
    wanted = official[f"{row}{name}"].masked_fill((states == 0).all(-1, keepdim=True), 0)
    torch.testing.assert_close(states, wanted, atol=1e-4, rtol=0)


def test_verbs_by_hand(work):
    """Evaluating, scoring and looking at tokens with a model that was trained by hand."""
    vcf = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    with pysam.FastaFile(str(work / "genome.fa.gz")) as fasta:
        ref = fasta.fetch("NC_001416.1", 999, 1000)
    alt = "A" if ref != "A" else "C"
    (work / "in.vcf").write_text(vcf + f"NC_001416.1\t1000\t.\t{ref}\t{alt}\t.\t.\t.\n")
    done = genotok_command(work, "evaluate", "run", "shards", "--split", "train", "-o", "metrics.json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((work / "metrics.json").read_text())
    assert metrics["model"]["nucleotides"] == 48_502
    assert metrics["contigs"][0]["genome"] == "phage"
    done = genotok_command(work, "score", "in.vcf", "-r", "genome.fa.gz", "-m", "run", "-o", "out.vcf.gz")
    assert done.returncode == 0, done.stderr
    with pysam.VariantFile(str(work / "out.vcf.gz")) as scored:
        (record,) = scored.fetch("NC_001416.1", 990, 1010)
    assert record.info["GENOTOK_STATUS"] == ("ok",)
    piped = genotok_command(
        work,
        "score",
        "-",
        "-r",
        "genome.fa.gz",
        "-m",
        "run",
        "-o",
        "-",
        text_in=(work / "in.vcf").read_text(),
    )
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout.splitlines()[-1].split("\t")[:2] == ["NC_001416.1", "1000"]
    region = "NC_001416.1:1,001-1,100"
    done = genotok_command(
        work, "tokens", "genome.fa.gz", "-m", "run", "--region", region, "-o", "chunks.bed"
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in (work / "chunks.bed").read_text().splitlines()]
    assert rows[0][1] == "1000"
    assert rows[-1][2] == "1100"


def test_generate(work):
    """FASTA with the prompt in front."""
    words = ["generate", "run", "--prompt", "acgtn", "--length", "100", "--count", "2", "--seed", "4"]
    done = genotok_command(work, *words)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.split(">")[1].splitlines()
    assert first == "generated_1 prompt=5 seed=4 temperature=1.0"
    assert [len(line) for line in lines] == [60, 45]
    assert lines[0].startswith("ACGTN")
    assert set("".join(lines)[5:]) == set("ACGT")
    assert done.stdout.count(">") == 2


def test_info(work):
    """JSON on request, with chunks where letters are given."""
    done = genotok_command(work, "info", "run", "--json", "--length", "512", "--fasta", "genome.fa.gz")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["compression_is"] == "measured"
    assert found["chunks"][0]["chunks"] * found["chunks"][0]["mean"] == pytest.approx(16 * 512)


def test_several_contigs_behind_one_option(work):
    """`--valid A B`: words behind the option until the next option or a file."""
    (work / "two.fa").write_text(">a\nACGT\n>b\nACGT\n>c\nACGT\n")
    words = ["--valid", "a", "b", "two.fa", "--test", "c", "-o", "several", "--window", "4"]
    done = genotok_command(work, "tokenize", *words)
    assert done.returncode == 0, done.stderr
    contigs = json.loads((work / "several" / "manifest.json").read_text())["contigs"]
    assert [contig["split"] for contig in contigs] == ["valid", "valid", "test"]


BAD_INPUT = [
    (["fetch", "no_such_file.fa", "-o", "x.fa.gz"], "no_such_file.fa"),
    (["tokenize", "missing.fa", "-o", "x"], "missing.fa"),
    (["tokenize", "train.yaml", "-o", "x"], "train.yaml"),
    (["tokenize", "genome.fa.gz", "-o", "x", "--test", "chr9"], "chr9"),
    (["tokenize", "genome.fa.gz", "-o", "x", "--window", "10", "--stride", "11"], "stride"),
    (["tokenize", "genome.fa.gz", "-o", "x", "--tokenizer", "words"], "words"),
    (["shards", "merge", "run", "-o", "x"], "run"),
    (["train", "missing.yaml", "-o", "x"], "missing.yaml"),
    (["train", "wrong_key.yaml", "-o", "x"], "stepz"),
    (["train", "wrong_type.yaml", "-o", "x"], "steps"),
    (["train", "wrong_model.yaml", "-o", "x"], "layout"),
    (["train", "train.yaml", "-o", "run"], "--resume"),
    (["evaluate", "shards", "shards", "-o", "x.json"], "config.json"),
    (["evaluate", "run", "shards", "-o", "x.json", "--split", "test"], "test"),
    (["import", "hnet", "train.yaml", "run/model.safetensors", "-o", "x"], "train.yaml"),
    (["import", "gpt", "run/config.json", "run/model.safetensors", "-o", "x"], "gpt"),
    (["score", "missing.vcf", "-r", "genome.fa.gz", "-m", "run", "-o", "x.vcf.gz"], "missing.vcf"),
    (["score", "train.yaml", "-r", "genome.fa.gz", "-m", "run", "-o", "x.vcf.gz"], "train.yaml"),
    (["tokens", "genome.fa.gz", "-m", "run", "--region", "NC_001416.1:0-5", "-o", "x.bed"], "NC_001416.1"),
]


@pytest.fixture
def with_wrong_settings(work) -> Path:
    (work / "wrong_key.yaml").write_text(SETTINGS + "stepz: 3\n")
    (work / "wrong_type.yaml").write_text(SETTINGS.replace("steps: 3", "steps: many"))
    (work / "wrong_model.yaml").write_text(SETTINGS.replace("[m1, [T1], m1]", "[q1]"))
    return work


def check_one_sentence(run, folder, words, named):
    before = sorted(folder.iterdir())
    done = run(folder, *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    complaint = done.stderr.strip().splitlines()[-1]
    assert complaint.startswith("genotok: ")
    assert named in complaint
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "named"), BAD_INPUT, ids=lambda value: "" if isinstance(value, list) else value
)
def test_bad_input_is_one_sentence(genotok_here, with_wrong_settings, words, named):
    """Exit code 2, the offending thing in one line, no traceback, nothing written."""
    check_one_sentence(genotok_here, with_wrong_settings, words, named)


@pytest.mark.parametrize(
    ("words", "named"), BAD_INPUT[::6], ids=lambda value: "" if isinstance(value, list) else value
)
def test_bad_input_ends_a_process(with_wrong_settings, words, named):
    """The same of a whole process."""
    check_one_sentence(genotok_command, with_wrong_settings, words, named)
