"""The command `genotok`: a verb for each stage of the workflow.

Each verb imports its room when it is called, so that `genotok --help` answers at once.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from genotok import __version__
from genotok.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Genomic language models that learn their own tokens, and variant scoring with them.",
)
shards_app = typer.Typer(no_args_is_help=True, help="Folders of shards.")
vcf_app = typer.Typer(
    no_args_is_help=True, help="Cutting a VCF into pieces, and putting scored pieces together."
)
report_app = typer.Typer(no_args_is_help=True, help="Figures, their data, and the results page.")
entropy_app = typer.Typer(
    no_args_is_help=True, help="Small models whose entropies other models cut chunks by."
)
app.add_typer(shards_app, name="shards")
app.add_typer(entropy_app, name="entropy")
app.add_typer(vcf_app, name="vcf")
app.add_typer(report_app, name="report")

Device = Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")]
Precision = Annotated[str, typer.Option(help="`auto` (bf16 on a GPU), `fp32` or `bf16`.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads on the CPU.")]
Feature = Annotated[
    str,
    typer.Option(help="Features (column 3) of GFF3 or GTF that count, with commas.  [default: all]"),
]
Model = Annotated[Path, typer.Option("-m", "--model", help="Folder with config.json and model.safetensors.")]


def main() -> None:
    """Run the command line; bad input is one sentence on stderr and exit code 2."""
    try:
        app(prog_name="genotok")
    except InputError as error:
        print(f"genotok: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"genotok {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Genomic language models that learn their own tokens, and variant scoring with them."""


class ManyContigs(typer.core.TyperCommand):
    """Lets `--valid` and `--test` take several contigs: `--valid I II`, as well as `--valid I --valid II`.

    Words behind the first belong to the option until the next option begins or a word names a file.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option in front of each of its values."""
        expanded: list[str] = []
        option, has_value = None, False
        for word in args:
            if word.startswith("-"):
                option, has_value = (word if word in ("--valid", "--test") else None), False
            elif option and has_value and Path(word).exists():
                option = None
            elif option and has_value:
                expanded.append(option)
            else:
                has_value = True
            expanded.append(word)
        return super().parse_args(ctx, expanded)


@app.command()
def fetch(
    source: Annotated[str, typer.Argument(help="URL, path, NCBI accession, UCSC or Ensembl name.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="`.fa.gz` (BGZF) or `.fa`; indexed.")],
    sha256: Annotated[str | None, typer.Option(help="Expected SHA-256 of what is downloaded.")] = None,
    md5: Annotated[str | None, typer.Option(help="Expected MD5 of what is downloaded.")] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds without a byte before an attempt fails.")
    ] = 30,
    retries: Annotated[int, typer.Option(min=0, help="Attempts after the first.")] = 5,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write what was downloaded, checked but not converted.")
    ] = False,
) -> None:
    """Get a genome and write it as indexed FASTA.

    Example: `genotok fetch GCF_000005845.2 -o ecoli.fa.gz`
    """
    from genotok.genomes.fetch import download_source, fetch_genome

    get = download_source if raw else fetch_genome
    get(source, output, sha256=sha256, md5=md5, timeout=timeout, retries=retries)


@app.command(cls=ManyContigs)
def tokenize(
    fastas: Annotated[list[Path], typer.Argument(help="FASTA files: plain, gzip or BGZF.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    tokenizer: Annotated[
        str,
        typer.Option(
            help="`nucleotide`, `byte`, `kmer`, `codon`, `ntv2`, `hyenadna`, or a JSON file of `genotok bpe`. "
            "Shards of `nucleotide` serve all tokenizers of several letters."
        ),
    ] = "nucleotide",
    window: Annotated[int, typer.Option(min=1, help="Letters a window.")] = 8192,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Letters between windows.  [default: window]")
    ] = None,
    valid: Annotated[
        list[str] | None, typer.Option(help="Contigs for validation.", metavar="CONTIG...")
    ] = None,
    test: Annotated[list[str] | None, typer.Option(help="Contigs for testing.", metavar="CONTIG...")] = None,
    rest: Annotated[str, typer.Option(help="Split of all other contigs: train, valid or test.")] = "train",
    name: Annotated[list[str] | None, typer.Option(help="Name of each genome.  [default: file name]")] = None,
) -> None:
    """Cut genomes into windows and write them as Arrow shards.

    Contigs are named as CONTIG or GENOME:CONTIG.

    Example: `genotok tokenize yeast.fa.gz -o shards --window 8192 --valid XV --test XVI`
    """
    from genotok.shards.writer import tokenize_genomes

    tokenize_genomes(
        fastas,
        output,
        tokenizer=tokenizer,
        window=window,
        stride=stride,
        valid=valid or (),
        test=test or (),
        rest=rest,
        names=name or None,
    )


