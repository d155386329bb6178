"""Models, and scoring in one call."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from variant_files import read_scores, scoring_model, write_fasta, write_vcf

from genotok.models import GenomicLM
from genotok.variants.score import score_vcf


@pytest.fixture(scope="session")
def model() -> GenomicLM:
    return scoring_model("nucleotide")


@pytest.fixture(scope="session")
def byte_model() -> GenomicLM:
    return scoring_model("byte")


@pytest.fixture(scope="session")
def model_folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def byte_model_folder(byte_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("byte_model")
    byte_model.save_pretrained(folder)
    return folder


@pytest.fixture
def score(tmp_path, model_folder):
    """Scores records on contigs; returns the records read back. `score.counts` and `score.table` are of the last."""

    def run(contigs: dict[str, str], records: list[tuple], meta: str = "", folder=model_folder, **options):
        fasta = write_fasta(tmp_path / "genome.fa", contigs)
        vcf = write_vcf(tmp_path / "in.vcf", records, meta)
        options = {"window": 32, "threads": 1, "parquet": tmp_path / "scores.parquet"} | options
        run.counts = score_vcf(str(vcf), fasta, folder, str(tmp_path / "out.vcf"), **options)
        run.table = pq.read_table(tmp_path / "scores.parquet").to_pylist()
        return read_scores(tmp_path / "out.vcf")

    return run
