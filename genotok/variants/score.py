"""Scoring a VCF: every ALT allele gets a log-likelihood ratio, or a status that says why it has none."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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
from genotok.variants.fields import DEFAULT_FIELDS, ScoreField, Value, chosen_fields, info_text
from genotok.variants.judge import Judge
from genotok.variants.masked_pool import masked_way
from genotok.variants.pool import default_batch_size
from genotok.variants.scoring_pool import Pool, scoring_pool
from genotok.variants.table import ScoreTable, open_table
from genotok.variants.vcf_header import with_scores
from genotok.variants.vcf_input import INFO, Record, VcfInput, open_vcf
from genotok.variants.vcf_output import VcfBody, open_vcf_output, output_kind

PORTION_BATCHES = 32  # windows of so many batches are pooled
PORTION_BYTES = 1 << 26  # of records: those with many thousand samples are long
CHOICES = {
    "strands": ("both", "forward"),
    "ref_mismatch": ("error", "skip", "use-vcf"),
    "precision": ("auto", "fp32", "bf16"),
}

T = TypeVar("T")


@dataclass
class Allele:
    """One ALT allele: its status, the places of its pairs of windows in the pool, and what was found of each.

    `found` holds the ratio and the optional fields of each strand.
    """

    status: str
    pairs: list[int] = field(default_factory=list)
    found: list[list[float]] = field(default_factory=list)

    def values(self, fields: Sequence[ScoreField]) -> list[Value]:
        """What the fields hold, numbers to 6 significant digits; None for what is not there."""
        optional = len(fields) - len(DEFAULT_FIELDS)
        if not self.found:
            return [None, None, None, self.status, *[None] * optional]
        forward, reverse = (*(ratio for ratio, *_ in self.found), None)[:2]
        llr, *means = (sum(strands) / len(strands) for strands in zip(*self.found, strict=True))
        return [*map(_six_digits, (llr, forward, reverse)), self.status, *map(_six_digits, means)]


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
    horizon: int | None = None,
    share_prefixes: bool = True,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
    command: str | None = None,
    masked: str | None = None,
    fields: Sequence[str] = (),
) -> dict[str, int]:
    """Score all ALT alleles of a VCF.

    LLR = ln p(ALT window) - ln p(REF window), summed over the certain nucleotides of the windows that
    `genotok.variants.windows` describes. `GENOTOK_LLR` is the mean of both strands. Tokens of several letters may
    differ along the whole window; the sums are over its letters nevertheless. What a model of masked tokens gives
    is defined in `genotok.variants.masked_pool`, and the optional fields in `genotok.variants.field_pool`.

    Args:
        vcf: a VCF (plain, gzip, BGZF) or BCF; `-` for standard input.
        reference: the FASTA that the variants were called against.
        model_folder: the model, causal or of masked tokens.
        output: `*.vcf.gz` (with an index), `*.vcf`, `*.bcf` (with an index), or `-` for text to standard output.
        window: letters a window.
        strands: `both` or `forward`.
        ref_mismatch: what a REF does that is not the FASTA's: `skip` gives the status `ref_mismatch`, so that
            one bad record does not end a run, `error` ends it, `use-vcf` scores with the record's REF in the
            place of the FASTA's letters.
        parquet: where to write a table as well.
        contig_aliases: a table of the VCF's and the FASTA's names of contigs, beyond what
            `genotok.genomes.contigs.match_contig` knows.
        horizon: letters behind each variant that count; None for all of the window.
        share_prefixes: whether a causal model reads what is in front of a variant once for all of its alleles.
        batch_size: windows a batch; None for a default by device. Scores do not depend on it.
        device: `auto`, `cpu`, `cuda` or a device of torch.
        precision: `fp32`, which `auto` means on every device here, or `bf16`. With bf16 learned boundaries
            move, and the scores with them: an untrained H-Net's then agreed with those of fp32 to r = 0.87
            only, at 1.4 times the speed.
        threads: threads on the CPU.
        command: the command line for the output's header.
        masked: how a model of masked tokens scores substitutions, `marginal` or `pseudo`; None for `marginal`
            where its tokenizer allows for it.
        fields: choices of optional fields, of `genotok.variants.fields.CHOICES`.

    Returns:
        status -> how many ALT alleles have it; a record without ALT counts once, as `missing`.

    Raises:
        InputError: an argument is out of range, a file cannot be read or written, REF differs and
            `ref_mismatch` is `error`, or the model gives no number. No output is left behind then.
    """
    began = time.monotonic()
    _check_choices(window, strands=strands, ref_mismatch=ref_mismatch, precision=precision)
    _check_outputs(vcf, output, parquet)
    wanted = chosen_fields(fields)
    torch.set_num_threads(threads)
    with ExitStack() as stack:
        source = stack.enter_context(open_vcf(vcf))
        fasta = stack.enter_context(Reference(reference))
        aliases = read_contig_aliases(contig_aliases, fasta) if contig_aliases else {}
        judge = Judge(fasta, window, strands == "both", ref_mismatch, aliases, horizon)
        _warn_of_other_lengths(source, judge)
        model = GenomicLM.from_pretrained(model_folder, choose_device(device))
        batch_size = batch_size or default_batch_size(model.device, window)
        precision = "bf16" if precision == "bf16" else "fp32"
        pool = scoring_pool(model, precision, batch_size, share_prefixes, masked, wanted)
        another_handle = Reference(reference)
        digest = in_background(lambda: another_handle.digest)

        def describe() -> None:
            name = f"{fasta.path.name} sha256:{digest.result()}"
            source.header.describe_scores(
                model.content_hash(), name, window, command, wanted, masked_way(model, masked)
            )

        if output == "-":
            describe()
        table = stack.enter_context(open_table(Path(parquet), wanted)) if parquet else None
        sink = stack.enter_context(open_vcf_output(output, source.header, judge.length_of))
        bar = stack.enter_context(progress("score", _record_count(vcf), "variants"))
        counts = _score_records(source, judge, pool, wanted, sink, table, bar)
        if output != "-":
            describe()
    _report(counts, judge, time.monotonic() - began)
    return counts


def _check_choices(window: int, **chosen: str) -> None:
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            raise InputError(f"{name}: is {value!r} and must be one of {', '.join(CHOICES[name])}")
    if window < 2:
        raise InputError(f"window: is {window} and must be at least 2")


def _check_outputs(vcf: str, output: str, parquet: Path | None) -> None:
    output_kind(output)
    files = [Path(path).resolve() for path in (vcf, output, parquet) if path and str(path) != "-"]
    for i, path in enumerate(files):
        if path in files[:i]:
            raise InputError(f"{path}: is named twice among input and outputs; give each a file of its own")


def _warn_of_other_lengths(source: VcfInput, judge: Judge) -> None:
    """Contigs of one name and two lengths tell of two assemblies."""
    for name, length in source.header.contigs.items():
        here = judge.length_of(name) if length else None
        if here and here != length:
            print(
                f"{source.label}: contig {name} has {length} letters there and {here} in "
                f"{judge.reference.path}; are they of one assembly?",
                file=sys.stderr,
            )
            return


def _record_count(vcf: str) -> int | None:
    """How many records an indexed file holds, for the time left; None where no index tells."""
    if vcf == "-" or not any(Path(f"{vcf}{suffix}").exists() for suffix in (".tbi", ".csi")):
        return None
    try:
        return int(bcftools.index("--nrecords", vcf))
    except (pysam.SamtoolsError, ValueError):
        return None


def in_background(work: Callable[[], T]) -> "Future[T]":
    """Start work on a thread that does not hold up the end of the program."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _score_records(
    source: Iterable[Record],
    judge: Judge,
    pool: Pool,
    fields: Sequence[ScoreField],
    sink: VcfBody,
    table: ScoreTable | None,
    bar: Progress,
) -> dict[str, int]:
    counts = Counter(dict.fromkeys(STATUSES, 0))
    for portion in _portions(source, judge, pool):
        scores = pool.scores().reshape(-1, 1 + len(fields) - len(DEFAULT_FIELDS))
        rows = []
        for record, alleles in portion:
            for allele in alleles:
                allele.found = [_numbers(scores[pair], record) for pair in allele.pairs]
            values = [allele.values(fields) for allele in alleles]
            record.columns[INFO] = with_scores(record.columns[INFO], info_text(fields, values))
            ref = record.ref.decode("utf-8", "replace")
            for alt, found in zip(record.alts, values, strict=True):
                rows.append((record.contig, record.position, ref, alt.decode("utf-8", "replace"), *found))
            counts.update(allele.status for allele in alleles)
            counts["missing"] += not alleles
        sink.write(record for record, _ in portion)
        if table:
            table.write(rows)
        bar.advance(len(portion))
    return dict(counts)


