"""The verb that says what each base of a region contributes."""

from pathlib import Path
from typing import Annotated

import typer

from genotok.cli.app import Device, Model, Threads, app, words_between_commas


@app.command()
def attribute(
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Plain or BGZF.")],
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; replaces an earlier one.")],
    region: Annotated[
        list[str] | None,
        typer.Option(help="CONTIG:START-END, 1-based, both ends included; also several."),
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="As `--region`, for all regions of a BED file.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="`integrated_gradients`, `input_x_gradient`, `mutagenesis`, `attention`, with commas; the first "
            "is the main one."
        ),
    ] = "integrated_gradients,mutagenesis,attention",
    target: Annotated[
        str,
        typer.Option(
            help="`likelihood` of the region, `allele` for the score of --variant, or `label` for a head's output."
        ),
    ] = "likelihood",
    variant: Annotated[str | None, typer.Option(metavar="CONTIG:POSITION:REF:ALT", help="1-based.")] = None,
    head: Annotated[str | None, typer.Option(help="Prediction head.  [default: the only one]")] = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="Class or output of that head.  [default: the only one]")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Letters read.  [default: 512; the region alone for labels]")
    ] = None,
    strands: Annotated[str, typer.Option(help="`both`, `forward` or `reverse`.")] = "both",
    boundaries: Annotated[
        str,
        typer.Option(
            help="Chunk edges on the way of gradients: `held` as in the true sequence, or `routed`."
        ),
    ] = "held",
    baseline: Annotated[
        str, typer.Option(help="Of integrated gradients: `uniform`, `n` or `shuffled` dinucleotides.")
    ] = "uniform",
    shuffles: Annotated[int, typer.Option(min=1, help="Shuffled sequences to average over.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Of integrated gradients.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows at once; bounds the memory.")] = 16,
    random_draws: Annotated[
        int, typer.Option(min=0, help="Models of the same shape with random weights to compare with.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of shuffles and random weights.")] = 0,
    gff: Annotated[Path | None, typer.Option(help="GFF3 whose genes are drawn below the chunks.")] = None,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Say what each base contributes to a likelihood, a variant's score or a label: tables, tracks, a page a region.

    Example: `genotok attribute genome.fa.gz -m run --region chr1:10,001-10,180 --gff genes.gff3.gz -o attribution`

    Example: `genotok attribute genome.fa.gz -m run --region chr1:10,001-10,080 --target allele
    --variant chr1:10,041:A:G --method integrated_gradients -o allele`
    """
    from genotok.interpret.attribution import AttributionSettings
    from genotok.report.attribution import write_attributions

    settings = AttributionSettings(
        methods=words_between_commas(method),
        target=target,
        variant=variant,
        head=head,
        label=class_,
        window=window,
        strands=strands,
        boundaries=boundaries,
        baseline=baseline,
        shuffles=shuffles,
        steps=steps,
        batch_size=batch_size,
        random_draws=random_draws,
        seed=seed,
    )
    where = {"regions": region or [], "bed": bed, "gff": gff}
    write_attributions(model, fasta, output, settings, **where, device=device, threads=threads)
