"""How fast the CPU does its part: `python -m benchmarks.cpu {vcf,tokenize,load}` in the repository's root.

`tokenize` makes a genome of `--bases` letters by repeating the real contigs of `resources/`, turns it into shards
in a process of its own, and gives letters a second, letters a second of processor time, and the peak of memory.
Beside it stand a loop over pyfaidx and Hugging Face's `tokenizers` on the same windows of `--beside` letters, which
write nothing, and the rates of tokenizers on letters in memory. It needs some 2.3 bytes of disk a letter in
`--folder`.

`load` reads shards of `--beside` letters in a shuffled order: ids alone, and batches as training takes them, in one
process.

`vcf` makes a genome and a VCF of random variants, nine in ten of them single-nucleotide variants, and scores it

- with a constant in the place of the scores: reading, judging, windows, encoding, finding equal windows, writing of
  VCF.gz (and of the table with `--table`);
- with a constant in the place of the model: batches are made as well, up to the int64 tensors that the model takes
  (on a GPU it is the GPU that widens them);
- with a tiny real model, on fewer variants.

Rates are variants a second from the first record read to the last record written; the time to start processes, to
load the model and to index the output is given beside them. Other work on the machine lowers the rates: the
processor time in all, and the load before, tell how much to make of them.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from benchmarks import cpu_sequences
from benchmarks.machine import describe_run, write_result
from genotok.models import GenomicLM, ModelConfig
from genotok.variants import score as scoring
from genotok.variants.plans import PrefixPlan
from genotok.variants.prefix_pool import PrefixPool, make_pool

RESULTS = Path(__file__).parent / "results"
HEADER = "##fileformat=VCFv4.2\n##contig=<ID=c>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


class ConstantScores(PrefixPool):
    """Takes plans as they come; each pair scores 0."""

    def scores(self, plan: PrefixPlan) -> np.ndarray:
        return np.zeros(len(plan))


class ConstantModel(PrefixPool):
    """Makes batches as well, up to the tensors that a model takes."""

    def _sums(self, plan: PrefixPlan, begin: int, end: int) -> torch.Tensor:
        _, rows, _ = self._batch(plan, begin, end)
        return torch.zeros(len(rows), dtype=torch.float64)


def constant(kind: type[PrefixPool]) -> Callable[..., PrefixPool]:
    """What makes such a pool in the place of `make_pool`."""
    return lambda model, precision, batch_size, share_prefixes: kind(model, precision, batch_size)


def write_genome(path: Path, letters: int, seed: int = 1) -> bytes:
    """Write a FASTA of one contig `c` of random letters; returns these."""
    drawn = np.random.default_rng(seed).integers(0, 4, letters)
    text = np.frombuffer(b"ACGT", np.uint8)[drawn].tobytes()
    lines = b"\n".join(text[i : i + 60] for i in range(0, letters, 60))
    path.write_bytes(b">c\n" + lines + b"\n")
    return text


def write_variants(path: Path, genome: bytes, number: int, seed: int = 2) -> None:
    """Write a VCF of `number` sorted variants, every tenth a deletion or an insertion."""
    places = np.sort(np.random.default_rng(seed).integers(1000, len(genome) - 1000, number)).tolist()
    text = genome.decode()
    with open(path, "w") as sink:
        sink.write(HEADER)
        for i, place in enumerate(places):
            ref, alt = text[place], "ACGT".replace(text[place], "")[i % 3]
            if i % 20 == 9:
                ref, alt = text[place : place + 3], text[place]
            elif i % 20 == 19:
                alt = text[place] + "GAT"
            info = f"AC={i % 9};AF=0.{i % 1000:03d};AN=5008;DP={i % 90};NS=2504"
            sink.write(f"c\t{place + 1}\trs{i}\t{ref}\t{alt}\t{30 + i % 50}.5\tPASS\t{info}\n")


def tiny_model() -> GenomicLM:
    """A model of one chunking stage, some 40 thousand weights."""
    torch.manual_seed(7)
    return GenomicLM(
        ModelConfig(
            layout=["m1", ["T1"], "m1"],
            d_model=[32, 32],
            d_intermediate=[0, 64],
            attention={"heads": 2, "rotary_dim": 8, "window": -1},
            mamba2={"d_state": 8, "head_dim": 16, "chunk_size": 16},
        )
    )


@contextmanager
def timed_line() -> Iterator[dict[str, float]]:
    """Within the block, note how long the blocks of records took, from first to last, in `seconds`."""
    found: dict[str, float] = {}
    run = scoring._Line.run

    def timed(line, blocks):
        began = time.perf_counter()
        run(line, blocks)
        found["seconds"] = time.perf_counter() - began

    with mock.patch.object(scoring._Line, "run", timed):
        yield found


def cpu_seconds() -> float:
    """Time that this process and its ended children have spent on any core."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def measure(
    folder: Path, vcf: Path, variants: int, pool: Callable, options: argparse.Namespace, batch: int
) -> dict:
    """Score a VCF; returns the figures."""
    table = folder / "scores.parquet" if options.table else None
    before, used_before = time.perf_counter(), cpu_seconds()
    with mock.patch("genotok.variants.scoring_pool.make_pool", pool), timed_line() as timed:
        scoring.score_vcf(
            str(vcf), folder / "g.fa", folder / "model", str(folder / "out.vcf.gz"), device="cpu",
            window=options.window, workers=options.workers, batch_size=batch, threads=1, parquet=table,
        )  # fmt: skip
    whole, used = time.perf_counter() - before, cpu_seconds() - used_before
    return {
        "variants": variants,
        "variants_per_second": round(variants / timed["seconds"]),
        "seconds": round(timed["seconds"], 3),
        "seconds_beside": round(whole - timed["seconds"], 3),
        "cpu_seconds_in_all": round(used, 3),
    }