@app.command()
def bpe(
    fastas: Annotated[
        list[Path],
        typer.Argument(
            metavar="FASTA...",
            help="FASTA files: plain, gzip or BGZF; or a folder of shards, of which the split `train` counts.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file of the tokenizer.")],
    vocab_size: Annotated[int, typer.Option(min=32, help="Tokens, the 12 of letters included.")] = 4096,
) -> None:
    """Learn the tokens of a byte-pair encoding from genomes.

    Memory grows with the genomes, by some 80 bytes a letter: give a few chromosomes of a large one.

    Example: `genotok bpe yeast.fa.gz -o tokenizer.json --vocab-size 1024`
    """
    from genotok.atomic import atomic_path
    from genotok.genomes.fasta import read_fasta
    from genotok.shards.reader import training_letters
    from genotok.tokenizers import train_bpe

    def blocks(path: Path) -> Iterator[bytes]:
        return (
            training_letters(path) if path.is_dir() else (part for _, all in read_fasta(path) for part in all)
        )

    tokenizer = train_bpe((block for path in fastas for block in blocks(path)), vocab_size)
    with atomic_path(output) as path:
        path.write_text(tokenizer.to_json())


@shards_app.command("merge")
def merge_shards(
    shards: Annotated[list[Path], typer.Argument(help="Folders of shards.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the common manifest.")],
) -> None:
    """Describe several folders of shards as one, without copying them.

    Example: `genotok shards merge shards/yeast shards/ecoli -o shards`
    """
    from genotok.shards.manifest import merge_manifests

    merge_manifests(shards, output)


@shards_app.command("boundaries")
def add_boundaries_to_shards(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards.")],
    intervals: Annotated[
        Path, typer.Argument(metavar="FILE", help="`.bed`, `.gff`, `.gff3` or `.gtf`, also with `.gz`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    feature: Feature = "",
) -> None:
    """Write shards again with boundaries, for models with the chunker `given`.

    A chunk begins where an interval begins and where one ends.

    Example: `genotok shards boundaries shards genes.gff.gz --feature CDS,exon -o shards_with_boundaries`
    """
    from genotok.shards.boundaries import add_boundaries

    add_boundaries(shards, intervals, output, _words(feature))


def _words(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


@app.command()
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="Settings; `-` reads standard input.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the run; holds the model at the end.")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the latest checkpoint.")] = False,
    restart_if_changed: Annotated[
        bool, typer.Option("--restart-if-changed", help="Begin anew if the checkpoint is of other settings.")
    ] = False,
) -> None:
    """Train a model on shards.

    Example: `genotok train config.yaml -o run --resume`
    """
    from genotok.settings import parse_settings, read_mapping
    from genotok.training.config import TrainConfig

    source = "standard input" if config == "-" else config
    settings = parse_settings(TrainConfig, read_mapping(config), source)
    _train(settings, output, resume, restart_if_changed)


def _train(settings: Any, output: Path, resume: bool, restart_if_changed: bool) -> None:
    """Run the trainer; a run that was asked to end does so with exit code 143."""
    from genotok.training.loop import Terminated, Trainer

    try:
        Trainer(settings, output).run(resume, restart_if_changed)
    except Terminated as stop:
        print(f"genotok: {stop}", file=sys.stderr)
        raise typer.Exit(143) from stop


@entropy_app.command("train")
def train_entropy_model(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="Settings; `-` reads standard input.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the run; holds the model at the end.")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the latest checkpoint.")] = False,
    restart_if_changed: Annotated[
        bool, typer.Option("--restart-if-changed", help="Begin anew if the checkpoint is of other settings.")
    ] = False,
) -> None:
    """Train the small model whose entropies a model with the chunker `entropy` cuts by.

    Settings are those of `genotok train`; without `model` it is the preset `entropy_dna`.

    Example: `genotok entropy train config.yaml -o entropy`
    """
    from genotok.settings import read_mapping
    from genotok.training.entropies import entropy_train_config

    settings = entropy_train_config(read_mapping(config), "standard input" if config == "-" else config)
    _train(settings, output, resume, restart_if_changed)


