"""How far scores in bf16 are from those in fp32: `python -m benchmarks.score_precision`, from the repository's root.

Scores the same real variants, of SARS-CoV-2, in both precisions with each model, and compares them allele by allele.
A model is a folder, or a preset, which gets random weights; `tiny` is a small H-Net of random weights, whose learned
boundaries rounding can move.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pysam
import torch
from scipy.stats import spearmanr

from benchmarks.cpu import tiny_model
from benchmarks.machine import describe_run, write_result
from genotok.genomes.fasta import compress_to_bgzf
from genotok.models import GenomicLM, ModelConfig
from genotok.variants.score import score_vcf

RESULTS = Path(__file__).parent / "results"
RESOURCES = Path(__file__).parents[1] / "resources"
GENOME = RESOURCES / "genomes" / "sars_cov_2.fa.gz"
VARIANTS = RESOURCES / "variants" / "sars_cov_2_fitness_sample.vcf.gz"


def write_variants(path: Path, number: int) -> None:
    """Every so many-th record of the variants, so that about `number` are left."""
    with pysam.VariantFile(str(VARIANTS)) as source:
        records = [str(record) for record in source]
        path.write_text(str(source.header) + "".join(records[:: max(1, len(records) // number)]))


def model_folder(name: str, folder: Path) -> Path:
    """The folder of a model; one of random weights is written first."""
    if Path(name).is_dir():
        return Path(name)
    torch.manual_seed(1)
    model = tiny_model() if name == "tiny" else GenomicLM(ModelConfig.preset(name))
    model.save_pretrained(folder / "model")
    return folder / "model"


def agreement(exact: np.ndarray, rounded: np.ndarray) -> dict[str, float]:
    """How scores (n,) and those in lower precision agree; differences in nats."""
    error = np.abs(exact - rounded)
    return {
        "alleles": len(exact),
        "pearson": float(np.corrcoef(exact, rounded)[0, 1]),
        "spearman": float(spearmanr(exact, rounded).statistic),
        "same_sign": float((np.sign(exact) == np.sign(rounded)).mean()),
        "median_score": float(np.median(np.abs(exact))),
        "median_difference": float(np.median(error)),
        "largest_difference": float(error.max()),
    }


def compare(name: str, variants: int, window: int, device: str) -> dict[str, float]:
    """The scores of one model in both precisions."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_variants(folder / "in.vcf", variants)
        fasta, model = compress_to_bgzf(GENOME, folder / "genome.fa.gz"), model_folder(name, folder)
        scores = {}
        for precision in ("fp32", "bf16"):
            table = folder / f"{precision}.parquet"
            score_vcf(
                str(folder / "in.vcf"), fasta, model, str(folder / "out.vcf"), parquet=table, window=window,
                device=device, precision=precision, threads=1, share_prefixes=False,
            )  # fmt: skip
            scores[precision] = np.array(pq.read_table(table)["llr"].drop_null())
    return agreement(scores["fp32"], scores["bf16"])


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.score_precision", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", nargs="+", default=["entropy_dna", "tiny"], help="folders or presets")
    parser.add_argument("--variants", type=int, default=40)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "score_precision_cpu.json")
    options = parser.parse_args()
    figures = {
        name: compare(name, options.variants, options.window, options.device) for name in options.model
    }
    write_result(options.output, describe_run(options.device) | {"figures": figures})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
