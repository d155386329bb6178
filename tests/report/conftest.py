"""A run of four steps, its evaluation and a scored VCF, all made by the rooms that make them for users."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from genotok.evaluation.bits_per_base import evaluate, write_metrics
from genotok.genomes.fasta import Reference, write_fasta
from genotok.shards.writer import tokenize_genomes
from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer
from genotok.variants.score import score_vcf

MODEL = {
    "layout": ["m1", ["m1", ["T1"], "m1"], "m1"],
    "d_model": [16, 16, 16],
    "d_intermediate": [0, 0, 32],
    "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 32},
}
CLASSES = ("synonymous", "missense", "nonsense")
HEADER = """##fileformat=VCFv4.3
##contig=<ID=c&1$x$,length=400>
##INFO=<ID=FITNESS,Number=A,Type=Float,Description="Measured">
##INFO=<ID=CLASS,Number=A,Type=String,Description="Consequence">
##INFO=<ID=DEPTH,Number=1,Type=Integer,Description="One a record">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""


@dataclass
class Results:
    """What a user has after training, evaluation and scoring."""

    run: Path
    fasta: Path
    metrics: Path
    vcf: Path
    parquet: Path


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Results:
    """Real outputs; the contig `c&1$x$` has letters that HTML and matplotlib take for markup."""
    folder = tmp_path_factory.mktemp("results")
    draw = random.Random(2)
    contigs = {name: bytes(draw.choices(b"ACGT", k=400)) for name in ("train1", "valid1", "c&1$x$", "test2")}
    fasta = folder / "genome.fa"
    write_fasta([(name, [sequence]) for name, sequence in contigs.items()], fasta)
    tokenize_genomes([fasta], folder / "shards", window=128, valid=["valid1"], test=["c&1$x$", "test2"])
    settings = {"steps": 4, "batch_size": 2, "log_every": 1, "validate_every": 2, "device": "cpu"}
    settings |= {"target_chunk_length": [2.0, 2.0]}
    config = TrainConfig(shards=str(folder / "shards"), model=MODEL, **settings)
    Trainer(config, folder / "run").run(False, False)
    metrics = evaluate(folder / "run", folder / "shards", device="cpu", orders=(1, 2))
    write_metrics(metrics, folder / "metrics.json")
    _write_variants(folder / "in.vcf", Reference(fasta))
    outputs = folder / "scored.vcf.gz", folder / "scores.parquet"
    options = {"window": 32, "parquet": outputs[1], "device": "cpu"}
    score_vcf(str(folder / "in.vcf"), fasta, folder / "run", str(outputs[0]), **options)
    return Results(folder / "run", fasta, folder / "metrics.json", *outputs)


def _write_variants(path: Path, reference: Reference) -> None:
    """Two alleles at each of 40 places, every tenth without a measurement, and records that have no score."""
    draw, lines = random.Random(4), []
    for position in range(101, 141):
        ref = reference.fetch("c&1$x$", position - 1, position)
        alts = [letter for letter in "ACGT" if letter != ref][:2]
        fitness = ["." if position % 10 == 0 else f"{draw.gauss(0, 1):.3f}" for _ in alts]
        classes = [CLASSES[position % 3], CLASSES[(position + 1) % 3]]
        info = f"FITNESS={','.join(fitness)};CLASS={','.join(classes)};DEPTH=3"
        lines.append(f"c&1$x$\t{position}\t.\t{ref}\t{','.join(alts)}\t.\t.\t{info}\n")
    lines.append(
        f"c&1$x$\t150\t.\t{reference.fetch('c&1$x$', 149, 150)}\t<DEL>\t.\t.\tFITNESS=1;CLASS=missense\n"
    )
    lines.append("elsewhere\t10\t.\tA\tC\t.\t.\tDEPTH=1\n")
    path.write_text(HEADER + "".join(lines))
