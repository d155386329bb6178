"""The section of the results page on labels that are predicted."""

from pathlib import Path
from typing import Any

from genotok.report.markup import Columns, figure, heading, paragraph, table
from genotok.report.names import (
    DOWNSTREAM_FIGURE,
    DOWNSTREAM_METHODS,
    DOWNSTREAM_METRICS,
    DOWNSTREAM_PARTS,
)

Summary = dict[str, Any]


def downstream_headline(folder: Path, summary: Summary) -> str:
    """The main metric of every method on each set."""
    said = []
    for name in summary["sets"]:
        rows = [row for row in summary["rows"] if (row["set"], row["part"]) == (name, "all")]
        main = [row for row in rows if row["metric"] == rows[0]["metric"] and row["value"] is not None]
        values = (f"{DOWNSTREAM_METHODS[row['method']]} {row['value']:.3f}" for row in main)
        said.append(f"{name}, {DOWNSTREAM_METRICS[rows[0]['metric']]}: {'; '.join(values)}.")
    return " ".join(said)


def downstream_section(folder: Path, summary: Summary) -> list[str]:
    """The figure, and of each set what is known of copies and all metrics."""
    parts = [figure(folder, DOWNSTREAM_FIGURE)]
    for name, about in summary["sets"].items():
        parts += [heading(name, 3), paragraph(about["statement"])]
        rows = [row for row in summary["rows"] if row["set"] == name]
        for part in dict.fromkeys(row["part"] for row in rows):
            mine = [row for row in rows if row["part"] == part]
            parts += [paragraph(f"{mine[0]['rows']:,} rows{DOWNSTREAM_PARTS[part]}:"), _methods_table(mine)]
    return parts


def _methods_table(rows: list[Summary]) -> str:
    """One row a method, one column a metric, with its interval."""
    metrics = dict.fromkeys(row["metric"] for row in rows)
    methods = dict.fromkeys(row["method"] for row in rows)
    cells = {(row["method"], row["metric"]): _with_bounds(row) for row in rows}
    table_rows = [
        (DOWNSTREAM_METHODS[method], *(cells.get((method, metric)) for metric in metrics))
        for method in methods
    ]
    own = {place for place, method in enumerate(methods) if method in ("finetune", "probe")}
    columns: Columns = {"Method": None} | {DOWNSTREAM_METRICS[metric]: None for metric in metrics}
    return table(columns, table_rows, own=own)


def _with_bounds(row: Summary) -> str | None:
    if row["value"] is None:
        return None
    text = f"{row['value']:.3f}"
    if row["low"] is not None:
        text += f" ({row['low']:.3f} to {row['high']:.3f})"
    return text.replace("-", "\N{MINUS SIGN}")


def downstream_provenance(folder: Path, summary: Summary) -> list[tuple[str, str]]:
    """Which columns the labels are."""
    return [(f"{name}: labels", ", ".join(about["label"])) for name, about in summary["sets"].items()]
