"""Verbs that score variants."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genotok.atomic import require_writable
from genotok.cli.app import Device, Model, Threads, app, vcf_app
from genotok.errors import InputError


@app.command()
def score(
    reference: Annotated[Path, typer.Option("-r", "--reference", help="FASTA, plain or BGZF.")],
    model: Model,
    output: Annotated[
        str, typer.Option("-o", "--output", help="`.vcf.gz`, `.vcf`, `.bcf`; `-` writes to stdout.")
    ],
    vcf: Annotated[
        str | None,
        typer.Argument(
            metavar="VCF",
            help="VCF, VCF.gz or BCF; `-` reads standard input.",
            show_default="none, with --region or --bed",
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONTIG:START-END",
            help="Instead of a VCF: score every SNV and every 1-base deletion there (1-based, both ends included).",
        ),
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="As `--region`, for all regions of a BED file.")] = None,
    bigwig: Annotated[
        Path | None, typer.Option(metavar="PREFIX", help="Of regions: write tracks PREFIX.A.bw and so on.")
    ] = None,
    logo: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Of short regions: draw a logo, with its data as TSV."),
    ] = None,
    window: Annotated[int, typer.Option(min=2, help="Letters around each variant.")] = 512,
    strands: Annotated[str, typer.Option(help="`both`, whose mean is the score, or `forward`.")] = "both",
    ref_mismatch: Annotated[
        str,
        typer.Option(
            help="Where REF is not the FASTA's: `skip` gives a status, `error` ends the run, `use-vcf` scores "
            "with the VCF's REF."
        ),
    ] = "skip",
    parquet: Annotated[Path | None, typer.Option(help="Write the scores as a table as well.")] = None,
    contig_aliases: Annotated[
        Path | None, typer.Option(help="Two columns, tab-separated: contig in the VCF, contig in the FASTA.")
    ] = None,
    haplotypes: Annotated[
        str | None,
        typer.Option(metavar="SAMPLE", help="Also score on this sample's phased haplotypes (sorted VCF)."),
    ] = None,
    unphased: Annotated[
        str,
        typer.Option(
            help="Where that sample's phase is unknown: `skip` gives a status, `error` ends the run."
        ),
    ] = "skip",
    horizon: Annotated[
        int | None, typer.Option(min=0, help="Letters behind a variant that count.  [default: all]")
    ] = None,
    share_prefixes: Annotated[
        bool | None,
        typer.Option(
            help="Read what is in front of a variant once for all of its alleles.  [default: with fp32]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Windows a batch.  [default: by device]")
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="`auto` (fp32, for scores that repeat), `fp32` or `bf16`.")
    ] = "auto",
    threads: Threads = 2,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that read and cut windows.  [default: 0 on the CPU, 2 for each GPU]"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same command was interrupted.")
    ] = False,
    masked: Annotated[
        str | None,
        typer.Option(
            help="How a model of masked tokens scores substitutions: `marginal`, their tokens masked at once, "
            "or `pseudo`, every token masked in its turn.  [default: marginal]"
        ),
    ] = None,
    fields: Annotated[
        str, typer.Option(help="Further fields, separated by commas: `embedding`, `boundaries`.")
    ] = "",
) -> None:
    """Score every allele of a VCF: log p(ALT) - log p(REF) in nats, negative where the model finds ALT less likely.

    Example: `genotok score in.vcf.gz -r genome.fa.gz -m run -o scored.vcf.gz --parquet scores.parquet`

    Example: `genotok score --region chr1:10,001-10,200 -r genome.fa.gz -m run -o all.vcf.gz --logo logo.svg`
    """
    from genotok.variants.score import score_vcf

    saturation = _saturation(
        vcf, reference, output, region or [], bed, bigwig, logo, contig_aliases, haplotypes
    )
    score_vcf(
        saturation or vcf,
        reference,
        model,
        output,
        window=window,
        strands=strands,
        ref_mismatch=ref_mismatch,
        parquet=parquet,
        contig_aliases=contig_aliases,
        haplotypes=haplotypes,
        unphased=unphased,
        horizon=horizon,
        share_prefixes=share_prefixes,
        batch_size=batch_size,
        device=device,
        precision=precision,
        threads=threads,
        workers=workers,
        resume=resume,
        command=shlex.join(["genotok", *(word for word in sys.argv[1:] if word != "--resume")]),
        masked=masked,
        fields=[name.strip() for name in fields.split(",") if name.strip()],
    )
    if saturation and bigwig:
        from genotok.variants.tracks import write_tracks

        write_tracks(output, bigwig)
    if saturation and logo:
        from genotok.report.logo import write_logo

        write_logo(output, logo, saturation.regions)


def _saturation(
    vcf: str | None,
    reference: Path,
    output: str,
    region: list[str],
    bed: Path | None,
    bigwig: Path | None,
    logo: Path | None,
    contig_aliases: Path | None,
    haplotypes: str | None,
) -> Any:
    """What `--region` and `--bed` ask for, or None where a VCF is given."""
    wanted = bool(region) or bed is not None
    if wanted == (vcf is not None):
        raise InputError("score: give either a VCF, or --region or --bed")
    if not wanted:
        if bigwig or logo:
            raise InputError(
                "score: --bigwig and --logo show whole regions; give --region or --bed, and no VCF"
            )
        return None
    if haplotypes is not None:
        raise InputError("score: --haplotypes needs the genotypes of a VCF, and regions have none")
    if contig_aliases:
        raise InputError("score: --contig-aliases is for a VCF; name the regions as the FASTA does")
    if output == "-" and (bigwig or logo):
        raise InputError("score: --bigwig and --logo are made from the output; give -o a file")
    from genotok.genomes.fasta import Reference
    from genotok.variants.saturation import Saturation, find_regions

    with Reference(reference) as fasta:
        regions = find_regions(fasta, region, bed)
    if logo:
        from genotok.report.logo import check_logo

        check_logo(logo, regions)
        require_writable(logo)
    if bigwig:
        from genotok.variants.tracks import track_paths

        for track in track_paths(bigwig):
            require_writable(track)
    return Saturation(regions)


@vcf_app.command("split")
def split_variants(
    vcf: Annotated[Path, typer.Argument(metavar="VCF", help="VCF, VCF.gz or BCF.")],
    pieces: Annotated[list[Path], typer.Argument(help="Files to write.")],
    context: Annotated[
        int,
        typer.Option(
            min=0,
            help="Letters around a piece whose records it holds as well, for `score --haplotypes`: two windows.",
        ),
    ] = 0,
) -> None:
    """Cut a VCF into contiguous pieces of as many records each.

    Example: `genotok vcf split all.vcf.gz 1.vcf.gz 2.vcf.gz`

    Example: `genotok vcf split --context 1024 phased.vcf.gz 1.vcf.gz 2.vcf.gz`
    """
    from genotok.variants.pieces import split_vcf

    split_vcf(vcf, pieces, context)


@vcf_app.command("gather")
def gather_variants(
    pieces: Annotated[list[Path], typer.Argument(help="Scored pieces, in order.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="VCF to write.")],
) -> None:
    """Put scored pieces together in one indexed VCF.

    Example: `genotok vcf gather 1.scored.vcf.gz 2.scored.vcf.gz -o scored.vcf.gz`
    """
    from genotok.variants.pieces import gather_vcfs

    gather_vcfs(pieces, output)


@vcf_app.command("gather-tables")
def gather_score_tables(
    pieces: Annotated[list[Path], typer.Argument(help="Tables of the pieces, in order.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file to write.")],
) -> None:
    """Put the score tables of pieces together.

    Example: `genotok vcf gather-tables 1.parquet 2.parquet -o scores.parquet`
    """
    from genotok.variants.table import gather_tables

    gather_tables(pieces, output)


@vcf_app.command("export")
def export_scores(
    vcf: Annotated[Path, typer.Argument(metavar="SCORED", help="VCF of `genotok score`.")],
    traitgym: Annotated[
        Path | None, typer.Option(help="Parquet: chrom, pos, ref, alt, score, minus_llr, abs_llr.")
    ] = None,
    cadd: Annotated[
        Path | None, typer.Option(help="`.tsv.gz` with an index: Chrom, Pos, Ref, Alt, RawScore.")
    ] = None,
) -> None:
    """Write the scores in the layouts of TraitGym and CADD; there, higher is more harmful (-LLR).

    Example: `genotok vcf export scored.vcf.gz --traitgym features/model.parquet --cadd scores.tsv.gz`
    """
    from genotok.variants.exports import export_cadd, export_traitgym

    if not (traitgym or cadd):
        raise InputError("name at least one output: --traitgym FILE.parquet or --cadd FILE.tsv.gz")
    for write, output in ((export_traitgym, traitgym), (export_cadd, cadd)):
        if output:
            print(f"{output}: {write(vcf, output):,} alleles", file=sys.stderr)