def vcf(options: argparse.Namespace) -> dict:
    """All figures of the scoring of a VCF."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        genome = write_genome(folder / "g.fa", options.letters)
        tiny_model().save_pretrained(folder / "model")
        figures = {}
        pools = {
            "constant_scores": constant(ConstantScores),
            "constant_model": constant(ConstantModel),
            "tiny_model": make_pool,
        }
        for label, pool in pools.items():
            number = options.tiny if pool is make_pool else options.variants
            write_variants(folder / "in.vcf", genome, number)
            batch = 16 if pool is make_pool else options.batch_size
            runs = [
                measure(folder, folder / "in.vcf", number, pool, options, batch)
                for _ in range(1 if pool is make_pool else options.repeats)
            ]
            figures[label] = max(runs, key=lambda run: run["variants_per_second"])
            figures[label]["all_runs"] = [run["variants_per_second"] for run in runs]
    return figures


MEASURED = {"vcf": vcf, "tokenize": cpu_sequences.tokenize, "load": cpu_sequences.load}


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu")
    parser.add_argument("what", choices=list(MEASURED))
    parser.add_argument(
        "--bases", type=lambda text: int(float(text)), default=200_000_000, help="of `tokenize`"
    )
    parser.add_argument("--beside", type=lambda text: int(float(text)), default=20_000_000)
    parser.add_argument("--folder", type=Path, help="for what is made and removed again")
    parser.add_argument("--variants", type=int, default=200_000)
    parser.add_argument("--tiny", type=int, default=1000, help="variants that the tiny model scores")
    parser.add_argument("--letters", type=int, default=20_000_000, help="of the genome")
    parser.add_argument("--window", type=int, help="512 for `vcf`, else 8192")
    parser.add_argument("--batch-size", type=int, help="256 for `vcf`, else 16")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="write Parquet as well")
    parser.add_argument("-o", "--output", type=Path, help="JSON  [default: results/cpu_{what}.json]")
    options = parser.parse_args()
    options.output = options.output or RESULTS / f"cpu_{options.what}.json"
    options.window = options.window or (512 if options.what == "vcf" else 8192)
    options.batch_size = options.batch_size or (256 if options.what == "vcf" else 16)
    load = round(os.getloadavg()[0], 2)
    figures = MEASURED[options.what](options)
    about = describe_run("cpu") | {"cores": len(os.sched_getaffinity(0)), "load_before": load}
    write_result(options.output, about | {"figures": figures})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
