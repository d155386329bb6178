"""Models that cut by boundaries of a file: training, validation, evaluation and chunks, by the verbs."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from toy_runs import TOY_MODEL, TOY_SETTINGS, toy_config, train
from typer.testing import CliRunner

from genotok.cli import app
from genotok.errors import InputError
from genotok.genomes.intervals import boundary_mask, interval_edges
from genotok.models import GenomicLM
from genotok.shards.boundaries import add_boundaries
from genotok.shards.reader import ShardDataset
from genotok.training.config import TrainConfig
from genotok.training.data import training_data
from genotok.training.distributed import Ranks
from genotok.training.loop import Trainer
from genotok.training.start import read_model_config

GIVEN = {**TOY_MODEL, "chunkers": [{"kind": "given"}]}
PERIOD = 21  # of the toy genome's motif, which has 19 letters
GENES = {"a": [(PERIOD * i, PERIOD * i + 19) for i in range(0, 120, 2)], "b": [(5, 9), (30, 64), (64, 71)]}
ONE = ("--device", "cpu", "--threads", "1")


def genotok(*words):
    """The standard output of a verb."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception:
        raise done.exception
    return done.stdout


@pytest.fixture(scope="module")
def genes(toy_shards, tmp_path_factory):
    """GFF3 with more features than count, whose contigs are called in another way."""
    path = tmp_path_factory.mktemp("genes") / "genes.gff"
    rows = [("CDS", *where) for where in [(name, *pair) for name in GENES for pair in GENES[name]]]
    rows.append(("gene", "a", 1, 14))
    lines = [f"{name}\t.\t{kind}\t{start + 1}\t{end}\t.\t+\t.\t.\n" for kind, name, start, end in rows]
    path.write_text("##gff-version 3\n" + "".join(lines))
    return path


@pytest.fixture(scope="module")
def bounded(toy_shards, genes):
    folder = genes.parent / "bounded"
    genotok("shards", "boundaries", toy_shards, genes, "-o", folder, "--feature", "CDS")
    return folder


@pytest.fixture(scope="module")
def run(bounded, tmp_path_factory):
    """A finished run, by the verb."""
    folder = tmp_path_factory.mktemp("given")
    settings = TOY_SETTINGS | {"model": GIVEN, "shards": str(bounded), "validation_windows": 100}
    (folder / "train.json").write_text(json.dumps(settings))
    genotok("train", folder / "train.json", "-o", folder / "run")
    return folder / "run"


def boundaries_behind_start(contig, start, end):
    """(1 + end - start,) bool: the start token begins the first chunk, which the window's first letter goes on."""
    mask = boundary_mask(interval_edges(np.array(GENES[contig])), start, end)
    return torch.from_numpy(np.concatenate([[True, False], mask[1:]]))


def bits_and_chunks(model, shards):
    """Bits a base and the chunks of the split `valid`, window by window, with masks made of the intervals."""
    nats, count, chunks = 0.0, 0, 0
    dataset = ShardDataset(shards, "valid")
    for i in range(len(dataset)):
        window = dataset[i]
        ids = torch.tensor([[model.tokenizer.start_id, *window.ids.tolist()]])
        end = window.start + len(window.ids)
        mask = boundaries_behind_start(window.contig, window.start, end)
        with torch.no_grad():
            output = model(ids, boundary_inputs=mask[None])
        shares = output.logits[0, :-1].double().log_softmax(-1)
        nats -= shares.gather(-1, ids[0, 1:, None])[~torch.from_numpy(window.ambiguous)].sum().item()
        count += int((~window.ambiguous).sum())
        chunks += int(mask.sum())
    return nats / math.log(2) / count, chunks


def test_validation_and_evaluation_read_the_boundaries(run, bounded, tmp_path):
    bits, chunks = bits_and_chunks(GenomicLM.from_pretrained(run), bounded)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["split"], last["bits_per_base"]) == ("valid", pytest.approx(bits, rel=1e-5))
    genotok("evaluate", run, bounded, "--split", "valid", "-o", tmp_path / "metrics.json", *ONE)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["model"]["bits_per_base"] == pytest.approx(bits, rel=1e-5)
    assert metrics["stages"][0]["chunks"] == chunks


def test_training_reads_them(run, bounded):
    """The share of chunks in a step is that of the boundaries of its windows."""
    data = Trainer(toy_config(bounded, model=GIVEN), run.parent / "unused").data
    batch = next(data.batches)
    real = torch.arange(batch.input_ids.shape[1]) < batch.lengths[:, None]
    share = batch.boundary_inputs[real].float().mean().item()
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["chunk_fraction"] == [pytest.approx(share)]
    assert 0.03 < share < 0.3


