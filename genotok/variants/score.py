"""Scoring a VCF: every ALT allele gets a log-likelihood ratio, or a status that says why it has none."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pysam
import torch
from pysam import bcftools

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.models import GenomicLM
from genotok.progress import Progress, progress
from genotok.training.precision import choose_device
from genotok.variants.alleles import STATUSES
from genotok.variants.contig_aliases import read_contig_aliases
from genotok.variants.judge import Judge
from genotok.variants.pool import WindowPool
from genotok.variants.table import Row, ScoreTable, open_table
from genotok.variants.vcf_header import LLR, LLR_FORWARD, LLR_REVERSE, STATUS, VcfHeader, with_scores
from genotok.variants.vcf_input import INFO, Record, VcfInput, open_vcf, quiet_htslib
from genotok.variants.vcf_output import VcfBody, open_vcf_output, output_kind

POOL_WINDOWS = 1 << 13
POOL_BYTES = 1 << 26  # of records: those with many thousand samples are long
CHOICES = {
    "strands": ("both", "forward"),
    "ref_mismatch": ("error", "skip", "use-vcf"),
    "precision": ("auto", "fp32", "bf16"),
}


@dataclass
class Allele:
    """One ALT allele: its status, the pool's rows of its (REF, ALT) windows, and the ratio on each strand."""

    status: str
    rows: list[tuple[int, int]] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def numbers(self) -> tuple[float | None, float | None, float | None]:
        """The mean, the forward and the reverse ratio, to 6 significant digits; None for what is not there."""
        if not self.ratios:
            return None, None, None
        forward, reverse = (*self.ratios, None)[:2]
        return _six_digits(sum(self.ratios) / len(self.ratios)), _six_digits(forward), _six_digits(reverse)


def score_vcf(
    vcf: str,
    reference: Path,
    model_folder: Path,
    output: str,
    *,
    window: int = 512,
    strands: str = "both",
    ref_mismatch: str = "skip",
    parquet: Path | None = None,
    contig_aliases: Path | None = None,
    batch_tokens: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
    command: str | None = None,
) -> dict[str, int]:
    """Score all ALT alleles of a VCF.

    LLR = ln p(ALT window) - ln p(REF window), summed over the certain nucleotides of the windows that
    `genotok.variants.windows` describes. `GENOTOK_LLR` is the mean of both strands.

    Args:
        vcf: a VCF (plain, gzip, BGZF) or BCF; `-` for standard input.
        reference: the FASTA that the variants were called against.
        model_folder: a causal model.
        output: `*.vcf.gz` (with an index), `*.vcf`, `*.bcf` (with an index), or `-` for text to standard output.
        window: letters a window.
        strands: `both` or `forward`.
        ref_mismatch: what a REF does that is not the FASTA's: `skip` gives the status `ref_mismatch`, so that
            one bad record does not end a run, `error` ends it, `use-vcf` scores with the record's REF in the
            place of the FASTA's letters.
        parquet: where to write a table as well.
        contig_aliases: a table of the VCF's and the FASTA's names of contigs, beyond what
            `genotok.genomes.contigs.match_contig` knows.
        batch_tokens: most tokens a batch; None for a default by device. Scores do not depend on it.
        device: `auto`, `cpu`, `cuda` or a device of torch.
        precision: `auto` (bf16 on a GPU, fp32 elsewhere), `fp32` or `bf16`.
        threads: threads on the CPU.
        command: the command line for the output's header.

    Returns:
        status -> how many ALT alleles have it; a record without ALT counts once, as `missing`.

    Raises:
        InputError: an argument is out of range, a file cannot be read or written, REF differs and
            `ref_mismatch` is `error`, or the model gives no number. No output is left behind then.
    """
    began = time.monotonic()
    _check_choices(strands=strands, ref_mismatch=ref_mismatch, precision=precision)
    if window < 2:
        raise InputError(f"window: is {window} and must be at least 2")
    _check_outputs(vcf, output, parquet)
    torch.set_num_threads(threads)
    with ExitStack() as stack:
        source = stack.enter_context(open_vcf(vcf))
        fasta = stack.enter_context(Reference(reference))
        digest = stack.enter_context(ThreadPoolExecutor(1)).submit(_digest, fasta.path)
        aliases = read_contig_aliases(contig_aliases, fasta) if contig_aliases else {}
        judge = Judge(fasta, window, strands == "both", ref_mismatch, aliases)
        _warn_of_other_lengths(source.header, judge)
        model = GenomicLM.from_pretrained(model_folder, choose_device(device))
        source.header.describe_scores(
            model.content_hash(), f"{fasta.path.name} sha256:{digest.result()}", window, command
        )
        sink = stack.enter_context(open_vcf_output(output, source.header, judge.length_of))
        table = stack.enter_context(open_table(Path(parquet))) if parquet else None
        bar = stack.enter_context(progress("score", _record_count(vcf), "variants"))
        pool = WindowPool(model, precision, batch_tokens)
        counts = _score_records(source, judge, pool, sink, table, bar)
    _report(counts, judge, time.monotonic() - began)
    return counts
