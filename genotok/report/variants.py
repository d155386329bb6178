"""`genotok report variants`: how the scores are spread, and how well they agree with measured effects."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from genotok.evaluation.variant_effect import evaluate_variants
from genotok.evaluation.variant_labels import AREAS, evaluate_labels
from genotok.report.json_files import write_json
from genotok.report.names import (
    AGREEMENT_FIGURE,
    DISTRIBUTION_FIGURE,
    LABELS_FIGURE,
    TRUTH_FIGURE,
    VARIANT_PREDICTORS,
    VARIANTS_SUMMARY,
    agreement_groups,
    signed,
)
from genotok.report.scored_alleles import about_scoring
from genotok.report.style import (
    BASELINE,
    BLACK,
    BLUE,
    GREY,
    MODEL,
    SEQUENTIAL,
    SKY,
    VERMILLION,
    WIDTH,
    figure_that_says,
    save_figure,
    styled,
)
from genotok.report.truth import Truth, alleles_with_truth

BINS = 60
TAIL = 0.002  # this part of the scores at either end is counted in the outermost bins
FEWEST_OF_A_CLASS, MOST_CLASSES = 20, 8


def report_variants(
    parquet: Path,
    scored_vcf: Path,
    truth_field: str | None,
    consequence_field: str | None,
    out_folder: Path,
    *,
    known: Truth | None = None,
    harmful_below: float | None = None,
    resamples: int = 1000,
) -> None:
    """Draw the scores of a VCF, and compare them with measured effects or labels where these are known.

    Writes `llr_distribution.svg` and `.tsv` and `variant_effect.json` into `out_folder`; with measured effects
    also `variant_effect.svg` and `.tsv`, and `llr_against_truth.svg` and `.tsv`; with labels `label_areas.svg` and
    `.tsv`.

    Args:
        parquet: of `genotok score`.
        scored_vcf: of the same scoring.
        truth_field: INFO field (`Number=A`) with measured effects, higher = fitter; None or empty for none.
        consequence_field: INFO field (`Number=A`) with consequence classes; None or empty for none. With a
            truth, the names must be those of `genotok.evaluation.variant_effect.CONSEQUENCE_SCORES`.
        out_folder: made where it is missing.
        known: more about the truth, in place of the two fields.
        harmful_below: a truth below it counts as harmful in the areas under the curves; None leaves these out.
        resamples: of the bootstrap.

    Raises:
        InputError: a file cannot be read, the two are not of one scoring, or a field is not what it should be.
    """
    known = known or Truth(truth=truth_field or None, consequence=consequence_field or None)
    alleles, baselines = alleles_with_truth(parquet, scored_vcf, known)
    consequence = "consequence" if "consequence" in alleles else None
    statistics = labels = None
    if known.truth:
        options = {"truth": "truth", "consequence": consequence, "harmful_below": harmful_below}
        statistics = evaluate_variants(alleles, "llr", **options, baselines=baselines, resamples=resamples)
        save_figure(*variant_effect(statistics), out_folder, AGREEMENT_FIGURE)
        save_figure(*llr_against_truth(alleles, known.truth), out_folder, TRUTH_FIGURE)
    if known.label:
        labels = evaluate_labels(alleles, baselines, resamples=resamples)
        save_figure(*label_areas(labels), out_folder, LABELS_FIGURE)
    save_figure(*score_distribution(alleles), out_folder, DISTRIBUTION_FIGURE)
    summary = {
        "alleles": len(alleles),
        "status": {name: int(count) for name, count in alleles["status"].value_counts().items()},
        "llr": _quantiles(alleles["llr"].dropna()),
        "fields": {"truth": known.truth, "consequence": known.consequence}
        | ({"label": known.label} if known.label else {}),
        "scoring": about_scoring(scored_vcf),
        "statistics": statistics,
    }
    write_json(summary | ({"labels": labels} if labels else {}), out_folder / VARIANTS_SUMMARY)


def _quantiles(llr: pd.Series) -> dict[str, float] | None:
    if llr.empty:
        return None
    marks = {"min": 0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1}
    return {"mean": float(llr.mean())} | {name: float(llr.quantile(at)) for name, at in marks.items()}


@styled
def score_distribution(alleles: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Histogram of the LLR: one panel a consequence class where classes are known, with the median marked.

    Args:
        alleles: with the column `llr`, and `consequence` where known; alleles without a score are left out.
    """
    scored = alleles[alleles["llr"].notna()]
    columns = ["class", "llr_from", "llr_to", "alleles"]
    if scored.empty:
        return figure_that_says("No allele has a score."), pd.DataFrame(columns=columns)
    classes = _classes(scored)
    low, high = scored["llr"].quantile([TAIL, 1 - TAIL])
    edges = np.linspace(low, high, BINS + 1) if low < high else np.array([low - 0.5, high + 0.5])
    figure = Figure(figsize=(WIDTH, 0.7 + max(0.62 * len(classes), 2)), layout="constrained")
    panels = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    rows = []
    for axes, (name, llr) in zip(panels, classes.items(), strict=True):
        counts, _ = np.histogram(llr.clip(edges[0], edges[-1]), edges)
        rows += [(name, *span, count) for *span, count in zip(edges[:-1], edges[1:], counts, strict=True)]
        _draw_class(axes, name, llr, counts, edges)
    panels[-1].set_xlabel("LLR (nats; negative: the model finds ALT less likely)")
    figure.supylabel("Alleles of the class (%)" if len(classes) > 1 else "Alleles (%)", size=9)
    return figure, pd.DataFrame(rows, columns=columns)


