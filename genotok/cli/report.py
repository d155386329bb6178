"""Verbs that draw figures and write the results page."""

from pathlib import Path
from typing import Annotated

import typer

from genotok.cli.app import Device, Model, Precision, Threads, report_app

Folder = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for figures (SVG) and their data (TSV, JSON).")
]


@report_app.command("training")
def report_training_curves(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")], output: Folder
) -> None:
    """Loss curves of a run.

    Example: `genotok report training run -o figures/training`
    """
    from genotok.report.training import report_training

    report_training(run, output)


@report_app.command("evaluation")
def report_bits_per_base(
    metrics: Annotated[Path, typer.Argument(help="JSON of `genotok evaluate`.")], output: Folder
) -> None:
    """Bits per base beside the baselines, and chunk lengths.

    Example: `genotok report evaluation metrics.json -o figures/evaluation`
    """
    from genotok.report.evaluation import report_evaluation

    report_evaluation(metrics, output)


@report_app.command("chunks")
def report_chunk_picture(
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Plain or BGZF.")],
    model: Model,
    region: Annotated[str, typer.Option(help="CONTIG:START-END, 1-based, both ends included.")],
    output: Folder,
    gff: Annotated[Path | None, typer.Option(help="GFF3 of the genome, for genes below the chunks.")] = None,
    window: Annotated[int, typer.Option(min=2, help="Letters read at once; as in training.")] = 8192,
    threads: Threads = 2,
) -> None:
    """A picture of the learned chunks along a region.

    Example: `genotok report chunks genome.fa.gz -m run --region chr1:10,001-10,180 --gff genes.gff3.gz
    -o figures/chunks`
    """
    from genotok.report.chunks import report_chunks

    report_chunks(model, fasta, region, output, gff=gff, window=window, threads=threads)


@report_app.command("tokens")
def report_token_survey(
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Plain or BGZF.")],
    model: Model,
    output: Folder,
    gff: Annotated[Path | None, typer.Option(help="GFF3 of the genome.")] = None,
    places: Annotated[
        list[Path] | None,
        typer.Option(help="BED, GFF3 or GTF of places that chunks may begin at; also several."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help="CONTIG:START-END, 1-based, both ends included; also several.  [default: all]"),
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="As `--region`, for all regions of a BED file.")] = None,
    window: Annotated[int, typer.Option(min=2, help="Letters read at once; as in training.")] = 8192,
    sites: Annotated[
        int, typer.Option(min=0, help="Places that are read with another letter; 0 leaves this out.")
    ] = 256,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 2,
) -> None:
    """What chunks follow (annotation, with rotations as the control), which words they are, and how they change.

    Example: `genotok report tokens genome.fa.gz -m run --gff genes.gff3.gz -o figures/tokens`
    """
    from genotok.report.tokens import report_tokens

    settings = {"window": window, "sites": sites, "device": device, "precision": precision}
    where = {"gff": gff, "beds": places or [], "regions": region or [], "bed": bed}
    report_tokens(model, fasta, output, threads=threads, **where, **settings)


@report_app.command("variants")
def report_variant_scores(
    table: Annotated[Path, typer.Argument(metavar="PARQUET", help="Table of `genotok score --parquet`.")],
    vcf: Annotated[Path, typer.Argument(metavar="VCF", help="The scored VCF.")],
    output: Folder,
    truth: Annotated[str | None, typer.Option(help="INFO field (Number=A) with measured effects.")] = None,
    consequence: Annotated[str | None, typer.Option(help="INFO field (Number=A) with classes.")] = None,
    label: Annotated[str | None, typer.Option(help="INFO field with labels, 1 = harmful.")] = None,
    positive: Annotated[str, typer.Option(help="Labels that mean harmful, with commas.")] = "",
    negative: Annotated[str, typer.Option(help="Labels that mean harmless, with commas.")] = "",
    truth_table: Annotated[
        Path | None,
        typer.Option("--table", help="TSV or Parquet with chrom, pos, ref, alt; fields are its columns."),
    ] = None,
    gff: Annotated[Path | None, typer.Option(help="GFF3 for classes and splice sites.")] = None,
    reference: Annotated[
        Path | None, typer.Option("-r", "--reference", help="FASTA, for trivial scores and with --gff.")
    ] = None,
) -> None:
    """Distribution of the scores, and their agreement with measured effects or labels.

    Example: `genotok report variants scores.parquet scored.vcf.gz --truth FITNESS -o figures/variants`

    Example: `genotok report variants scores.parquet scored.vcf.gz --label CLNSIG --positive Pathogenic
    --negative Benign --gff genes.gff3.gz -r genome.fa.gz -o figures/clinvar`
    """
    from genotok.report.truth import Truth
    from genotok.report.variants import report_variants

    positives, negatives = (
        tuple(word.strip() for word in words.split(",") if word.strip()) for words in (positive, negative)
    )
    known = Truth(
        truth or None, label or None, positives, negatives, consequence or None, truth_table, gff, reference
    )
    report_variants(table, vcf, truth, consequence, output, known=known)


@report_app.command("score-sets")
def report_score_sets(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `genotok report variants` wrote.")],
    output: Folder,
) -> None:
    """Several score sets or models beside each other.

    Example: `genotok report score-sets figures/clinvar figures/clinvar.other -o figures/score_sets`
    """
    from genotok.report.score_sets import report_score_sets

    report_score_sets(folders, output)


@report_app.command("provenance")
def report_provenance(
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")],
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Inputs whose hashes are recorded.")
    ] = None,
    settings: Annotated[
        str, typer.Option(help="YAML or JSON to record as well; `-` reads standard input.")
    ] = "",
) -> None:
    """Versions, commit, command, settings and hashes of inputs, in one file.

    Example: `genotok report provenance genome.fa.gz variants.vcf.gz --settings config.yaml -o provenance.json`
    """
    from genotok.report.provenance import write_provenance
    from genotok.settings import read_mapping

    write_provenance(inputs or [], read_mapping(settings) if settings else {}, output)


@report_app.command("downstream")
def report_labelled_sequences(
    results: Annotated[
        list[str], typer.Argument(metavar="NAME=JSON...", help="Results of `genotok probe` and `finetune`.")
    ],
    output: Folder,
) -> None:
    """Labels that are predicted, method beside method.

    Example: `genotok report downstream promoters=probe.json promoters=run/test_metrics.json -o figures/downstream`
    """
    from genotok.errors import InputError
    from genotok.report.downstream import report_downstream

    named = [word.partition("=") for word in results]
    for word, sign, path in named:
        if not (word and sign and path):
            raise InputError(f"{word + sign + path}: should be NAME=JSON, the set and a file of its results")
    report_downstream([(name, Path(path)) for name, _, path in named], output)


@report_app.command("page")
def report_page(
    folders: Annotated[list[Path], typer.Argument(help="Folders that the other verbs of `report` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")],
    title: Annotated[str, typer.Option(help="Title of the page.")] = "genotok results",
) -> None:
    """One self-contained HTML page with all figures and tables.

    Example: `genotok report page figures/training figures/evaluation -o index.html`
    """
    from genotok.report.page import write_page

    write_page(folders, output, title)