def _portions(
    source: Iterable[Record], judge: Judge, pool: Pool
) -> Iterator[list[tuple[Record, list[Allele]]]]:
    """Cut the records into portions, whose windows wait in the pool when a portion is given."""
    portion, size = [], 0
    for record in source:
        alleles = [
            Allele(status, [pool.add(pair) for pair in pairs]) for status, pairs in judge.judge(record)
        ]
        portion.append((record, alleles))
        size += sum(map(len, record.columns))
        if len(pool) >= PORTION_BATCHES * pool.batch_size or size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _numbers(found: np.ndarray, record: Record) -> list[float]:
    if not np.isfinite(found).all():
        raise InputError(
            f"{record.contig}:{record.position}: the model's likelihood there is no number; try precision fp32, "
            "or another checkpoint of the model"
        )
    return found.tolist()


def _six_digits(value: float | None) -> float | None:
    """A number as the VCF shows it, never -0."""
    return None if value is None else float(f"{value:.6g}") + 0.0


def _report(counts: dict[str, int], judge: Judge, seconds: float) -> None:
    said = ", ".join(f"{status} {count}" for status, count in counts.items() if count) or "no records"
    print(f"score: {said}; {seconds:.1f} s", file=sys.stderr)
    if judge.patched:
        print(f"score: REF of {judge.patched} records is not the FASTA's and was scored", file=sys.stderr)
    if judge.unknown_contigs:
        names = ", ".join(judge.unknown_contigs[:5]) + (" ..." if len(judge.unknown_contigs) > 5 else "")
        print(f"score: {judge.reference.path} has no contig {names}", file=sys.stderr)