def _draw_class(axes: Axes, name: str, llr: pd.Series, counts: np.ndarray, edges: np.ndarray) -> None:
    axes.stairs(100 * counts / counts.sum(), edges, fill=True, facecolor=SKY, edgecolor=BLUE, linewidth=0.8)
    axes.axvline(0, color=GREY, linewidth=0.9, linestyle="--")
    axes.axvline(llr.median(), color=VERMILLION, linewidth=1.8)
    axes.set_ylim(bottom=0)
    label = f"{name.replace('_', ' ')}\nn = {len(llr):,}\nmedian {signed(llr.median())}"
    axes.text(1.01, 0.5, label, transform=axes.transAxes, va="center", size=8)


def _classes(scored: pd.DataFrame) -> dict[str, pd.Series]:
    """The scores of each consequence class, by falling median; those of rare classes together at the end."""
    if "consequence" not in scored:
        return {"all alleles": scored["llr"]}
    names = scored["consequence"].fillna("unknown")
    counts = names.value_counts()
    common = counts[counts >= FEWEST_OF_A_CLASS].index[:MOST_CLASSES]
    names = names.where(names.isin(common), "other classes" if len(common) else "all alleles")
    medians = scored["llr"].groupby(names).median()
    order = sorted(medians.items(), key=lambda item: (item[0] == "other classes", -item[1], item[0]))
    return {name: scored["llr"][names == name] for name, _ in order}


def agreement_table(statistics: dict[str, Any]) -> pd.DataFrame:
    """Spearman's correlation with its interval: `variants` (`all` or a class), `predictor`, `n` and the rest."""
    return _rows_of_groups(statistics).astype(dict.fromkeys(["spearman", "ci_low", "ci_high", "p"], float))


def _rows_of_groups(statistics: dict[str, Any]) -> pd.DataFrame:
    """A row for each group of variants and each predictor, with `variants`, `predictor` and what was found."""
    rows = [
        {"variants": group, "predictor": predictor, **values}
        for group, predictors in agreement_groups(statistics).items()
        for predictor, values in predictors.items()
    ]
    return pd.DataFrame(rows)


def _places_of_rows(data: pd.DataFrame) -> pd.Series:
    """Where rows are drawn: one below the other, with a gap between groups."""
    return np.arange(len(data)) + 0.7 * (data["variants"] != data["variants"].shift()).cumsum() - 0.7


