"""The verb that makes motifs of contributions."""

from pathlib import Path
from typing import Annotated

import typer

from genotok.cli.app import app


@app.command()
def motifs(
    attributions: Annotated[
        list[Path],
        typer.Argument(metavar="ATTRIBUTIONS", help="`.npz` of `genotok attribute`, or folders with them."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for motifs, seqlets and a page.")],
    database: Annotated[
        Path | None,
        typer.Option(help="Known motifs in MEME format to compare with; needs memelite (`genotok[motifs]`)."),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(
            help="`.npz` of shuffled sequences, or a folder; also several.  [default: shuffled contributions]"
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method of attribution.  [default: the first in the file]")
    ] = None,
    min_seqlets: Annotated[int, typer.Option(min=2, help="A motif of fewer is dropped.")] = 10,
    min_length: Annotated[int, typer.Option(min=2, help="Of a seqlet, in bases.")] = 5,
    max_length: Annotated[int, typer.Option(min=2, help="Of a seqlet, in bases.")] = 20,
    false_share: Annotated[
        float, typer.Option(min=0, max=1, help="Highest share of false seqlets, by the control.")
    ] = 0.05,
    likeness: Annotated[
        float, typer.Option(min=0, max=1, help="Least cosine between a seqlet and its motif.")
    ] = 0.6,
    max_seqlets: Annotated[int, typer.Option(min=2, help="The strongest so many are kept.")] = 2000,
    matches: Annotated[int, typer.Option(min=1, help="Known motifs given for each motif.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the shuffles.")] = 0,
) -> None:
    """Find motifs: stretches whose bases contribute much, laid over each other, and named after known motifs.

    Example: `genotok motifs attributions -o motifs --database resources/motifs/known.meme`
    """
    from genotok.errors import InputError
    from genotok.interpret.contributions import read_contributions
    from genotok.interpret.meme_format import read_meme
    from genotok.interpret.motif_files import attribution_files
    from genotok.interpret.motif_search import search_motifs
    from genotok.interpret.motifs import MotifSettings
    from genotok.interpret.seqlets import SeqletSettings
    from genotok.report.motifs import report_motifs

    if max_length < min_length:
        raise InputError(f"--max-length {max_length}: must be at least --min-length, {min_length}")
    found = search_motifs(
        read_contributions(attribution_files(attributions), method),
        control=read_contributions(attribution_files(control or []), method),
        known=read_meme(database) if database else None,
        seqlet_settings=SeqletSettings(min_length, max_length, false_share, most=max_seqlets, seed=seed),
        motif_settings=MotifSettings(min_seqlets, likeness),
        matches=matches,
    )
    report_motifs(found, output)
    print(f"{output}: {found.statement}")
