"""Verbs that import a model, look into it and let it write."""

import json
from pathlib import Path
from typing import Annotated

import typer

from genotok.cli.app import Device, Feature, Model, Precision, Threads, app, words_between_commas
from genotok.errors import InputError


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
def tokens(
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Plain or BGZF.")],
    model: Model,
    region: Annotated[
        list[str] | None,
        typer.Option(help="CONTIG:START-END, 1-based, both ends included; also several.  [default: all]"),
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="As `--region`, for all regions of a BED file.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Chunks: `.bed`, `.bed.gz` (BGZF) or `.bb` (bigBed)."),
    ] = None,
    bigwig: Annotated[
        Path | None,
        typer.Option(
            metavar="PREFIX",
            help="Write PREFIX.surprisal.bw (bits a base) and PREFIX.boundary.stage0.bw and so on.",
        ),
    ] = None,
    trackhub: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write all of it for the UCSC browser and IGV.")
    ] = None,
    assembly: Annotated[
        str | None,
        typer.Option(help="UCSC's name of the genome, as hg38.  [default: the genome goes into the hub]"),
    ] = None,
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
    """Write the chunks that a model has learned to see, and how sure and how surprised it is, for genome browsers.

    Example: `genotok tokens genome.fa.gz -m run --region chr1:10,001-12,000 -o chunks.bed`

    Example: `genotok tokens genome.fa.gz -m run --trackhub hub`
    """
    from genotok.interpret.chunks import open_reading
    from genotok.interpret.token_files import write_token_files, write_trackhub

    if not (output or bigwig or trackhub):
        raise InputError("tokens: name at least one output: -o, --bigwig or --trackhub")
    if trackhub and (output or bigwig):
        raise InputError("tokens: a hub holds chunks and tracks already; leave out -o and --bigwig")
    given = {"boundaries": boundaries, "features": words_between_commas(feature)}
    with open_reading(model, fasta, region or [], bed=bed, device=device, threads=threads, **given) as found:
        parts = found.parts(window=window, precision=precision)
        contigs, stages = found.reference.contigs, len(found.model.config.chunkers)
        if trackhub:
            name = model.resolve().name
            write_trackhub(parts, contigs, stages, trackhub, name=name, fasta=fasta, assembly=assembly)
        else:
            write_token_files(parts, contigs, stages, bed=output, track=track, bigwig=bigwig)


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
