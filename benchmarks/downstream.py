"""How well the demo's small model predicts labels of sequences: `python -m benchmarks.downstream RESULTS`.

RESULTS is the folder of `snakemake downstream --configfile config/downstream.yaml`, or any folder that
`genotok report downstream` wrote. Writes `benchmarks/results/downstream_cpu.json` and prints the table of
docs/downstream.md.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_run, write_result
from genotok.report.names import DOWNSTREAM_FIGURE, DOWNSTREAM_METHODS, DOWNSTREAM_PARTS, DOWNSTREAM_SUMMARY

RESULTS = Path(__file__).parent / "results" / "downstream_cpu.json"
SHOWN = ("mcc", "auroc", "auprc")


def markdown(summary: dict[str, Any]) -> Iterator[str]:
    """The lines of a table: a row for each set, part of its test and method."""
    yield "| set | method | MCC | AUROC | AUPRC |"
    yield "|---|---|---|---|---|"
    groups: dict[tuple, dict[str, Any]] = {}
    for row in summary["rows"]:
        key = row["set"], row["part"], row["rows"], row["method"]
        groups.setdefault(key, {})[row["metric"]] = row
    before = None
    for (name, part, rows, method), metrics in groups.items():
        title = f"{name}, {rows:,} rows{DOWNSTREAM_PARTS[part]}"
        cells = [bounds(metrics[metric]) for metric in SHOWN if metric in metrics]
        shown = [title if title != before else "", DOWNSTREAM_METHODS[method], *cells]
        yield f"| {' | '.join(shown)} |"
        before = title


def bounds(row: dict[str, Any]) -> str:
    """A value and its interval."""
    if None in (row["value"], row["low"], row["high"]):
        return "none"
    return f"{row['value']:.3f} ({row['low']:.3f}, {row['high']:.3f})"


def main() -> None:
    """Read the results, keep them, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    folder = parser.parse_args().results
    inner = folder / "figures" / DOWNSTREAM_FIGURE / DOWNSTREAM_SUMMARY
    summary = json.loads((inner if inner.is_file() else folder / DOWNSTREAM_SUMMARY).read_text())
    write_result(RESULTS, {"machine": describe_run("cpu"), **summary})
    print("\n".join(markdown(summary)))


if __name__ == "__main__":
    main()