def test_masked_tokens(bounded, tmp_path):
    """Boundaries stay where tokens are hidden, in training, validation and evaluation."""
    blocks = {"layout": ["T1", ["T1"], "T1"], "d_intermediate": [32, 32], "tasks": ["mlm"]}
    model = {**GIVEN, **blocks}
    trainer = train(bounded, tmp_path / "run", model=model, steps=3, validate_every=0, checkpoint_every=0)
    plain = training_data(
        toy_config(bounded, model=model), read_model_config(model), "mlm", Ranks(0, 1, torch.device("cpu"))
    ).validation[0]
    shown = trainer.validation[0]
    assert shown.input_ids.equal(plain.input_ids)
    assert shown.boundary_inputs.shape == shown.input_ids.shape
    dataset = ShardDataset(bounded, "valid")
    wanted = boundaries_behind_start("b", 32, 64)
    assert dataset[1].start == 32
    assert shown.boundary_inputs[1].equal(wanted)
    genotok("evaluate", tmp_path / "run", bounded, "--split", "valid", "-o", tmp_path / "m.json", *ONE)
    assert json.loads((tmp_path / "m.json").read_text())["model"]["bits_per_base"] > 0


def test_chunks_of_a_region(run, toy_shards, genes, tmp_path):
    """The chunks are the intervals and what lies between them, whatever window they are read in."""
    fasta = tmp_path / "toy.fa"
    shutil.copy(toy_shards.parent / "toy.fa", fasta)
    edges = sorted({place for pair in GENES["a"] for place in pair if 90 < place < 400})
    wanted = list(zip([90, *edges], [*edges, 400], strict=True))
    words = ("tokens", fasta, "-m", run, "--region", "a:91-400", "-o", tmp_path / "x.bed", *ONE)
    for window in ("64", "8192"):
        genotok(*words, "--window", window, "--boundaries", genes, "--feature", "CDS")
        rows = [line.split() for line in (tmp_path / "x.bed").read_text().splitlines()]
        assert [(int(row[1]), int(row[2])) for row in rows] == wanted
    with pytest.raises(
        InputError, match="the model cuts by given boundaries; `genotok tokens --boundaries FILE`"
    ):
        genotok(*words)
    variant = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\na\t1\t.\tG\tC\t.\t.\t.\n"
    (tmp_path / "in.vcf").write_text(variant)
    with pytest.raises(
        InputError, match="run: the model cuts by given boundaries, which an ALT allele does not"
    ):
        genotok("score", tmp_path / "in.vcf", "-r", fasta, "-m", run, "-o", tmp_path / "out.vcf", *ONE)
    assert not (tmp_path / "out.vcf").exists()


def test_what_cannot_be_trained(toy_shards, bounded, genes, run, tmp_path):
    with pytest.raises(
        InputError, match="has no boundaries, by which the chunker 'given' cuts; `genotok shards"
    ):
        Trainer(toy_config(toy_shards, model=GIVEN), tmp_path / "run")
    with pytest.raises(
        InputError, match="has no boundaries, by which the chunker 'given' cuts; `genotok shards"
    ):
        genotok("evaluate", run, toy_shards, "--split", "valid", "-o", tmp_path / "m.json", *ONE)
    with pytest.raises(
        InputError, match=r"^chunkers\[0\].kind: 'given' takes boundaries between letters, and the"
    ):
        Trainer(toy_config(bounded, model={**GIVEN, "tokenizer": "kmer"}), tmp_path / "run")
    table = {"train": "x.csv", "labels": {"y": "y"}}
    model = {**GIVEN, "tasks": ["prediction"], "heads": {"y": {"kind": "regression", "outputs": 1}}}
    with pytest.raises(
        InputError, match=r"^chunkers\[0\].kind: 'given' cuts by boundaries of shards, and a table"
    ):
        Trainer(TrainConfig(steps=1, table=table, model=model), tmp_path / "run")


def test_a_model_of_its_own_boundaries_takes_none(bounded, genes, toy_shards, tmp_path):
    """Training does not mind the column; `tokens` refuses a file that would mean nothing."""
    trainer = train(bounded, tmp_path / "run", steps=1, validate_every=0, checkpoint_every=0)
    assert trainer.data.data_sets[0].batches.column is None
    shutil.copy(toy_shards.parent / "toy.fa", tmp_path / "toy.fa")
    words = ("--region", "a:1-50", "-o", tmp_path / "x.bed", "--boundaries", genes, *ONE)
    with pytest.raises(InputError, match="the model finds its boundaries itself; leave out the file"):
        genotok("tokens", tmp_path / "toy.fa", "-m", tmp_path / "run", *words)


def test_a_run_tells_its_boundaries_apart(toy_shards, bounded, genes, tmp_path):
    """Shards with other boundaries are other data."""
    add_boundaries(toy_shards, genes, tmp_path / "all")
    one, other = (
        Trainer(toy_config(shards, model=GIVEN), tmp_path / "run") for shards in (bounded, tmp_path / "all")
    )
    assert one.identity != other.identity
