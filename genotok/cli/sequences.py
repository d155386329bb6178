"""Verbs that get sequence ready: genomes, shards, byte pairs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from genotok.cli.app import Feature, app, shards_app, words_between_commas

Deduplicate = Annotated[
    str,
    typer.Option(
        help="`report`: how many windows of a split stand in one before it, in the order train, valid, test; `drop`: "
        "leave them out as well; `no`."
    ),
]


class ManyContigs(typer.core.TyperCommand):
    """Lets `--valid` and `--test` take several contigs: `--valid I II`, as well as `--valid I --valid II`.

    Words behind the first belong to the option until the next option begins or a word names a file or an address.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option in front of each of its values."""
        expanded: list[str] = []
        option, has_value = None, False
        for word in args:
            if word.startswith("-"):
                option, has_value = (word if word in ("--valid", "--test") else None), False
            elif option and has_value and ("://" in word or Path(word).exists()):
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
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="FASTA, FASTQ, CSV, TSV, JSON, JSON lines or Parquet; plain, gzip, BGZF or zstd. "
            "A path, `-` for standard input, or an address (`https://`, `s3://` ...).",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="`nucleotide`, `rna`, `protein`, `biological` (all three), `byte`, `kmer`, `codon`, `ntv2`, "
            "`hyenadna`, or a JSON file of `genotok bpe`. Shards of `nucleotide` serve all tokenizers of several "
            "letters.  [default: by the alphabet]"
        ),
    ] = None,
    alphabet: Annotated[
        list[str] | None,
        typer.Option(help="`dna`, `rna` or `protein`; once, or once a source.  [default: the tokenizer's]"),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="`fasta`, `fastq`, `csv`, `tsv`, `json`, `jsonl` or `parquet`.  [default: by content and name]"
        ),
    ] = None,
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
    min_real: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of certain letters of a window that is kept.")
    ] = 0,
    include: Annotated[
        Path | None,
        typer.Option(metavar="BED", help="Intervals that windows are cut of, in place of contigs."),
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(metavar="BED", help="Intervals that no window reaches into.")
    ] = None,
    deduplicate: Deduplicate = "no",
    regions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="BED, GFF3 or GTF: only these stretches of a FASTA, on their strands."
        ),
    ] = None,
    feature: Feature = "",
    min_quality: Annotated[
        float, typer.Option(min=0, max=93, help="FASTQ: least mean Phred quality of a read that is kept.")
    ] = 0,
    mask_quality: Annotated[
        int, typer.Option(min=0, max=93, help="FASTQ: letters of a lower Phred quality become N.")
    ] = 0,
    qualities: Annotated[
        bool, typer.Option("--qualities", help="FASTQ: keep the quality of each letter in the shards.")
    ] = False,
    many: Annotated[
        bool,
        typer.Option(
            "--many", help="FASTA of many short sequences: names may come again, and are not listed."
        ),
    ] = False,
    sequence_column: Annotated[str, typer.Option(help="Column of a table with the sequences.")] = "sequence",
    name_column: Annotated[
        str | None, typer.Option(help="Column of a table with names.  [default: row1, row2 ...]")
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(help="Column of a table that holds train, valid or test.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of a table to keep in the shards, as text; `description`: what stands behind a name in "
            "FASTA or FASTQ. May be given again.",
        ),
    ] = None,
) -> None:
    """Cut genomes, reads, proteins or tables into windows and write them as Arrow shards.

    Contigs are named as CONTIG or GENOME:CONTIG.

    Example: `genotok tokenize yeast.fa.gz -o shards --window 8192 --valid XV --test XVI`

    Example: `genotok tokenize proteins.faa --alphabet protein -o shards --window 512`

    Example: `zstdcat reads.fq.zst | genotok tokenize - --format fastq --min-quality 20 -o shards`
    """
    from genotok.genomes.records import Reading
    from genotok.shards.writer import tokenize_genomes

    tokenize_genomes(
        sources,
        output,
        tokenizer=tokenizer or tokenizer_of(alphabet or []),
        alphabets=alphabet or (),
        qualities=qualities,
        reading=Reading(
            format=format,
            min_quality=min_quality,
            mask_quality=mask_quality,
            sequence_column=sequence_column,
            name_column=name_column,
            split_column=split_column,
            keep=tuple(keep or ()),
            regions=regions,
            features=tuple(words_between_commas(feature)),
            many=many,
        ),
        window=window,
        stride=stride,
        valid=valid or (),
        test=test or (),
        rest=rest,
        names=name or None,
        min_real=min_real,
        include=include,
        exclude=exclude,
        deduplicate=deduplicate,
    )


def tokenizer_of(alphabets: list[str]) -> str:
    """The tokenizer with a token a letter for sources of some alphabets."""
    from genotok.genomes.alphabets import load_alphabet
    from genotok.tokenizers.base import LETTER_TOKENIZERS

    names = [load_alphabet(name).name for name in alphabets]
    return LETTER_TOKENIZERS[(names or ["dna"])[0]] if len(set(names)) < 2 else "biological"


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
    deduplicate: Deduplicate = "no",
) -> None:
    """Describe several folders of shards as one, without copying them.

    With `--deduplicate drop` the files that lose windows are written into the new folder.

    Example: `genotok shards merge shards/yeast shards/ecoli -o shards`
    """
    from genotok.shards.leakage import deduplicate as without_leakage
    from genotok.shards.manifest import merge_manifests

    without_leakage(output, merge_manifests(shards, output), deduplicate, output).save(output)


@shards_app.command("leakage")
def leakage(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to make, of shards without what leaks.")
    ] = None,
    k: Annotated[int, typer.Option(help="Letters a k-mer.")] = 21,
    threshold: Annotated[float, typer.Option(help="Share of its k-mers at which a window leaks.")] = 0.5,
) -> None:
    """Count the windows of each split that stand in one before it: in train, and those of test in valid as well.

    A window leaks where it stands in the other split from end to end, as it is or as the opposite strand, or by a
    share of its k-mers. The table goes into the manifest.

    Example: `genotok shards leakage shards -o shards_clean`
    """
    from genotok.shards.leakage import table_of_leakage, write_without_leakage

    if output is None:
        table_of_leakage(shards, k=k, threshold=threshold)
    else:
        write_without_leakage(shards, output, k=k, threshold=threshold)


@shards_app.command("check")
def check(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards.")],
) -> None:
    """Verify hashes, counts, columns and offsets; a line a problem, and exit code 2 where there is one.

    Example: `genotok shards check shards`
    """
    from genotok.shards.check import check_shards
    from genotok.shards.manifest import read_manifest

    problems = check_shards(shards)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(2)
    files = read_manifest(shards)[1].files
    windows, bases = sum(file.windows for file in files), sum(file.bases for file in files)
    print(
        f"{shards}: {len(files)} files with {windows:,} windows and {bases:,} letters are as they were written"
    )


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

    add_boundaries(shards, intervals, output, words_between_commas(feature))
