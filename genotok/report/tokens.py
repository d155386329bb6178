"""`genotok report tokens`: what the chunks of a model follow, which words they are, and how they change."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genotok.interpret.annotation_masks import Annotation
from genotok.interpret.chunks import open_reading
from genotok.interpret.stability import Stability, chunk_stability
from genotok.interpret.token_survey import TokenSurvey, survey_tokens
from genotok.interpret.vocabulary import LONGEST_WORD, Vocabulary
from genotok.report.json_files import write_json
from genotok.report.names import (
    ENRICHMENT_FIGURE,
    PLACE_KINDS,
    STABILITY_FIGURE,
    STAGES_FIGURE,
    TOKENS_SUMMARY,
    TRACK_FIGURE,
    WORDS_FIGURE,
)
from genotok.report.style import (
    BLACK,
    GREY,
    PALE,
    SERIES,
    VERMILLION,
    WIDTH,
    figure_that_says,
    save_figure,
    styled,
)
from genotok.report.token_stages import stages_figure, stages_table
from genotok.report.token_track import Transcripts, track_figure, track_table
from genotok.training.columns import cuts_by_given

WORDS_DRAWN, WORDS_LISTED = 20, 200
NO_STAGES = "This model has no chunking stage: its tokens are what its tokenizer makes."


def report_tokens(
    model_folder: Path,
    fasta: Path,
    out_folder: Path,
    *,
    gff: Path | None = None,
    beds: Sequence[Path] = (),
    regions: Sequence[str] = (),
    bed: Path | None = None,
    window: int = 8192,
    sites: int = 256,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
) -> None:
    """Read a genome, or some regions of it, and draw what is found of the chunks.

    Writes `token_enrichment`, `token_words`, `token_stages`, `token_track` and `token_stability` as `.svg` with their
    data as `.tsv`, and `tokens.json`.

    Args:
        model_folder: holds config.json and model.safetensors.
        fasta: plain or BGZF.
        out_folder: made where it is missing.
        gff: GFF3 of the genome.
        beds: files of intervals, each a kind of places under its own name.
        regions: `CONTIG:START-END`, 1-based and closed; with `bed` too none means all.
        bed: a BED file with more regions to read.
        window: letters read at once.
        sites: how many places are read with another letter; 0 leaves this out.
        device, precision, threads: of the model.

    Raises:
        InputError: a file or a region cannot be read.
    """
    with open_reading(model_folder, fasta, regions, bed=bed, device=device, threads=threads) as reading:
        annotation = Annotation(reading.reference.contigs, gff, beds)
        found = survey_tokens(
            reading.parts(window=window, precision=precision), reading.reference, annotation
        )
        stability: list[Stability] = []
        if sites and reading.model.config.chunkers and not cuts_by_given(reading.model.config):
            settings = {"sites": sites, "precision": precision}
            stability = chunk_stability(reading.model, reading.reference, reading.regions, **settings)
        shown = [f"{contig}:{start + 1}-{end}" for contig, start, end in reading.regions]
    write_token_report(found, stability, out_folder, shown, annotation.transcripts)


def write_token_report(
    found: TokenSurvey,
    stability: Sequence[Stability],
    out_folder: Path,
    regions: Sequence[str],
    transcripts: Transcripts | None = None,
) -> None:
    """Draw a survey and write its tables; the transcripts of each contig stand below the compression along it."""
    enrichment = pd.DataFrame([asdict(row) for row in found.enrichment.table()])
    words = words_table(found.vocabulary)
    save_figure(enrichment_figure(enrichment), enrichment, out_folder, ENRICHMENT_FIGURE)
    save_figure(words_figure(words), words, out_folder, WORDS_FIGURE)
    stages = stages_table(found, enrichment)
    save_figure(stages_figure(stages), stages, out_folder, STAGES_FIGURE)
    track = track_table(found.compression, transcripts)
    save_figure(track_figure(track, transcripts), track, out_folder, TRACK_FIGURE)
    changes = stability_table(stability)
    save_figure(stability_figure(changes), changes, out_folder, STABILITY_FIGURE)
    write_json(_summary(found, enrichment, stability, regions), out_folder / TOKENS_SUMMARY)


def _summary(
    found: TokenSurvey, enrichment: pd.DataFrame, stability: Sequence[Stability], regions: Sequence[str]
) -> dict[str, Any]:
    stages = []
    for stage in sorted(found.vocabulary.stages):
        lengths = found.vocabulary.lengths(stage)
        chunks = sum(lengths.values())
        stages.append(
            {
                "stage": stage,
                "chunks": chunks,
                "mean_length": sum(length * count for length, count in lengths.items()) / chunks,
                "words": len(found.vocabulary.stages[stage].words),
            }
        )
    rows = enrichment.astype(object).where(enrichment.notna(), None).to_dict("records")
    changes = [
        {
            "stage": row.stage,
            "sites": row.sites,
            "changed_by_substitution": row.substitution_all,
            "bases_to_recover": row.recovered,
        }
        for row in stability
    ]
    return {
        "regions": list(regions[:5]),
        "region_count": len(regions),
        "bases": sum(found.compression.bases.values()),
        "rotations": found.enrichment.rotations,
        "stages": stages,
        "enrichment": rows,
        "stability": changes,
    }


@styled
def enrichment_figure(data: pd.DataFrame) -> Figure:
    """For each kind of places the share of its bases where a chunk begins, over what rotations give."""
    if data.empty:
        return figure_that_says(NO_STAGES)
    stages, kinds = sorted(data["stage"].unique()), _ordered(data["kind"].unique())
    figure = Figure(figsize=(WIDTH, 1.0 + 0.24 * len(kinds)), layout="constrained")
    panels = figure.subplots(1, len(stages), sharey=True, squeeze=False)[0]
    for axes, stage in zip(panels, stages, strict=True):
        mine = data[data["stage"] == stage].set_index("kind").reindex(kinds)
        for row, (_, values) in enumerate(mine.iterrows()):
            if pd.isna(values["fold"]):
                continue
            axes.plot(
                [values["fold_low"], values["fold_high"]], [row, row], color=PALE, linewidth=7, zorder=1
            )
            beyond = not values["fold_low"] <= values["fold"] <= values["fold_high"]
            axes.plot(values["fold"], row, "o", color=VERMILLION if beyond else GREY, markersize=5)
            side = {"transform": axes.get_yaxis_transform(), "va": "center", "size": 7}
            axes.text(1.02, row, f"{100 * values['rate']:.1f} %", **side)
        axes.axvline(1, color=BLACK, linewidth=0.8, linestyle="--")
        axes.set_title(f"Stage {stage}")
        axes.set_xlabel("Boundaries over those of rotations")
        axes.grid(axis="x")
    panels[0].set_yticks(range(len(kinds)), [PLACE_KINDS.get(kind, kind) for kind in kinds])
    panels[0].set_ylim(len(kinds) - 0.5, -0.5)
    return figure


def _ordered(kinds: Sequence[str]) -> list[str]:
    """Known kinds in their order, then others as they came."""
    known = [kind for kind in PLACE_KINDS if kind in set(kinds)]
    return known + [kind for kind in kinds if kind not in PLACE_KINDS]


def words_table(vocabulary: Vocabulary) -> pd.DataFrame:
    """The 200 most frequent words of each stage: `stage`, `word`, `count`, `share`, `expected`, `other_strand`."""
    rows = [
        word for stage in sorted(vocabulary.stages) for word in vocabulary.most_frequent(stage, WORDS_LISTED)
    ]
    return pd.DataFrame(rows, columns=["stage", "word", "count", "share", "expected", "other_strand"])


@styled
def words_figure(data: pd.DataFrame) -> Figure:
    """The most frequent words of each stage, with the counts that independent letters would give."""
    if data.empty:
        return figure_that_says(f"There are no chunks of at most {LONGEST_WORD} letters.")
    stages = sorted(data["stage"].unique())
    figure = Figure(figsize=(WIDTH, 0.7 + 0.17 * WORDS_DRAWN), layout="constrained")
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, stage in zip(panels, stages, strict=True):
        mine = data[data["stage"] == stage].head(WORDS_DRAWN)
        rows = np.arange(len(mine))
        axes.barh(rows, mine["count"], height=0.75, color=SERIES[stage % len(SERIES)])
        axes.plot(mine["expected"], rows, "|", color=BLACK, markersize=8)
        shortened = [word if len(word) <= 14 else f"{word[:12]}..." for word in mine["word"]]
        axes.set_yticks(rows, shortened, family="DejaVu Sans Mono", size=7)
        axes.set_ylim(WORDS_DRAWN - 0.5, -0.7)
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"Stage {stage}")
        axes.set_xlabel("Chunks")
        axes.grid(axis="x")
    return figure


def stability_table(stability: Sequence[Stability]) -> pd.DataFrame:
    """`stage`, `change` (`substitution` or `shift`), `distance` in bases, and `share` of the sites that differ."""
    rows = [
        (row.stage, change, distance, share)
        for row in stability
        for change, shares in (("substitution", row.substitution), ("shift", row.shift))
        for distance, share in enumerate(shares.tolist())
    ]
    return pd.DataFrame(rows, columns=["stage", "change", "distance", "share"])


@styled
def stability_figure(data: pd.DataFrame) -> Figure:
    """How often a boundary comes or goes at each distance behind a substitution, and behind another beginning."""
    if data.empty:
        return figure_that_says("No chunks that could change.")
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"substitution": "Behind one substitution", "shift": "When reading begins one base later"}
    for axes, (change, title) in zip(panels, titles.items(), strict=True):
        for stage, mine in data[data["change"] == change].groupby("stage"):
            shown = mine[mine["distance"] < 128]
            colour = SERIES[int(stage) % len(SERIES)]
            axes.plot(
                shown["distance"], 100 * shown["share"], color=colour, label=f"stage {stage}", linewidth=1.2
            )
        axes.set_title(title)
        axes.set_xlabel("Distance (bases)")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
    panels[0].set_ylabel("Sites with another boundary (%)")
    panels[0].legend()
    return figure
