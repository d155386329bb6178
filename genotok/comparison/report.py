"""`genotok compare report`: one table, one figure, and what they support."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.comparison.arms import ENTROPY, FIXED, LEARNED, SINGLE, VOCABULARY
from genotok.comparison.conclusions import conclude
from genotok.comparison.summary import ArmResult, Comparison, Quality, put_together
from genotok.report.json_files import write_json
from genotok.report.mark_names import name_marks
from genotok.report.names import COMPARISON_FIGURE, COMPARISON_SUMMARY
from genotok.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, WIDTH, save_figure, styled

PAGE = "comparison.md"
COLOURS = {SINGLE: BLUE, FIXED: GREEN, VOCABULARY: ORANGE, ENTROPY: PURPLE, LEARNED: VERMILLION}
MARKS = {SINGLE: "o", FIXED: "s", VOCABULARY: "D", ENTROPY: "v", LEARNED: "^"}
FAMILIES = {
    SINGLE: "single bases",
    FIXED: "fixed cuts",
    VOCABULARY: "byte pairs",
    ENTROPY: "entropy patches",
    LEARNED: "learned",
}
COSTS = {
    "seconds_per_megabase": "Seconds to train on a megabase",
    "gigabytes": "Peak memory of training (GB)",
}


def report_comparison(
    plan: dict[str, Any],
    runs: Sequence[dict[str, Any]],
    out_folder: Path,
    baselines: dict[str, Any] | None = None,
    machine: dict[str, Any] | None = None,
) -> None:
    """Write `comparison.svg` and `.tsv`, `comparison.json` and `comparison.md`.

    Args:
        plan: of `genotok.comparison.plan.make_plan`.
        runs: `measures.json` of the runs, in any order.
        out_folder: made where it is missing.
        baselines: of `genotok.comparison.baselines.measure_baselines`.
        machine: JSON values that say what the runs were made on.

    Raises:
        InputError: fewer than two arms are complete, or the runs are not of this plan.
    """
    comparison = put_together(plan, runs, baselines)
    data, said = comparison_table(comparison), conclude(comparison)
    save_figure(quality_against_cost(comparison, data), data, out_folder, COMPARISON_FIGURE)
    (out_folder / PAGE).write_text(page(comparison, data, said))
    rows = data.astype(object).where(data.notna(), None).to_dict("records")
    about = {"plan": plan, "machine": machine, "baselines": baselines}
    write_json({"rows": rows, "conclusions": said, **about}, out_folder / COMPARISON_SUMMARY)


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """One row an arm; see docs/comparison.md for the columns."""
    return pd.DataFrame([_row(comparison, arm) for arm in comparison.arms])


def _row(comparison: Comparison, arm: ArmResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "arm": arm.name,
        "title": arm.title,
        "family": arm.family,
        "seeds": len(arm.seeds),
        "parameters": arm.parameters,
        "flops_per_base": arm.flops_per_base,
        "deviation": arm.deviation,
    }
    for quality in comparison.qualities:
        estimate = arm.qualities[quality.key]
        low, high = estimate.interval()
        row |= {quality.key: estimate.value, f"{quality.key}_low": low, f"{quality.key}_high": high}
    return row | {
        "bases_per_second": arm.bases_per_second,
        "seconds_per_megabase": 1e6 / arm.bases_per_second,
        "gigabytes": arm.memory_bytes / 1e9,
        "letters_a_row": arm.letters_a_row,
        "boundaries_changed": np.nan if arm.changed is None else arm.changed,
        "bases_to_recover": np.nan if arm.recovered is None else arm.recovered,
    }


@styled
def quality_against_cost(comparison: Comparison, data: pd.DataFrame) -> Figure:
    """Bits per base of each held-out genome against the time and the memory of training.

    Args:
        comparison: what was compared.
        data: of `comparison_table`.
    """
    shown = [quality for quality in comparison.qualities if quality.key.startswith("bits_")]
    figure = Figure(figsize=(WIDTH, 3.0 * len(shown) + 0.5), layout="constrained")
    panels = figure.subplots(len(shown), len(COSTS), squeeze=False, sharey="row")
    for line, quality in zip(panels, shown, strict=True):
        for axes, cost in zip(line, COSTS, strict=True):
            _draw(axes, data, cost, quality.key)
            for least in _least_of_words(comparison, quality):
                axes.axhline(least, color=GREY, linewidth=0.9, linestyle="--")
            axes.margins(x=0.08)
            axes.set_xlabel(COSTS[cost])
            axes.grid(axis="y")
        line[0].set_ylabel("Bits per base (95 % interval)")
        line[0].set_title(quality.title.removeprefix("bits per base, "))
    present = [family for family in FAMILIES if family in set(data["family"])]
    handles = [
        Axes.plot(panels[0, 0], [], [], MARKS[family], color=COLOURS[family], label=FAMILIES[family])[0]
        for family in present
    ]
    if any((comparison.baselines or {}).get("bits_per_base", {}).values()):
        line_of_words = {"color": GREY, "linewidth": 0.9, "linestyle": "--", "label": "best counts of words"}
        handles += Axes.plot(panels[0, 0], [], [], **line_of_words)
    close = {"columnspacing": 1.2, "handletextpad": 0.4}
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **close)
    figure.draw_without_rendering()  # the layout, on which the places of names depend
    figure.set_layout_engine("none")
    for line, quality in zip(panels, shown, strict=True):
        for axes, cost in zip(line, COSTS, strict=True):
            columns = [cost, quality.key, f"{quality.key}_low", f"{quality.key}_high"]
            name_marks(
                axes, data["arm"].tolist(), data[columns].to_numpy(), _least_of_words(comparison, quality)
            )
    return figure


def _least_of_words(comparison: Comparison, quality: Quality) -> list[float]:
    """Bits per base of the best counts of words, where they are known."""
    bits = (comparison.baselines or {}).get("bits_per_base", {}).get(quality.key.removeprefix("bits_"), {})
    return [min(bits.values())] if bits else []


def _draw(axes: Axes, data: pd.DataFrame, cost: str, key: str) -> None:
    for row in data.to_dict("records"):
        place, value, colour = row[cost], row[key], COLOURS[row["family"]]
        axes.plot([place, place], [row[f"{key}_low"], row[f"{key}_high"]], color=colour, linewidth=1.2)
        axes.plot(place, value, MARKS[row["family"]], color=colour, markersize=4.5)


def page(comparison: Comparison, data: pd.DataFrame, said: list[dict[str, Any]]) -> str:
    """The table and the conclusions as Markdown."""
    heads = [
        "arm",
        "parameters",
        "operations a base, million (furthest run off)",
        *(quality.title for quality in comparison.qualities),
    ]
    heads += [
        "training, bases/s",
        "memory, GB",
        "bases a row",
        "boundaries an SNV changes",
        "bases to recover",
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(_cells(comparison, row))} |" for row in data.to_dict("records")]
    return "\n".join([*lines, "", *(f"- {one['says']}" for one in said)]) + "\n"


def _cells(comparison: Comparison, row: dict[str, Any]) -> list[str]:
    cells = [f"{row['title']} (`{row['arm']}`)", f"{row['parameters'] / 1e6:.2f} M"]
    cells.append(f"{row['flops_per_base'] / 1e6:.2f} ({100 * row['deviation']:+.1f} %)")
    for quality in comparison.qualities:
        value, low, high = (f"{row[quality.key + end]:.{quality.digits}f}" for end in ("", "_low", "_high"))
        cells.append(f"{value} [{low}, {high}]")
    cells += [f"{row['bases_per_second']:,.0f}", f"{row['gigabytes']:.2f}", f"{row['letters_a_row']:.2f}"]
    if np.isnan(row["boundaries_changed"]):
        return [*cells, "", ""]
    never = np.isnan(row["bases_to_recover"])
    return [
        *cells,
        f"{row['boundaries_changed']:.2f}",
        "never" if never else f"{row['bases_to_recover']:.0f}",
    ]
