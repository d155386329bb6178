"""`genotok report downstream`: how well labels of sequences are predicted, method beside method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.errors import InputError
from genotok.report.json_files import read_json, write_json
from genotok.report.names import (
    DOWNSTREAM_FIGURE,
    DOWNSTREAM_METHODS,
    DOWNSTREAM_METRICS,
    DOWNSTREAM_PARTS,
    DOWNSTREAM_SUMMARY,
)
from genotok.report.style import BASELINE, GREY, MODEL, WIDTH, save_figure, styled

OWN_METHODS = ("finetune", "probe")


def report_downstream(results: Sequence[tuple[str, Path]], out_folder: Path) -> None:
    """Draw what probes and fine-tuning found.

    Writes `downstream.svg`, `.tsv` and `.json`.

    Args:
        results: (name of the set, JSON file of `genotok probe` or `genotok finetune`); several files of a set stand
            beside each other where they tested the same number of rows.
        out_folder: made where it is missing.

    Raises:
        InputError: a file cannot be read or holds something else.
    """
    found = [(name, path, _read(path)) for name, path in results]
    data = results_table([(name, result) for name, _, result in found])
    save_figure(labels_predicted(data), data, out_folder, DOWNSTREAM_FIGURE)
    sets: dict[str, dict[str, Any]] = {}
    for name, _, result in found:
        about = sets.setdefault(name, {key: result[key] for key in ("kind", "label", "split", "statement")})
        about.setdefault("tasks", {})[result["task"]] = {
            "model_sha256": result.get("model_sha256") or result.get("embedding", {}).get("model_sha256"),
            "settings": result.get("settings", {}),
            "differences": {part: compared["differences"] for part, compared in result["results"].items()},
        }
    rows = data.astype(object).where(data.notna(), None).to_dict("records")
    write_json({"sets": sets, "rows": rows}, out_folder / DOWNSTREAM_SUMMARY)


def _read(path: Path) -> dict[str, Any]:
    result = read_json(Path(path))
    for key in ("task", "kind", "statement", "results"):
        if key not in result:
            raise InputError(f"{path}: has no {key!r}; give the JSON file of `genotok probe` or `finetune`")
    return result


def results_table(results: Sequence[tuple[str, dict[str, Any]]]) -> pd.DataFrame:
    """One row a metric.

    Returns:
        `set`, `part` (of the test), `rows`, `method`, `metric`, `value`, `low`, `high`; of a method that stands in
        several results of a set, the majority, the first.
    """
    rows = []
    for name, result in results:
        for part, compared in result["results"].items():
            for method, about in compared["methods"].items():
                for metric, value in about["metrics"].items():
                    bounds = (value["value"], value["low"], value["high"])
                    rows.append((name, part, compared["rows"], method, metric, *bounds))
    columns = ["set", "part", "rows", "method", "metric", "value", "low", "high"]
    data = pd.DataFrame(rows, columns=columns).drop_duplicates(["set", "part", "method", "metric"])
    order = {method: place for place, method in enumerate(DOWNSTREAM_METHODS)}
    data["order"] = data["method"].map(order)
    sets = {name: place for place, name in enumerate(data["set"].unique())}
    parts = {part: place for place, part in enumerate(DOWNSTREAM_PARTS)}
    data = data.assign(of=data["set"].map(sets), at=data["part"].map(parts))
    data = data.sort_values(["of", "at", "order"], kind="stable")
    return data[columns].reset_index(drop=True).astype({"value": float, "low": float, "high": float})


@styled
def labels_predicted(data: pd.DataFrame) -> Figure:
    """A panel for each set and part of its test, a row a method, with its main metric.

    Args:
        data: of `results_table`.
    """
    panels = list(dict.fromkeys(zip(data["set"], data["part"], strict=True)))
    mains = []
    for name, part in panels:
        mine = data[(data["set"] == name) & (data["part"] == part)]
        mains.append(mine[mine["metric"] == mine["metric"].iloc[0]])
    sizes = [len(main) for main in mains]
    figure = Figure(figsize=(WIDTH, 0.75 * len(sizes) + 0.26 * sum(sizes)), layout="constrained")
    drawn = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (name, part), main in zip(drawn, panels, mains, strict=True):
        _draw(axes, main)
        axes.set_title(f"{name}, {main['rows'].iloc[0]:,} rows{DOWNSTREAM_PARTS[part]}")
        axes.set_xlabel(f"{DOWNSTREAM_METRICS[main['metric'].iloc[0]]} (95 % interval)")
    return figure


def _draw(axes: Axes, main: pd.DataFrame) -> None:
    axes.axvline(0, color=GREY, linewidth=0.9, linestyle="--")
    for place, row in enumerate(main.itertuples()):
        colour = MODEL if row.method in OWN_METHODS else BASELINE
        text = "none"
        if not np.isnan(row.value):
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(row.value, place, "o", color=colour, markersize=5)
            text = f"{row.value:.3f}".replace("-", "\N{MINUS SIGN}")
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", color=colour)
    axes.set_yticks(range(len(main)), [DOWNSTREAM_METHODS[method] for method in main["method"]])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(main) - 0.5, -0.5)
    axes.grid(axis="x")
