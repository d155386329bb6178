"""Scoring a VCF: every ALT allele gets a log-likelihood ratio, or a status that says why it has none."""

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pysam
from pysam import bcftools

import genotok
from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.progress import progress
from genotok.variants.alleles import STATUSES
from genotok.variants.blocks import Desk, Task
from genotok.variants.contig_aliases import read_contig_aliases
from genotok.variants.fields import HAPLOTYPE_FIELDS, chosen_fields
from genotok.variants.haplotypes import HAPLOTYPE_STATUSES, UNPHASED, phased_blocks, reach, sample_column
from genotok.variants.horizon import horizon_report, remembering
from genotok.variants.judge import Judge
from genotok.variants.model_desk import ModelDesk, ModelTask, ModelTraits
from genotok.variants.plans import PlanTask
from genotok.variants.preconditions import model_files
from genotok.variants.processes import Child, Helper, Here, ended_by_sigterm
from genotok.variants.same_files import refuse_same_files
from genotok.variants.saturation import Saturation
from genotok.variants.scoring_line import ScoringLine
from genotok.variants.table import open_table
from genotok.variants.unfinished import open_journal
from genotok.variants.vcf_header import VcfHeader
from genotok.variants.vcf_input import Block, VcfInput, open_vcf
from genotok.variants.vcf_output import open_vcf_output, output_kind

BLOCK_BATCHES = 32  # windows of so many batches are pooled
BLOCK_BYTES = 1 << 23  # of records: those with many thousand samples are long
SUSPICIOUS = 0.1  # share of alleles whose REF is not the FASTA's; assemblies have far fewer errors
CHOICES = {
    "strands": ("both", "forward"),
    "ref_mismatch": ("error", "skip", "use-vcf"),
    "precision": ("auto", "fp32", "bf16"),
    "unphased": UNPHASED,
}

T = TypeVar("T")


