"""The captions of the page and of the Snakemake report say the same, and the overview can be rendered."""

from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
import yaml

from genotok.report import names
from genotok.report.captions import CAPTIONS, TITLES

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {value for name, value in vars(names).items() if name.endswith("_FIGURE")}


def test_every_figure_has_a_caption():
    assert set(CAPTIONS) == set(TITLES) == FIGURES


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_captions_agree(name):
    text = (ROOT / "workflow" / "report" / f"{name}.rst").read_text()
    assert text.split() == CAPTIONS[name].split()


@pytest.mark.parametrize("variants_table", ["", "variants.tsv"])
def test_overview(variants_table):
    """Rendered as Snakemake does, with the defaults of the schema."""
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())["properties"]
    config = {
        section: {key: value.get("default") for key, value in schema[section]["properties"].items()}
        for section in ("tokenize", "train", "score")
    }
    config |= {"genomes": "genomes.tsv", "results": "results", "variants": variants_table}
    template = jinja2.Template(
        (ROOT / "workflow" / "report" / "workflow.rst").read_text(), undefined=jinja2.StrictUndefined
    )
    text = template.render(snakemake=SimpleNamespace(config=config))
    assert ("**Variants.**" in text) == bool(variants_table)
    assert "8192 bases" in text
    assert "``results/index.html``" in text
