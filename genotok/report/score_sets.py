"""`genotok report score-sets`: several sets of variants, or models, beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.errors import InputError
from genotok.report.json_files import read_json, write_json
from genotok.report.names import SETS_FIGURE, SETS_SUMMARY, VARIANT_PREDICTORS, VARIANTS_SUMMARY
from genotok.report.style import BASELINE, GREY, MODEL, WIDTH, figure_that_says, save_figure, styled

# What is compared: where it stands in a set's summary, its keys, what a useless score gets.
MEASURES = {
    "spearman": ("statistics", ("spearman", "ci_low", "ci_high"), 0.0, "Spearman's correlation"),
    "auroc": ("labels", ("auroc", "auroc_low", "auroc_high"), 0.5, "AUROC"),
}


def report_score_sets(folders: Sequence[Path], out_folder: Path) -> None:
    """Draw how well the scores of several sets agree with what is known about them.

    Writes `score_sets.svg`, `.tsv` and `.json`.

    Args:
        folders: of `genotok.report.variants.report_variants`; their names are those of the sets.
        out_folder: made where it is missing.

    Raises:
        InputError: a folder holds no report of variants.
    """
    for folder in folders:
        if not (Path(folder) / VARIANTS_SUMMARY).is_file():
            raise InputError(
                f"{folder}: holds no {VARIANTS_SUMMARY}; let `genotok report variants` write into it"
            )
    summaries = {Path(folder).name: read_json(Path(folder) / VARIANTS_SUMMARY) for folder in folders}
    data = sets_table(summaries)
    save_figure(score_sets(data), data, out_folder, SETS_FIGURE)
    rows = data.astype(object).where(data.notna(), None).to_dict("records")
    write_json({"sets": list(summaries), "rows": rows}, out_folder / SETS_SUMMARY)


def sets_table(summaries: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The model and the best trivial score of each set that has a truth.

    Returns:
        `set`, `measure` (of `MEASURES`), `predictor`, `n`, `value`, `low`, `high`.
    """
    rows = []
    for name, summary in summaries.items():
        for measure, (part, keys, _, _) in MEASURES.items():
            predictors = (summary.get(part) or {}).get("predictors", {})
            known = {key: values for key, values in predictors.items() if values[measure] is not None}
            trivial = [key for key in known if not key.startswith("model")]
            best = max(trivial, key=lambda key: known[key][measure], default=None)
            rows += [
                (name, measure, key, known[key]["n"], *(known[key][end] for end in keys))
                for key in ("model", best)
                if key in known
            ]
    return pd.DataFrame(rows, columns=["set", "measure", "predictor", "n", "value", "low", "high"])


@styled
def score_sets(data: pd.DataFrame) -> Figure:
    """One panel a measure, one row a set: the model, and the best score that needs no model.

    Args:
        data: of `sets_table`.
    """
    measures = [name for name in MEASURES if name in set(data["measure"])]
    if not measures:
        return figure_that_says("No set has a measured effect or a label.")
    groups = {measure: data[data["measure"] == measure] for measure in measures}
    sizes = [part["set"].nunique() for part in groups.values()]
    figure = Figure(figsize=(WIDTH, 0.9 * len(sizes) + 0.5 * sum(sizes)), layout="constrained")
    panels = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (measure, part) in zip(panels, groups.items(), strict=True):
        _draw_measure(axes, part, MEASURES[measure][2])
        axes.set_xlabel(f"{MEASURES[measure][3]} (95 % interval)")
    return figure


def _draw_measure(axes: Axes, part: pd.DataFrame, useless: float) -> None:
    axes.axvline(useless, color=GREY, linewidth=0.9, linestyle="--")
    sets = list(dict.fromkeys(part["set"]))
    for row in part.itertuples():
        own = row.predictor == "model"
        place = sets.index(row.set) + (-0.15 if own else 0.15)
        colour = MODEL if own else BASELINE
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(row.value, place, "o", color=colour, markersize=5)
        text = f"{row.value:.3f}  {VARIANT_PREDICTORS[row.predictor]}".replace("-", "\N{MINUS SIGN}")
        side = {"transform": axes.get_yaxis_transform(), "va": "center", "size": 8}
        axes.text(1.02, place, text, color=colour, **side)
    axes.set_yticks(np.arange(len(sets)), sets)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.grid(axis="x")