def score_vcf(
    vcf: str | Saturation,
    reference: Path,
    model_folder: Path,
    output: str,
    *,
    window: int = 512,
    strands: str = "both",
    ref_mismatch: str = "skip",
    parquet: Path | None = None,
    contig_aliases: Path | None = None,
    haplotypes: str | None = None,
    unphased: str = "skip",
    horizon: int | None = None,
    share_prefixes: bool | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
    workers: int | None = None,
    resume: bool = False,
    command: str | None = None,
    masked: str | None = None,
    fields: Sequence[str] = (),
) -> dict[str, int]:
    """Score all ALT alleles of a VCF.

    LLR = ln p(ALT window) - ln p(REF window), summed over the certain nucleotides of the windows that
    `genotok.variants.windows` describes. `GENOTOK_LLR` is the mean of both strands. Tokens of several letters may
    differ along the whole window; the sums are over its letters nevertheless. What a model of masked tokens
    gives is defined in `genotok.variants.masked_pool`, and the optional fields in `genotok.variants.field_pool`.

    Args:
        vcf: a VCF (plain, gzip, BGZF) or BCF; `-` for standard input; or regions whose every variant is scored.
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
        haplotypes: a sample on whose haplotypes alleles are scored as well, see `genotok.variants.haplotypes`; the
            VCF must be sorted.
        unphased: what an unphased heterozygous genotype of that sample does: `skip` gives a status, `error` raises.
        horizon: letters behind each variant that count; None for all of the window.
        share_prefixes: whether a causal model reads what is in front of a variant once for all of its alleles;
            None for where it is faster, which is in float32 (on an H200 in bf16 whole windows are 1.6 times faster).
        batch_size: windows a batch; None for a default by device. Scores do not depend on it but for rounding.
        device: `auto`, `cpu`, `cuda` or a device of torch; several, separated by commas, each get a process and
            the model.
        precision: `fp32`, which `auto` means on every device here, or `bf16`. With bf16 learned boundaries
            move, and the scores with them: an untrained H-Net's then agreed with those of fp32 to r = 0.87
            only, at 1.4 times the speed.
        threads: threads on the CPU, for each model.
        workers: processes that read records and make windows of them; 0 has it done in this process, None means
            0 where the model is on the CPU, else 2 for each device. The output does not depend on it.
        resume: go on where an earlier run with the same arguments was interrupted, see
            `genotok.variants.unfinished`; the output has the bytes of an undisturbed run. Without it everything
            is scored, and what such a run left is replaced.
        command: the command line for the output's header.
        masked: how a model of masked tokens scores substitutions, `marginal` or `pseudo`; None for `marginal`
            where its tokenizer allows for it.
        fields: choices of optional fields, of `genotok.variants.fields.CHOICES`.

    Returns:
        status -> how many ALT alleles have it; a record without ALT counts once, as `missing`.

    Raises:
        InputError: an argument is out of range, a file cannot be read or written, REF differs and
            `ref_mismatch` is `error`, the model gives no number, a process was lost, or there is nothing of the
            same run to be resumed. No output is left behind then.
    """
    began = time.monotonic()
    _check_choices(
        window, workers, strands=strands, ref_mismatch=ref_mismatch, precision=precision, unphased=unphased
    )
    output_kind(output)
    given = None if isinstance(vcf, Saturation) else vcf
    refuse_same_files((given, reference, contig_aliases, *model_files(model_folder)), (output, parquet))
    _check_resumable(vcf, output, resume)
    wanted = chosen_fields(fields)
    with ExitStack() as stack:
        stack.enter_context(ended_by_sigterm())
        fasta = stack.enter_context(Reference(reference))
        source = vcf.open(fasta) if isinstance(vcf, Saturation) else stack.enter_context(open_vcf(vcf))
        aliases = read_contig_aliases(contig_aliases, fasta) if contig_aliases else {}
        task = Task(
            source.label, source.columns, reference, window, strands == "both", ref_mismatch, aliases, horizon,
            haplotypes, sample_column(haplotypes, source.header.samples), unphased, parquet is not None, wanted,
        )  # fmt: skip
        if haplotypes is not None:
            _refuse_bare_piece(source, window)
        judge = task.judge(fasta)
        _warn_of_other_lengths(source, judge)
        precision = "bf16" if precision == "bf16" else "fp32"
        share_prefixes = precision == "fp32" if share_prefixes is None else share_prefixes
        model_task = ModelTask(
            model_folder, precision, window, batch_size, share_prefixes, threads, masked, wanted
        )
        models = _models(stack, device.split(","), model_task)
        model: ModelTraits = models[0].submit("traits").result()
        workers = _default_workers(model, models) if workers is None else workers
        desks = _desks(stack, task, model.plans, workers)
        settings = (window, command, wanted, model.masked, haplotypes)
        describe = _describer(source.header, reference, model.content_hash, *settings)
        journal = None
        if "-" not in (vcf, output):
            identity = _identity(vcf, source, fasta, model, task, model_task)
            outputs = [Path(path) for path in (output, parquet) if path]
            journal = stack.enter_context(open_journal(outputs, identity, resume))
        if output == "-":
            describe()
        columns = (*wanted, *HAPLOTYPE_FIELDS) if haplotypes else wanted
        table = stack.enter_context(open_table(Path(parquet), columns)) if parquet else None
        sink = stack.enter_context(open_vcf_output(output, source.header, judge.length_of))
        bar = stack.enter_context(progress("score", _record_count(vcf, fasta), "variants"))
        line = ScoringLine(desks, models, sink, table, bar, journal, model.batch_size, task.values)
        first: list[Block] = []
        line.run(_blocks(source, task, judge, _block_alleles(model, task.both_strands), first))
        if output != "-":
            describe()
        if horizon is not None and first:
            _say_horizon(first[0], task, fasta, model, models[0])
    _report(line, judge.reference, haplotypes, time.monotonic() - began)
    return dict(line.counts)


def _check_choices(window: int, workers: int | None, **chosen: str) -> None:
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            raise InputError(f"{name}: is {value!r} and must be one of {', '.join(CHOICES[name])}")
    if window < 2:
        raise InputError(f"window: is {window} and must be at least 2")
    if workers is not None and workers < 0:
        raise InputError(f"workers: is {workers} and must be at least 0")


def _check_resumable(vcf: str | Saturation, output: str, resume: bool) -> None:
    if resume and vcf == "-":
        raise InputError("standard input cannot be read again, so that there is no resuming; give a file")
    if resume and output == "-":
        raise InputError("standard output cannot be written again, so that there is no resuming; name a file")


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


def _refuse_bare_piece(source: VcfInput, window: int) -> None:
    """A piece of a VCF must hold the neighbours of its records, or scores would depend on where it was cut."""
    piece, needed = source.piece, reach(window)
    if piece and piece.context < needed:
        raise InputError(
            f"{source.label}: is a piece that holds records of {piece.context} letters around its own, and "
            f"--haplotypes with this window needs those of {needed}; cut with: genotok vcf split --context {needed}"
        )


def _record_count(vcf: str | Saturation, reference: Reference) -> int | None:
    """How many records an indexed file holds, for the time left; None where no index tells."""
    if isinstance(vcf, Saturation):
        return vcf.count(reference)
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


def _models(stack: ExitStack, devices: list[str], task: ModelTask) -> list[Helper]:
    """The model on each device: in this process where there is one device, else in processes of their own."""
    if len(devices) == 1:
        return [Here(ModelDesk(task, devices[0]))]
    models = []
    for device in devices:
        child = Child(f"the model's process on {device}", ModelDesk, task, device)
        stack.callback(child.close)
        models.append(child)
    return models


