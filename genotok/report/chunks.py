"""`genotok report chunks`: a stretch of sequence with the chunks that the model cuts it into."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.errors import InputError
from genotok.interpret.chunks import RegionChunks, chunks_of_region
from genotok.report.json_files import write_json
from genotok.report.style import BLACK, BLUE, GREY, PALE, VERMILLION, WIDTH, save_figure, styled

FIGURE = "chunks"
SUMMARY = "chunks.json"
LONGEST_REGION = 600
BASES_PER_LINE = 50
# Tints of two colours in turn for the chunks of stage 0, two greys for those of the stages within.
_LETTER_TINTS = ("#FBD9A5", "#B5DDF4")
_INNER_GREYS = ("#5F5F5F", "#ABABAB")


def report_chunks(
    model_folder: Path,
    fasta: Path,
    region: str,
    out_folder: Path,
    *,
    window: int = 8192,
    context: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
) -> None:
    """Draw the chunks of a region.

    Writes `chunks.svg`, `chunks.tsv` (one row a base) and `chunks.json` (the region and its means) into
    `out_folder`.

    Args:
        model_folder: holds config.json and model.safetensors.
        fasta: plain or BGZF.
        region: `CONTIG:START-END`, 1-based and closed, of at most 600 bases.
        out_folder: made where it is missing.
        window: see `genotok.interpret.chunks.find_chunks`, as for the others.

    Raises:
        InputError: a file or the region cannot be read, or the region is too long for a picture.
    """
    settings = {"window": window, "context": context, "device": device, "precision": precision}
    found = chunks_of_region(model_folder, fasta, region, threads=threads, longest=LONGEST_REGION, **settings)
    save_figure(*chunk_picture(found), out_folder, FIGURE)
    write_json(_summary(found, Path(fasta).name, window), out_folder / SUMMARY)
