"""docs/configuration.md is what the schemas say."""

import runpy
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]


def test_the_page_is_current():
    written = runpy.run_path(str(REPOSITORY / "docs" / "write_configuration.py"))
    assert written["PAGE"].read_text() == written["page"](), "run python docs/write_configuration.py"


def test_every_key_stands_on_the_page():
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    schema = yaml.safe_load((REPOSITORY / "workflow" / "schemas" / "config.schema.yaml").read_text())
    for name, about in schema["properties"].items():
        assert f"`{name}`" in text
        for key, inner in about.get("properties", {}).items():
            assert f"| `{key}` |" in text
            assert inner["description"].split()[0] in text
