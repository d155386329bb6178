"""The section of the results page on motifs."""

from pathlib import Path
from typing import Any

from genotok.report.markup import Columns, figure, heading, paragraph, table
from genotok.report.names import MOTIFS_FIGURE

Summary = dict[str, Any]

MOST_P = 0.05  # matches that are shown

_FEW = (
    "The known motifs are few: the p-values, whose background are the columns of them all, are rough, and "
    "a larger database may name a motif otherwise."
)


def motifs_headline(folder: Path, summary: Summary) -> str:
    """How many motifs there are, and what the best named is."""
    named = [row for row in summary["motifs"] if row["q_value"] is not None and row["q_value"] <= 0.05]
    best = min(named, key=lambda row: row["p_value"], default=None)
    like = f" {best['motif']} ({best['consensus']}) is like {best['best_match']}." if best else ""
    return summary["statement"] + like


def motifs_section(folder: Path, summary: Summary) -> list[str]:
    """The logos, the motifs in numbers, and what they are like."""
    if not summary["motifs"]:
        return [paragraph(summary["statement"]), figure(folder, MOTIFS_FIGURE)]
    keys = ("motif", "consensus", "effect", "sites", "reverse", "information_bits", "mean_contribution")
    columns: Columns = {"Motif": None, "Consensus": None, "The output": None, "Sites": ",", "On reverse": ","}
    columns |= {"Information, bits": ".1f", "Contribution": "+.3g"}
    parts = [
        figure(folder, MOTIFS_FIGURE),
        table(columns, [tuple(row[key] for key in keys) for row in summary["motifs"]]),
    ]
    if summary["known"]:
        parts.append(heading("Known motifs that are like them", 3))
        parts += [paragraph(_FEW, "note")] if summary["few_known"] else []
        keys = ("motif", "known", "p_value", "q_value", "overlap", "strand")
        columns = {
            "Motif": None,
            "Known": None,
            "p": ".1e",
            "q": ".1e",
            "Columns shared": "d",
            "Strand": None,
        }
        shown = [row for row in summary["matches"] if row["p_value"] <= MOST_P]
        parts.append(table(columns, [tuple(row[key] for key in keys) for row in shown]))
    return parts


def motifs_provenance(folder: Path, summary: Summary) -> list[tuple[str, str]]:
    """What was read."""
    known = f"; compared with {summary['known']:,} known motifs" if summary["known"] else ""
    return [("Motifs were sought in", f"{summary['regions']:,} stretches, {summary['bases']:,} bases{known}")]
