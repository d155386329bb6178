"""What pages say of attributed regions; `attributions.json` of `genotok attribute` holds the numbers."""

from pathlib import Path
from statistics import fmean
from typing import Any

from genotok.report.markup import figure, heading, paragraph, table
from genotok.report.names import (
    ATTENTION_MAPS_FIGURE,
    ATTRIBUTION_FIGURE,
    ATTRIBUTION_METHODS,
    CHANGES_FIGURE,
)

HELD = "Edges of chunks are held as in the true sequence, so that the gap is that of the quadrature alone."
ROUTED = (
    "Edges of chunks move along the way, and their gradient is the straight-through estimate of training, which "
    "belongs to no function: the gap says how much of the change it misses."
)
RANDOM_WEIGHTS = (
    "Random weights (Adebayo et al. 2018, arXiv 1810.03292): the correlation of these contributions with those of "
    "models of the same shape whose weights are drawn by chance. Near 0, they show what was learned; near 1 in every "
    "draw, they show the sequence and the architecture alone. A random model likes some letters more than others, by "
    "chance, so that single draws lie on both sides of 0. Between {bases} independent numbers chance gives less than "
    "{chance:.2f} in 95 of 100 cases; neighbouring bases are not independent, so that it gives a little more here."
)


def attribution_checks(about: dict[str, Any], boundaries: str) -> list[str]:
    """Completeness and the comparison with random weights, as HTML.

    Args:
        about: a region's part of the summary.
        boundaries: `held` or `routed`.
    """
    parts = []
    if "completeness" in about:
        found = about["completeness"]
        parts.append(
            paragraph(
                f"Completeness: the integrated gradients sum to {found['sum']:.4g}; the target is "
                f"{found['value']:.6g}, and {found['baseline']:.6g} at the baseline. The gap is {found['gap']:.2g}, "
                f"{found['relative_gap']:.2%} of the difference. {HELD if boundaries == 'held' else ROUTED}"
            )
        )
    random = about["correlation_with_random_weights"]
    if random:
        rows = [(ATTRIBUTION_METHODS[method], *_spread(**values)) for method, values in random.items()]
        chance = 1.96 / max(about["bases"] - 1, 1) ** 0.5
        parts.append(paragraph(RANDOM_WEIGHTS.format(bases=about["bases"], chance=min(chance, 1))))
        columns = {"Pearson, mean": "+.2f", "lowest": "+.2f", "highest": "+.2f", "Spearman, mean": "+.2f"}
        parts.append(table({"Method": None} | columns | {"Draws": "d"}, rows))
    return parts


def _spread(pearson: list[float | None], spearman: list[float | None]) -> tuple[float | int | None, ...]:
    """Mean, lowest and highest of the first, mean of the second, and how many there are; None of unknown ones."""
    if None in pearson:
        return None, None, None, None, len(pearson)
    return fmean(pearson), min(pearson), max(pearson), fmean(spearman), len(pearson)


def attribution_section(folder: Path, summary: dict[str, Any]) -> list[str]:
    """The section of the results page: the figures of each region, with what speaks for trusting them."""
    parts = [paragraph(f"Target: {summary['target']}. Each region has a page of its own beside its figures.")]
    for name, about in summary["regions"].items():
        parts.append(heading(about["region"], 3))
        for shown in (ATTRIBUTION_FIGURE, CHANGES_FIGURE, ATTENTION_MAPS_FIGURE):
            if shown in about["figures"]:
                parts.append(figure(folder / name, shown))
            if shown == ATTRIBUTION_FIGURE:
                parts += attribution_checks(about, summary["boundaries"])
    return parts


def attribution_provenance(folder: Path, summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines for the results page."""
    regions = ", ".join(about["region"] for about in summary["regions"].values())
    return [("Contributions of bases", f"{regions}; {', '.join(summary['methods'])}")]
