"""The command `genotok`, its groups of verbs, and the options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer

from genotok import __version__

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
compare_app = typer.Typer(no_args_is_help=True, help="Tokenizers, compared on equal work.")
app.add_typer(shards_app, name="shards")
app.add_typer(entropy_app, name="entropy")
app.add_typer(vcf_app, name="vcf")
app.add_typer(report_app, name="report")
app.add_typer(compare_app, name="compare")

Device = Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")]
Precision = Annotated[str, typer.Option(help="`auto` (bf16 on a GPU), `fp32` or `bf16`.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads on the CPU.")]
Feature = Annotated[
    str,
    typer.Option(help="Features (column 3) of GFF3 or GTF that count, with commas.  [default: all]"),
]
RunSettings = Annotated[
    str, typer.Argument(metavar="CONFIG.yaml", help="Settings; `-` reads standard input.")
]
RunFolder = Annotated[
    Path, typer.Option("-o", "--output", help="Folder of the run; holds the model at the end.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the latest checkpoint.")]
RestartIfChanged = Annotated[
    bool, typer.Option("--restart-if-changed", help="Begin anew if the checkpoint is of other settings.")
]
Model = Annotated[Path, typer.Option("-m", "--model", help="Folder with config.json and model.safetensors.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"genotok {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Genomic language models that learn their own tokens, and variant scoring with them."""


def words_between_commas(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
