"""How many variants a second `genotok score` annotates, files included.

    python -m benchmarks.scoring --model hnet_1stage_dna --windows 512 8192 --variants 4000 --precision bf16

The FASTA and the VCF are drawn by chance, the model has random weights: neither changes the work. Each setting
is run twice, and the second time counts, so that compilation and reading from disk stay out; with prefixes read
once and with whole windows, which give the same scores but for rounding.
"""

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pysam
import torch

from benchmarks.machine import describe_run, write_result
from genotok.models import GenomicLM, ModelConfig
from genotok.variants.score import score_vcf

CONTIG_LENGTH = 2_000_000


def write_inputs(folder: Path, variants: int) -> tuple[Path, Path]:
    """A FASTA of one contig and a VCF of single-nucleotide variants on it, one ALT allele each."""
    random = np.random.default_rng(1)
    letters = random.choice(np.frombuffer(b"ACGT", np.uint8), CONTIG_LENGTH)
    fasta, vcf = folder / "genome.fa", folder / "variants.vcf"
    lines = letters.reshape(-1, 100)
    fasta.write_bytes(b">chr1\n" + b"".join(line.tobytes() + b"\n" for line in lines))
    places = np.sort(random.choice(CONTIG_LENGTH, variants, replace=False))
    with vcf.open("w") as file:
        file.write(f"##fileformat=VCFv4.3\n##contig=<ID=chr1,length={CONTIG_LENGTH}>\n")
        file.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for place in places:
            ref = chr(letters[place])
            alt = "ACGT".replace(ref, "")[place % 3]
            file.write(f"chr1\t{place + 1}\t.\t{ref}\t{alt}\t.\tPASS\t.\n")
    return fasta, vcf


def differences(whole: Path, shared: Path) -> dict[str, float]:
    """How far scores with shared prefixes are from those of whole windows, in nats; and how large these are."""
    found = []
    for path in (whole, shared):
        with pysam.VariantFile(str(path)) as file:
            found.append(np.array([record.info["GENOTOK_LLR"][0] for record in file]))
    gap, size = np.abs(found[0] - found[1]), np.abs(found[0])
    return {
        "largest_difference": float(gap.max()),
        "median_difference": float(np.median(gap)),
        "median_score": float(np.median(size)),
    }


def main() -> None:
    """Print one line a setting, and write all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hnet_1stage_dna", help="preset")
    parser.add_argument("--windows", type=int, nargs="+", default=[512])
    parser.add_argument("--variants", type=int, nargs="+", default=[2000], help="one number, or one a window")
    parser.add_argument("--precision", nargs="+", default=["fp32"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--result", type=Path, help="JSON file to write")
    options = parser.parse_args()
    counts = options.variants * (len(options.windows) if len(options.variants) == 1 else 1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(1)
        GenomicLM(ModelConfig.preset(options.model)).save_pretrained(folder / "model")
        for (window, variants), precision, shared in product(
            zip(options.windows, counts, strict=True), options.precision, (True, False)
        ):
            fasta, vcf = write_inputs(folder, variants)
            settings = {"window": window, "precision": precision, "share_prefixes": shared}
            for _ in range(2):
                began = time.perf_counter()
                scored = folder / f"scored_{window}_{precision}_{shared}.vcf.gz"
                scored.unlink(missing_ok=True)
                score_vcf(
                    str(vcf),
                    fasta,
                    folder / "model",
                    str(scored),
                    device=options.device,
                    threads=options.threads,
                    **settings,
                )
                seconds = time.perf_counter() - began
            rows.append(
                {**settings, "variants": variants, "seconds": seconds, "per_second": variants / seconds}
            )
            if not shared:  # behind the other way
                rows[-1] |= differences(scored, folder / f"scored_{window}_{precision}_True.vcf.gz")
            print(json.dumps(rows[-1]), flush=True)
    if options.result:
        write_result(options.result, describe_run(options.device) | {"model": options.model, "rows": rows})


if __name__ == "__main__":
    main()
