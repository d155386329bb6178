"""docs/comparison.md shows what follows from the results that are kept."""

import json
from pathlib import Path

from genotok.comparison.conclusions import conclude
from genotok.comparison.report import comparison_table, page
from genotok.comparison.summary import put_together

REPOSITORY = Path(__file__).parents[2]
COMMAND = "genotok compare report benchmarks/results/tokenizers_h200.json -o docs/images/comparison"


def test_the_page_is_current():
    kept = json.loads((REPOSITORY / "benchmarks" / "results" / "tokenizers_h200.json").read_text())
    text = (REPOSITORY / "docs" / "comparison.md").read_text()
    comparison = put_together(kept["plan"], kept["runs"], kept["baselines"])
    written = page(comparison, comparison_table(comparison), conclude(comparison))
    assert written in text, f"run {COMMAND} and put its comparison.md into the page"
    assert (REPOSITORY / "docs" / "images" / "comparison" / "comparison.md").read_text() == written
    assert COMMAND in text
    said = kept["machine"]["command"]
    assert said in text
    assert kept["machine"]["seconds_of_training"] > 600
    minutes = [round(sum(run["seconds"] for run in kept[key]) / 60, 1) for key in ("runs", "pilots")]
    assert f"{len(kept['runs'])} runs with {minutes[0]} minutes" in text
    assert f"pilots with {minutes[1]}," in text
