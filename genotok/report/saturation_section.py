"""What the results page shows of a saturation mutagenesis."""

from pathlib import Path
from typing import Any

from genotok.report.markup import Columns, figure, heading, table
from genotok.report.names import SATURATION_FIGURE, SATURATION_GROUPS_FIGURE

Summary = dict[str, Any]


def saturation_section(folder: Path, summary: Summary) -> list[str]:
    """The heat map, the groups, and their numbers."""
    keys = ("by", "group", "n", "median", "q25", "q75")
    rows = [
        tuple(group[key].replace("_", " ") if key in ("by", "group") else group[key] for key in keys)
        for group in summary["groups"]
    ]
    columns: Columns = {"By": None, "Group": None, "Variants": ","}
    columns |= dict.fromkeys(["Median LLR", "Quarter below", "Quarter above"], "+.3f")
    parts = [heading(", ".join(summary["regions"]), 3), figure(folder, SATURATION_FIGURE)]
    return [*parts, figure(folder, SATURATION_GROUPS_FIGURE), table(columns, rows)]


def saturation_provenance(folder: Path, summary: Summary) -> list[tuple[str, str]]:
    """How the region was scored."""
    return [
        (f"Saturation {folder.name}: {key.replace('_', ' ')}", text)
        for key, text in summary["scoring"].items()
    ]
