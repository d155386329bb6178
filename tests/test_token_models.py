"""Models with tokens of several letters through the verbs, from the FASTA to scores."""

import json
from pathlib import Path

import numpy as np
import pysam
import pytest
import torch
from typer.testing import CliRunner

from genotok.cli import app
from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.likelihood import nucleotide_log_likelihood
from genotok.shards.reader import ShardDataset
from genotok.tokenizers import load_tokenizer
from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer

NTV2 = Path(__file__).parent / "data" / "ntv2"
SETTINGS = {
    "model": {
        "layout": ["m1", ["T1"], "m1"],
        "d_model": [16, 16],
        "d_intermediate": [0, 32],
        "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 8, "head_dim": 16, "chunk_size": 16},
    },
    "steps": 12,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "threads": 1,
    "log_every": 1,
    "validate_every": 6,
}


@pytest.fixture(autouse=True, scope="module")
def _settings_put_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def genotok(*words):
    """Run a verb in this process; what it printed."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception:
        raise done.exception
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A genome with motifs, a VCF, shards of letters, and a vocabulary that was learned from it."""
    folder = tmp_path_factory.mktemp("token_models")
    random = np.random.default_rng(0)
    motifs = ["GATTACAGATTACACCGGT" + "".join(random.choice(list("ACGT"), 5)) for _ in range(160)]
    contigs = {"a": "".join(motifs[:120]) + "NNR", "b": "".join(motifs[120:])}
    (folder / "g.fa").write_text("".join(f">{name}\n{letters}\n" for name, letters in contigs.items()))
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    ref = contigs["a"][99:102]
    records = [("100", ref[0], "A" if ref[0] != "A" else "C"), ("100", ref, ref[0])]
    lines = [f"a\t{pos}\t.\t{old}\t{new}\t.\t.\t.\n" for pos, old, new in records]
    (folder / "in.vcf").write_text(header + "".join(lines))
    genotok("tokenize", folder / "g.fa", "-o", folder / "shards", "--window", 100, "--valid", "b")
    genotok("bpe", folder / "g.fa", "-o", folder / "vocabulary.json", "--vocab-size", 40)
    return folder


def trained(work, kind, tokenizer):
    if not (work / kind).exists():
        settings = SETTINGS | {"model": {**SETTINGS["model"], "tokenizer": tokenizer}}
        (work / f"{kind}.json").write_text(json.dumps({"shards": str(work / "shards"), **settings}))
        genotok("train", work / f"{kind}.json", "-o", work / kind)
    return work / kind


@pytest.fixture(params=["kmer", "bpe", "overlap"])
def run(request, work):
    """A short training on the shards of letters."""
    described = {"bpe": str(work / "vocabulary.json"), "overlap": {"type": "kmer", "k": 4, "stride": 2}}
    return trained(work, request.param, described.get(request.param, request.param))


def test_a_vocabulary_is_learned_once_and_for_all(work):
    genotok("bpe", work / "g.fa", "-o", work / "again.json", "--vocab-size", 40)
    assert (work / "again.json").read_bytes() == (work / "vocabulary.json").read_bytes()
    tokenizer = load_tokenizer(work / "vocabulary.json")
    assert tokenizer.vocab_size == 40
    assert any("GATTACA" in token for token in tokenizer.token_letters)


