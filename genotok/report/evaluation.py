"""`genotok report evaluation`: bits per base beside the baselines, and how long the learned chunks are."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genotok.errors import InputError
from genotok.evaluation.length_histogram import LONGEST_LISTED_CHUNK
from genotok.report.json_files import read_json, write_json
from genotok.report.names import BITS_FIGURE, EVALUATION_SUMMARY, LENGTHS_FIGURE, predictor_label
from genotok.report.style import (
    BASELINE,
    BLACK,
    MODEL,
    SERIES,
    WIDTH,
    figure_that_says,
    save_figure,
    styled,
)

_MOST_VECTOR_POINTS = 5000  # beyond, the contigs become a picture inside the SVG


def report_evaluation(metrics_json: Path, out_folder: Path) -> None:
    """Draw what `genotok evaluate` found.

    Writes `bits_per_base.svg` and `.tsv`, `chunk_lengths.svg` and `.tsv`, and `evaluation.json` (the metrics
    themselves, for the results page) into `out_folder`.

    Args:
        metrics_json: of `genotok evaluate`.
        out_folder: made where it is missing.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    metrics = read_metrics_json(metrics_json)
    save_figure(*bits_against_baselines(metrics), out_folder, BITS_FIGURE)
    save_figure(*chunk_length_histogram(metrics), out_folder, LENGTHS_FIGURE)
    write_json(metrics, out_folder / EVALUATION_SUMMARY)


def read_metrics_json(path: Path) -> dict[str, Any]:
    """The metrics that `genotok evaluate` wrote.

    Raises:
        InputError: the file cannot be read, or a part is missing.
    """
    metrics = read_json(path)
    for key in ("model", "baselines", "contigs", "stages", "adaptive"):
        if key not in metrics:
            raise InputError(f"{path}: has no {key!r}; give the JSON file of `genotok evaluate`")
    return metrics


def bits_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """Bits per base of each predictor, `uniform` first and `model` last: one row for all contigs together
    (empty `genome` and `contig`), then one for each contig."""
    rows = []
    for name in [*metrics["baselines"], "model"]:
        total = metrics["model"] if name == "model" else metrics["baselines"][name]
        rows.append((name, None, None, total["nucleotides"], total["bits_per_base"]))
        for contig in metrics["contigs"]:
            bits = contig["bits_per_base"] if name == "model" else contig["baselines"][name]
            rows.append((name, contig["genome"], contig["contig"], contig["nucleotides"], bits))
    columns = ["predictor", "genome", "contig", "nucleotides", "bits_per_base"]
    return pd.DataFrame(rows, columns=columns).astype({"bits_per_base": float})


@styled
def bits_against_baselines(metrics: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """A row for each predictor: a large dot with its value for all contigs, a small one for each contig."""
    data = bits_table(metrics)
    names = list(data["predictor"].unique())
    figure = Figure(figsize=(WIDTH, 0.9 + 0.32 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        colour = MODEL if name == "model" else BASELINE
        mine = data[data["predictor"] == name]
        contigs = mine["bits_per_base"][mine["contig"].notna()].dropna()
        points = {"s": 14, "alpha": 0.35, "linewidths": 0, "rasterized": len(contigs) > _MOST_VECTOR_POINTS}
        axes.scatter(contigs, np.full(len(contigs), row), color=colour, **points)
        total = mine["bits_per_base"].iloc[0]
        if not np.isnan(total):
            axes.scatter([total], [row], color=colour, s=60, edgecolors="white", linewidths=0.8, zorder=3)
        text = "none" if np.isnan(total) else f"{total:.4f}"
        weight = "bold" if name == "model" else "normal"
        side = {"transform": axes.get_yaxis_transform(), "va": "center", "weight": weight}
        axes.text(1.02, row, text, color=colour, **side)
    axes.set_yticks(range(len(names)), [predictor_label(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.06)
    axes.grid(axis="both")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Bits per base (fewer are better)")
    return figure, data


def chunk_length_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """`stage`, `length` in bases, `chunks` and their `share`; the last length listed stands for all longer."""
    rows = [
        (stage["stage"], int(length), count, count / stage["chunks"])
        for stage in metrics["stages"]
        for length, count in stage["lengths"].items()
    ]
    return pd.DataFrame(rows, columns=["stage", "length", "chunks", "share"])


@styled
def chunk_length_histogram(metrics: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """For each stage the share of its chunks that have each length, and the mean length."""
    data, stages = chunk_length_table(metrics), metrics["stages"]
    if not stages:
        return figure_that_says("This model has no chunking stage: each base is a token of its own."), data
    figure = Figure(figsize=(WIDTH, 0.6 + 1.9 * len(stages)), layout="constrained")
    longest = int(data["length"].max())
    panels = figure.subplots(len(stages), 1, sharex=True, squeeze=False)[:, 0]
    for axes, stage in zip(panels, stages, strict=True):
        mine = data[data["stage"] == stage["stage"]]
        colour = SERIES[stage["stage"] % len(SERIES)]
        axes.bar(mine["length"], 100 * mine["share"], width=0.85, color=colour)
        mean = min(stage["mean_length"], longest)  # at the last bar where that stands for all longer ones
        axes.axvline(mean, color=BLACK, linestyle="--", linewidth=1)
        left = mean > longest / 2
        place = {"textcoords": "offset points", "va": "top", "xycoords": ("data", "axes fraction")}
        place |= {"xytext": (-4 if left else 4, 0), "ha": "right" if left else "left"}
        axes.annotate(f"mean {stage['mean_length']:.2f} bases", (mean, 1), **place)
        axes.set_title(f"Stage {stage['stage']}: {stage['chunks']:,} chunks")
        axes.set_ylabel("Chunks (%)")
        axes.grid(axis="y")
    panels[-1].set_xlabel("Length of the chunk (bases)")
    panels[-1].set_xlim(0.3, longest + 0.7)
    if longest >= LONGEST_LISTED_CHUNK:
        ticks = [1, *range(8, LONGEST_LISTED_CHUNK + 1, 8)]
        labels = [*map(str, ticks[:-1]), f"≥ {LONGEST_LISTED_CHUNK}"]
        panels[-1].set_xticks(ticks, labels)
    return figure, data