def _default_workers(model: ModelTraits, models: list[Helper]) -> int:
    return 0 if model.device == "cpu" else 2 * len(models)


def _desks(stack: ExitStack, task: Task, plans: PlanTask, workers: int) -> list[Helper]:
    if workers == 0:
        return [Here(Desk(task, plans))]
    desks = []
    for number in range(1, workers + 1):
        child = Child(f"worker process {number}", Desk, task, plans)
        stack.callback(child.close)
        desks.append(child)
    return desks


def _describer(header: VcfHeader, reference: Path, model_hash: str, *settings: Any) -> Callable[[], None]:
    """A call that writes into the header what scored; the FASTA's digest, which takes a while, is begun at once."""
    handle = Reference(reference)
    digest = in_background(lambda: handle.digest)
    return lambda: header.describe_scores(
        model_hash, f"{handle.path.name} sha256:{digest.result()}", *settings
    )


def _blocks(source: VcfInput, task: Task, judge: Judge, alleles: int, first: list[Block]) -> Iterable[Block]:
    """The records in blocks of so many alleles; `first` takes the first block, but not of haplotypes."""
    phaser = task.phaser(judge)
    if phaser:
        return phased_blocks(source.own(phaser.phased(source.with_context())), alleles, BLOCK_BYTES)
    return remembering(source.blocks(alleles, BLOCK_BYTES), first)


def _say_horizon(block: Block, task: Task, reference: Reference, model: ModelTraits, helper: Helper) -> None:
    said = horizon_report(
        block, task, reference, model.plans, lambda plan: helper.submit("scores", plan).result()[0]
    )
    print(f"score: {said}" if said else "score: no allele has a score", file=sys.stderr)


def _block_alleles(model: ModelTraits, both_strands: bool) -> int:
    """How many ALT alleles make a block, so that its windows fill `BLOCK_BATCHES` batches."""
    return max(1, BLOCK_BATCHES * model.batch_size // (4 if both_strands else 2))


def _identity(
    vcf: str | Saturation,
    source: VcfInput,
    fasta: Reference,
    model: ModelTraits,
    task: Task,
    model_task: ModelTask,
) -> dict[str, Any]:
    """What scores, and the ends of blocks, depend on."""
    files: dict[str, list[Any]] = {"VCF": [], "reference": []}
    for key, path in (("VCF", vcf), ("reference", fasta.path)):
        if isinstance(path, Saturation):
            files[key] += map(list, path.regions)
        else:
            about = Path(path).stat()
            files[key] += [about.st_size, about.st_mtime_ns]
    files["VCF"].append(hashlib.sha256(source.header.to_bytes()).hexdigest())
    options = task._asdict() | model_task._asdict() | {"model": model.content_hash, "device": model.device}
    for about_files_or_speed in ("label", "columns", "reference", "with_rows", "folder", "threads"):
        del options[about_files_or_speed]
    options |= {"genotok": genotok.__version__, "batch_size": model.batch_size, "masked": model.masked}
    options["fields"] = [field.column for field in task.fields]
    return {key.replace("_", " "): value for key, value in sorted(options.items())} | files


def _report(line: ScoringLine, reference: Reference, sample: str | None, seconds: float) -> None:
    print(f"score: {_counted(line.counts) or 'no records'}; {seconds:.1f} s", file=sys.stderr)
    if line.on_haplotypes:
        in_order = {status: line.on_haplotypes[status] for status in (*HAPLOTYPE_STATUSES, *STATUSES[1:])}
        print(f"score: on the haplotypes of {sample}: {_counted(in_order)}", file=sys.stderr)
    other, same = line.counts["ref_mismatch"], line.counts["ok"]
    if other > SUSPICIOUS * (other + same):
        print(
            f"score: REF is not what {reference.path} has for {other / (other + same):.0%} of the alleles; "
            "is it the assembly that the variants were called against?",
            file=sys.stderr,
        )
    if line.patched:
        print(f"score: REF of {line.patched} records is not the FASTA's and was scored", file=sys.stderr)
    if line.unknown_contigs:
        print(
            f"score: {reference.path} has no contig {_some(line.unknown_contigs)}, but {_some(reference.contigs)}; "
            "where these are other names of the same, see --contig-aliases",
            file=sys.stderr,
        )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{status} {count}" for status, count in counts.items() if count)


def _some(names: Iterable[str]) -> str:
    first = list(islice(names, 6))
    return ", ".join(first[:5]) + (" ..." if len(first) > 5 else "")