def test_training_lowers_the_bits(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    bits = [record["bits_per_base"] for record in records if record["split"] == "train"]
    assert min(bits[-3:]) < bits[0]
    valid = [record for record in records if record["split"] == "valid"]
    assert [record["step"] for record in valid] == [6, 12]


def test_evaluation_counts_letters(run, work):
    said = genotok(
        "evaluate", run, work / "shards", "--split", "valid", "-o", work / "m.json", "--threads", 1
    )
    metrics = json.loads((work / "m.json").read_text())
    letters = (work / "g.fa").read_text().split("\n")[3]
    assert metrics["model"]["nucleotides"] == len(letters) == metrics["baselines"]["uniform"]["nucleotides"]
    model = GenomicLM.from_pretrained(run)
    windows = [letters[i : i + 100].encode() for i in range(0, len(letters), 100)]
    nats = nucleotide_log_likelihood(model, windows)[0].double().sum().item()
    assert metrics["model"]["bits_per_base"] == pytest.approx(-nats / np.log(2) / len(letters), rel=1e-5)
    assert f"{metrics['model']['bits_per_base']:.4f} bits/base" in said
    (stage,) = metrics["stages"]
    assert stage["mean_length"] * stage["chunks"] == pytest.approx(len(letters))
    assert sum(stage["lengths"].values()) == stage["chunks"]
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["bits_per_base"] == pytest.approx(metrics["model"]["bits_per_base"], rel=1e-5)


def test_scores_tokens_and_new_sequences(run, work):
    words = ["-r", work / "g.fa", "-m", run, "-o", work / "out.vcf", "--window", 60, "--threads", 1]
    genotok("score", work / "in.vcf", *words)
    with pysam.VariantFile(str(work / "out.vcf")) as vcf:
        scored = [(record.info["GENOTOK_STATUS"], record.info["GENOTOK_LLR"][0]) for record in vcf]
    assert [status for status, _ in scored] == [("ok",), ("ok",)]
    assert all(abs(ratio) > 1e-3 for _, ratio in scored)
    region = ["--region", "a:101-200", "-o", work / "x.bed", "--window", 100]
    genotok("tokens", work / "g.fa", "-m", run, *region)
    rows = [line.split("\t") for line in (work / "x.bed").read_text().splitlines()]
    assert (rows[0][1], rows[-1][2]) == ("100", "200")
    made_up = genotok("generate", run, "--prompt", "gattacagatta", "--length", 20, "--threads", 1)
    letters = "".join(made_up.splitlines()[1:])
    assert letters.startswith("GATTACAGATTA")
    assert len(letters) > 12 + 20
    found = json.loads(genotok("info", run, "--json", "--sequence", "GATTACAGATTACA" * 4))
    assert found["tokenizer"] in ("kmer", "bpe")


def test_a_models_folder_is_all_that_it_needs(work, tmp_path):
    run = trained(work, "bpe", str(work / "vocabulary.json"))
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    tokenizer = GenomicLM.from_pretrained(tmp_path).tokenizer
    assert tokenizer.merges == load_tokenizer(work / "vocabulary.json").merges


def test_an_imported_ntv2_scores_and_is_evaluated(work):
    genotok("import", "ntv2", NTV2 / "ntv2_tiny.json", NTV2 / "ntv2_tiny.safetensors", "-o", work / "ntv2")
    words = [
        "-r",
        work / "g.fa",
        "-m",
        work / "ntv2",
        "-o",
        work / "ntv2.vcf",
        "--window",
        60,
        "--threads",
        1,
    ]
    genotok("score", work / "in.vcf", *words)
    with pysam.VariantFile(str(work / "ntv2.vcf")) as vcf:
        scored = [(record.info["GENOTOK_STATUS"], record.info["GENOTOK_LLR"][0]) for record in vcf]
    assert [status for status, _ in scored] == [("ok",), ("ok",)]
    assert all(ratio != 0 for _, ratio in scored)
    words = ["--split", "valid", "-o", work / "ntv2_metrics.json", "--threads", 1]
    genotok("evaluate", work / "ntv2", work / "shards", *words)
    metrics = json.loads((work / "ntv2_metrics.json").read_text())
    assert metrics["model"]["nucleotides"] == metrics["baselines"]["uniform"]["nucleotides"]
    assert metrics["stages"] == []
    with pytest.raises(InputError, match="only a model that predicts the next token can be run step by step"):
        genotok("generate", work / "ntv2", "--length", 3)


def test_shards_of_another_vocabulary_are_refused(work):
    genotok("tokenize", work / "g.fa", "-o", work / "bpe_shards", "--tokenizer", work / "vocabulary.json")
    assert ShardDataset(work / "bpe_shards", "train").manifest.tokenizer["type"] == "bpe"
    config = TrainConfig(**{**SETTINGS, "shards": str(work / "bpe_shards")})
    with pytest.raises(
        InputError, match=r"model\.tokenizer: is 'nucleotide', and the shards were made with 'bpe'"
    ):
        Trainer(config, work / "refused")
    genotok("tokenize", work / "g.fa", "-o", work / "packaged_shards", "--tokenizer", "bpe")
    packaged = ShardDataset(work / "packaged_shards", "train").manifest.tokenizer
    assert len(packaged["merges"]) == 500
    assert packaged != ShardDataset(work / "bpe_shards", "train").manifest.tokenizer
    with pytest.raises(InputError, match="tokenizer 'wordpiece' is unknown; there are biological, bpe, byte"):
        genotok("tokenize", work / "g.fa", "-o", work / "x", "--tokenizer", "wordpiece")
