"""The horizon: what it leaves out, and that the run says so."""

import re

import numpy as np
import pytest
from variant_files import read_scores, write_fasta, write_vcf

from genotok.variants.score import score_vcf

LETTERS = "".join("ACGT"[(5 * i * i + i // 3) % 4] for i in range(400))
RECORDS = [
    ("c", pos, LETTERS[pos - 1], "ACGT".replace(LETTERS[pos - 1], "")[pos % 3]) for pos in range(50, 350, 5)
]


@pytest.mark.parametrize("horizon", [0, 3, 1000])
def test_the_error_is_said(tmp_path, model_folder, capsys, horizon):
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS})
    vcf = write_vcf(tmp_path / "in.vcf", RECORDS)
    scores = {}
    for name, settings in (("near", {"horizon": horizon}), ("far", {})):
        out = tmp_path / f"{name}.vcf.gz"
        score_vcf(str(vcf), fasta, model_folder, str(out), window=32, threads=1, **settings)
        rows = read_scores(out)
        scores[name] = np.array([[row.forward, row.reverse] for row in rows])
    error = np.abs(scores["near"] - scores["far"])
    said = re.search(
        r"horizon (\d+): (\d+) of .* by (\S+) nats in the median and (\S+) at most", capsys.readouterr().err
    )
    assert (int(said[1]), int(said[2])) == (horizon, error.size)
    assert float(said[3]) == pytest.approx(np.median(error), rel=0.05, abs=1e-5)
    assert float(said[4]) == pytest.approx(error.max(), rel=0.05, abs=1e-5)
    assert (error.max() > 1e-3) == (horizon < 1000)


def test_nothing_is_said_without_scores(tmp_path, model_folder, capsys):
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS})
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 50, LETTERS[49], "<DEL>")])
    score_vcf(str(vcf), fasta, model_folder, str(tmp_path / "o.vcf"), window=32, threads=1, horizon=2)
    assert "score: no allele has a score" in capsys.readouterr().err