@entropy_app.command("annotate")
def annotate_with_entropies(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards.")],
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    dtype: Annotated[str, typer.Option(help="`float32`, or `float16` at half the size.")] = "float32",
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Write shards again with the entropies of a model, so that training need not work them out.

    An interrupted call goes on behind its last finished file when it is made again.

    Example: `genotok entropy annotate shards -m entropy -o shards_with_entropies`
    """
    from genotok.training.entropies import annotate

    annotate(shards, model, output, dtype=dtype, device=device, threads=threads)


@entropy_app.command("threshold")
def print_entropy_threshold(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards with entropies.")],
    mean_length: Annotated[float, typer.Option(min=1, help="Tokens a chunk.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    threshold_add: Annotated[float | None, typer.Option(help="Least rise of the entropy, in nats.")] = None,
    monotonicity: Annotated[bool, typer.Option(help="The threshold is one on the rise.")] = False,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of the longest chunk.")] = None,
) -> None:
    """Print the entropy threshold that gives chunks of a wanted mean length, in nats.

    Example: `genotok entropy threshold shards_with_entropies --mean-length 4`
    """
    from genotok.training.entropies import threshold_of_shards

    rule = {"threshold_add": threshold_add, "monotonicity": monotonicity, "max_length": max_length}
    print(threshold_of_shards(shards, mean_length, split, **rule))


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of the model.")],
    shards: Annotated[
        Path, typer.Argument(metavar="SHARDS", help="Folder of shards; a table for the task `prediction`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    task: Annotated[
        str, typer.Option(help="`lm`, or `prediction`: heads against the labels of a table.")
    ] = "lm",
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="HEAD=COLUMN, once a head; several columns with commas.  [default: named as the heads]"
        ),
    ] = None,
    sequence: Annotated[str, typer.Option(help="Column of the table with the sequences.")] = "sequence",
    max_length: Annotated[
        int | None,
        typer.Option(min=1, help="Letters of a sequence in the table that are read.  [default: all]"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows or sequences a batch.")] = 16,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 2,
) -> None:
    """Bits per base on held-out contigs, beside Markov baselines; or how well labels are predicted.

    Example: `genotok evaluate run shards --split test -o metrics.json`

    Example: `genotok evaluate run test.csv --task prediction --labels promoter=label -o metrics.json`
    """
    from genotok.evaluation.bits_per_base import evaluate, write_metrics

    settings = {"batch_size": batch_size, "device": device, "precision": precision, "threads": threads}
    if task == "prediction":
        from genotok.evaluation.prediction_metrics import evaluate_predictions

        table = {"columns": _columns(labels or []), "sequence": sequence, "max_length": max_length}
        metrics = evaluate_predictions(model, shards, **table, **settings)
        write_metrics(metrics, output)
        for name, found in metrics["heads"].items():
            shown = {key: value for key, value in found.items() if isinstance(value, float)}
            print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in shown.items()))
        return
    if task != "lm":
        raise InputError(f"--task: {task!r} should be lm or prediction")
    metrics = evaluate(model, shards, split=split, **settings)
    write_metrics(metrics, output)
    best = min(metrics["baselines"].items(), key=lambda item: item[1]["bits_per_base"])
    print(
        f"{metrics['model']['bits_per_base']:.4f} bits/base over {metrics['model']['nucleotides']} nucleotides; "
        f"best baseline {best[0]}: {best[1]['bits_per_base']:.4f}"
    )


def _columns(labels: list[str]) -> dict[str, list[str]]:
    """The columns of each head, of words like HEAD=COLUMN."""
    columns = {}
    for word in labels:
        head, sign, names = word.partition("=")
        if not (head and sign and names):
            raise InputError(f"--labels: {word!r} should be HEAD=COLUMN")
        columns[head] = names.split(",")
    return columns


@app.command("import")
def import_model(
    family: Annotated[str, typer.Argument(help="`hnet`, `ntv2` or `hyenadna`.")],
    config: Annotated[Path, typer.Argument(metavar="CONFIG.json", help="The official configuration.")],
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help="The official weights: .safetensors, or .bin, .pt or .ckpt with tensors alone.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write the model into.")],
) -> None:
    """Make a genotok model of a published checkpoint.

    Example: `genotok import hnet hnet_1stage_L.json hnet_1stage_L.safetensors -o model`
    """
    from genotok.models.saved import read_weights
    from genotok.pretrained import import_checkpoint

    try:
        official = json.loads(config.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{config}: cannot be read as JSON: {error}") from error
    import_checkpoint(family, official, read_weights(weights), str(weights)).save_pretrained(output)


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
    strands: Annotated[str, typer.Option(help="`both` or `forward`.")] = "both",
    ref_mismatch: Annotated[str, typer.Option(help="`error`, `skip` or `use-vcf`.")] = "skip",
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
    return Saturation(regions)


@app.command()
def tokens(
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Plain or BGZF.")],
    model: Model,
    region: Annotated[str, typer.Option(help="CONTIG:START-END, 1-based, both ends included.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="BED file to write (`.bed` or `.bed.gz`).")],
    track: Annotated[str | None, typer.Option(help="Name for a genome browser's track line.")] = None,
    window: Annotated[int, typer.Option(min=2, help="Letters read at once; as in training.")] = 8192,
    boundaries: Annotated[
        Path | None, typer.Option(help="BED, GFF3 or GTF, for a model that cuts by given boundaries.")
    ] = None,
    feature: Feature = "",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 2,
) -> None:
    """Write the chunks that a model has learned to see, as BED.

    Example: `genotok tokens genome.fa.gz -m run --region chr1:10,001-12,000 -o chunks.bed`
    """
    from genotok.interpret.chunks import chunks_of_region, write_bed

    settings = {"window": window, "device": device, "precision": precision, "threads": threads}
    given = {"boundaries": boundaries, "features": _words(feature)}
    write_bed(chunks_of_region(model, fasta, region, **given, **settings), output, track)


@vcf_app.command("split")
def split_variants(
    vcf: Annotated[Path, typer.Argument(metavar="VCF", help="VCF, VCF.gz or BCF.")],
    pieces: Annotated[list[Path], typer.Argument(help="Files to write.")],
) -> None:
    """Cut a VCF into contiguous pieces of as many records each.

    Example: `genotok vcf split all.vcf.gz 1.vcf.gz 2.vcf.gz`
    """
    from genotok.variants.pieces import split_vcf

    split_vcf(vcf, pieces)


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
    window: Annotated[int, typer.Option(min=2, help="Letters read at once; as in training.")] = 8192,
    threads: Threads = 2,
) -> None:
    """A picture of the learned chunks along a region.

    Example: `genotok report chunks genome.fa.gz -m run --region chr1:10,001-10,180 -o figures/chunks`
    """
    from genotok.report.chunks import report_chunks

    report_chunks(model, fasta, region, output, window=window, threads=threads)


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


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of the model.")],
    length: Annotated[int, typer.Option(min=0, help="Tokens (letters, as a rule) to add to the prompt.")],
    prompt: Annotated[str, typer.Option(help="Letters to begin with; may be empty.")] = "",
    count: Annotated[int, typer.Option(min=1, help="Sequences to generate.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Take one of the K likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Take one of the likeliest that hold this much.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the random numbers.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences at once.")] = 64,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="`auto` (fp32, for sequences that repeat), `fp32` or `bf16`.")
    ] = "auto",
    threads: Threads = 2,
) -> None:
    """Print sequences that the model makes up, as FASTA: the prompt, and behind it the new letters.

    The letters are A, C, G and T alone. The same seed gives the same sequences.

    Example: `genotok generate run --prompt ATGACC --length 300 --top-k 3 --count 5 > made_up.fa`
    """
    import torch

    from genotok.models import GenomicLM
    from genotok.models.generation import added_letters, prompt_ids
    from genotok.progress import progress
    from genotok.training.precision import autocast, choose_device

    torch.set_num_threads(threads)
    chosen = choose_device(device)
    language_model = GenomicLM.from_pretrained(model, chosen)
    how = {"seed": seed, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    bar = progress("generate", count * length, "tokens")
    with autocast(chosen, "fp32" if precision == "auto" else precision), bar as shown:
        made_up = language_model.generate(
            [prompt] * count, length, batch_size=batch_size, on_step=shown.advance, **how
        )
    settings = " ".join(f"{key}={value}" for key, value in how.items() if value is not None)
    begun = prompt_ids(language_model, prompt)
    for number, ids in enumerate(made_up, 1):
        letters = prompt.upper() + added_letters(language_model.tokenizer, begun, ids)
        print(f">generated_{number} prompt={len(prompt)} {settings}")
        for start in range(0, len(letters), 60):
            print(letters[start : start + 60])


@app.command()
def info(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Folder, name on the Hugging Face Hub, configuration in JSON, or preset."
        ),
    ],
    length: Annotated[int, typer.Option(min=1, help="Tokens of the sequence that is counted.")] = 8192,
    compression: Annotated[
        list[float] | None,
        typer.Option(help="Rows a chunk, once a stage.  [default: as measured, else 3]"),
    ] = None,
    fasta: Annotated[Path | None, typer.Option(help="Measure chunks in its first 16 windows.")] = None,
    sequence: Annotated[str | None, typer.Option(help="Measure chunks in these letters.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw the architecture as SVG.")] = None,
    threads: Threads = 2,
) -> None:
    """Parameters, operations a base, memory and, on request, chunks and a picture of a model.

    Example: `genotok info run --length 8192 --fasta genome.fa.gz`
    """
    import torch

    from genotok.report.model_info import describe_model, find_config, print_info

    torch.set_num_threads(threads)
    found = describe_model(model, length, compression, fasta, sequence)
    if figure is not None:
        from genotok.report.architecture import save_architecture

        save_architecture(find_config(model), Path(model).name, figure)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_info(found)