@styled
def variant_effect(statistics: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Spearman's correlation with the truth, with its bootstrap interval: the model beside trivial scores.

    Args:
        statistics: of `genotok.evaluation.variant_effect.evaluate_variants`.
    """
    data = agreement_table(statistics)
    places = _places_of_rows(data)
    figure = Figure(figsize=(WIDTH, 0.8 + 0.25 * (places.max() + 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color=GREY, linewidth=0.9, linestyle="--")
    for place, row in zip(places, data.itertuples(), strict=True):
        colour = MODEL if row.predictor == "model" else BASELINE
        axes.plot(
            [row.ci_low, row.ci_high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt"
        )
        axes.plot(row.spearman, place, "o", color=colour, markersize=5)
        text = "undefined" if np.isnan(row.spearman) else signed(row.spearman)
        weight = "bold" if row.predictor == "model" else "normal"
        side = {"transform": axes.get_yaxis_transform(), "va": "center", "size": 8}
        axes.text(1.02, place, text, color=colour, weight=weight, **side)
    _name_rows(axes, data, places)
    axes.set_ylim(places.max() + 0.6, -0.6)
    axes.grid(axis="x")
    axes.set_xlabel("Spearman's correlation with the measured effect (95 % interval)")
    return figure, data


def _name_rows(axes: Axes, data: pd.DataFrame, places: pd.Series) -> None:
    """Name the predictor at each row, and the group of variants at its first row."""
    axes.set_yticks(places, [VARIANT_PREDICTORS[name] for name in data["predictor"]])
    axes.tick_params(axis="y", length=0)
    for group, rows in data.groupby("variants", sort=False):
        name = "all variants" if group == "all" else group.replace("_", " ")
        label = f"{name}\nn = {rows['n'].max():,}"
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "size": 8}
        axes.annotate(
            label, (0, places[rows.index[0]]), (-140, 4), va="top", ha="right", color=BLACK, **place
        )


def label_table(labels: dict[str, Any]) -> pd.DataFrame:
    """The areas with their intervals: `variants` (`all` or a class), `predictor`, `n`, `positives` and the rest."""
    return _rows_of_groups(labels).astype(
        {f"{area}{end}": float for area in AREAS for end in ("", "_low", "_high")}
    )


@styled
def label_areas(labels: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """The areas under the ROC and the precision-recall curve, with their intervals: the model beside trivial scores.

    Args:
        labels: of `genotok.evaluation.variant_labels.evaluate_labels`.
    """
    data = label_table(labels)
    places = _places_of_rows(data)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.25 * (places.max() + 1)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    useless = 0.5, data["positives"] / data["n"].where(data["n"] > 0)
    names = "AUROC", "AUPRC"
    for axes, area, name, guess in zip(panels, ("auroc", "auprc"), names, useless, strict=True):
        _draw_areas(axes, data, area, places, np.broadcast_to(guess, len(data)))
        axes.set_xlabel(f"{name} (95 % interval)")
    _name_rows(panels[0], data, places)
    panels[0].set_ylim(places.max() + 0.6, -0.6)
    return figure, data


def _draw_areas(axes: Axes, data: pd.DataFrame, area: str, places: pd.Series, useless: np.ndarray) -> None:
    """Dots with whiskers, and for each row a grey mark at the area of a useless score."""
    axes.plot(useless, places, "|", color=GREY, markersize=9)
    for place, row in zip(places, data.to_dict("records"), strict=True):
        colour = MODEL if row["predictor"].startswith("model") else BASELINE
        ends = [row[f"{area}_low"], row[f"{area}_high"]]
        axes.plot(ends, [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(row[area], place, "o", color=colour, markersize=5)
        text = "undefined" if np.isnan(row[area]) else f"{row[area]:.3f}"
        side = {"transform": axes.get_yaxis_transform(), "va": "center", "size": 8}
        axes.text(1.02, place, text, color=colour, **side)
    axes.set_xlim(0, 1)
    axes.grid(axis="x")


@styled
def llr_against_truth(alleles: pd.DataFrame, truth_name: str) -> tuple[Figure, pd.DataFrame]:
    """How many variants have which LLR and which truth, in hexagons, with the median truth along the LLR.

    Args:
        alleles: with the columns `llr` and `truth`; those without either are left out.
        truth_name: what the axis is called.

    Returns:
        The figure, and the hexagons' centres `llr` and `truth` with their `alleles`.
    """
    known = alleles[alleles["llr"].notna() & alleles["truth"].notna()]
    if known.empty:
        empty = pd.DataFrame(columns=["llr", "truth", "alleles"])
        return figure_that_says("No allele has both a score and a measured effect."), empty
    figure = Figure(figsize=(WIDTH * 0.75, 3.8), layout="constrained")
    axes = figure.add_subplot()
    norm = LogNorm(vmin=0.3)  # so that a single allele is not all but white
    hexagons = axes.hexbin(known["llr"], known["truth"], gridsize=45, mincnt=1, norm=norm, cmap=SEQUENTIAL)
    bar = figure.colorbar(hexagons, ax=axes, label="Alleles in a hexagon", format="{x:,.0f}", shrink=0.8)
    bar.ax.set_ylim(bottom=1)
    medians = _medians(known)
    axes.plot(medians["llr"], medians["truth"], color=MODEL, linewidth=1.8, label="median of each 5 %")
    axes.set_xlabel("LLR (nats)")
    axes.set_ylabel(truth_name)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1))
    data = pd.DataFrame(hexagons.get_offsets(), columns=["llr", "truth"])
    return figure, data.assign(alleles=hexagons.get_array().astype(int))


def _medians(known: pd.DataFrame) -> pd.DataFrame:
    """The medians of LLR and truth in each twentieth of the alleles, by rising LLR."""
    twentieth = (known["llr"].rank(method="first") - 1) * 20 // len(known)
    return known[["llr", "truth"]].groupby(twentieth).median()
