"""Write docs/configuration.md from the schemas of the workflow.

python docs/write_configuration.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
SCHEMAS = REPOSITORY / "workflow" / "schemas"
PAGE = REPOSITORY / "docs" / "configuration.md"
SECTIONS_OF_THEIR_OWN = ("entropy_model", "comparison")
HEAD = """# Configuration
This page is written by `python docs/write_configuration.py` from `workflow/schemas/`; do not edit it.

The workflow reads one YAML file: `config.yaml`, the embedded demo, or the one that `--configfile` names. Keys that
are left out take their defaults, and unknown keys are refused. Paths are relative to the working directory, or else
to the workflow. Examples: `config/human.yaml`, `config/yeast.yaml`, `config/bacteria.yaml`,
`config/bacteria_cpu.yaml`, `config/virus.yaml`, `config/compare.yaml`.

`--configfile my.yaml changes.yaml` reads both, and the later one goes before; so do keys at the top with a text, as
`--config results=elsewhere`. (Numbers inside a section that `--config` gives are text to Snakemake, and refused.)
"""


def page() -> str:
    """The text of the page."""
    config = _schema("config")
    required = {*config["required"], *config["then"]["required"]}
    parts = [HEAD, _table(_rows(config["properties"], required), "key")]
    for name, about in config["properties"].items():
        section = about if about.get("properties") else about.get("items", {})
        if section.get("properties"):
            parts += [f"## `{name}`\n{about.get('description', '')}".rstrip() + "\n"]
            parts.append(_table(_rows(section["properties"], set(section.get("required", []))), "key"))
    for table in ("genomes", "variants"):
        schema = _schema(table)
        parts.append(
            f"## Table of {table}\n{schema['description']} Tab-separated; `#` in front of a word begins a comment.\n"
        )
        parts.append(_table(_rows(schema["properties"], set(schema["required"])), "column"))
    return "\n".join(parts)


def _schema(name: str) -> dict[str, Any]:
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text())


def _rows(properties: dict[str, Any], required: set[str]) -> Iterator[tuple[str, str, str, str]]:
    for name, about in properties.items():
        default = "required" if name in required else _default(about.get("default"))
        yield f"`{name}`", _values(about), default, about.get("description", "see below")
        inner = about.get("properties", {}) if "default" not in about and "$ref" not in about else {}
        if name not in SECTIONS_OF_THEIR_OWN:
            for row in _rows(inner, set(about.get("required", []))):
                yield f"`{name}.{row[0].strip('`')}`", *row[1:]


def _default(value: Any) -> str:
    if value is None or value == {}:
        return ""
    return f"`{value}`" if value != "" else "empty"


def _values(about: dict[str, Any]) -> str:
    """What a key may hold."""
    if "anyOf" in about:
        return ", or ".join(_values(choice) for choice in about["anyOf"])
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if "$ref" in about:
        return "section"
    kind = about.get("type", "")
    if isinstance(kind, list):
        return " or ".join(_named(word) for word in kind)
    if kind == "array":
        return f"list of {_values(about['items'])}"
    if about.get("pattern") == "[.]json$":
        return "path of a JSON file"
    if kind == "object" and about.get("required") == ["bpe"]:
        return "`bpe: SIZE`"
    return _named(kind) + _limits(about)


def _named(kind: str) -> str:
    return {"string": "text", "object": "section", "boolean": "true or false"}.get(kind, kind)


def _limits(about: dict[str, Any]) -> str:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "exclusiveMaximum": "below {}",
    }
    said = [text.format(about[key]) for key, text in words.items() if key in about]
    return f" {', '.join(said)}" if said else ""


def _table(rows: Iterator[tuple[str, str, str, str]], first: str) -> str:
    lines = [f"| {first} | value | default | meaning |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
