"""The README.md of a saved model, as the Hugging Face Hub shows it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genotok.models.config import ModelConfig
from genotok.models.layout import StageLayout
from genotok.tokenizers import LetterTokenizer, load_tokenizer

CARD_NAME = "README.md"
MARKER = "<!-- Written by genotok. Remove this line to keep what you write here: the next save replaces the file. -->"
PIPELINES = {"lm": "text-generation", "mlm": "fill-mask"}
DIRECTIONS = {"lm": "the next token", "mlm": "masked tokens"}
# Settings that only one mixer reads, by the mixer's name.
_SECTIONS = {"attention": "attention", "mamba2": "mamba2", "hyena": "hyena"}


def may_write_card(path: Path) -> bool:
    """Whether nobody has written a README.md of their own: there is none, or it has genotok's line in it."""
    return not path.exists() or MARKER in path.read_text(errors="replace")


def model_card(config: ModelConfig, parameters: int, content_hash: str, provenance: str | None = None) -> str:
    """The text of a card: the same model gives the same bytes.

    Args:
        config: the architecture.
        parameters: their number.
        content_hash: `GenomicLM.content_hash()`, as scored VCFs name it.
        provenance: the hash of settings and data behind the model, if it is known.
    """
    predicted = " and ".join(DIRECTIONS.get(task, task) for task in config.tasks)
    rows = {**dict(_settings(config)), "parameters": f"{parameters:,}", "model hash": f"`{content_hash}`"}
    if provenance:
        rows["provenance"] = f"`{provenance}`"
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""---
library_name: genotok
pipeline_tag: {PIPELINES.get(config.tasks[0], "other")}
tags:
{chr(10).join(f"- {tag}" for tag in _tags(config))}
---
{MARKER}

# {_title(config.layout)}

A genomic language model of {config.stage_layout.depth} stage{
        "s" * (config.stage_layout.depth > 1)
    } that predicts {predicted}; its tokenizer is `{load_tokenizer(config.tokenizer).name}`.

| | |
|---|---|
{table}

Settings with one value a stage begin with the outermost.

## Use
```python
import genotok

model = genotok.GenomicLM.from_pretrained("PATH-OR-NAME")
ids = model.tokenizer.encode("ACGTACGT")
```
{_scoring(config)}"""


def _title(layout: list) -> str:
    return " | ".join(_runs(layout))


def _runs(layout: list) -> Iterator[str]:
    for part in layout:
        if isinstance(part, str):
            yield part
        else:
            yield from _runs(part)


def _mixers(layout: StageLayout) -> set[str]:
    own = {block.mixer for block in layout.encoder + layout.decoder}
    return own if layout.inner is None else own | _mixers(layout.inner)


def _tags(config: ModelConfig) -> list[str]:
    chunkers = {chunker["kind"] for chunker in config.chunkers}
    return [
        "genomics",
        "dna",
        *sorted(_mixers(config.stage_layout)),
        *sorted(f"{c}-chunks" for c in chunkers),
    ]


def _settings(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Each setting and its value as JSON, in the configuration's order, without those of mixers that it lacks."""
    mixers = _mixers(config.stage_layout)
    inner = {"chunkers": config.chunkers, "upsamplers": config.upsamplers} if config.chunkers else {}
    for key, value in {**config.to_dict(), **inner}.items():
        if key == "tokenizer" and isinstance(value, dict):
            value = {name: part for name, part in value.items() if name != "merges"}  # thousands of them
        if _SECTIONS.get(key) in mixers:
            yield from ((f"{key}.{part}", _code(of_part)) for part, of_part in value.items())
        elif key not in _SECTIONS:
            yield key, _code(value)


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _scoring(config: ModelConfig) -> str:
    if "lm" not in config.tasks or not isinstance(load_tokenizer(config.tokenizer), LetterTokenizer):
        return ""
    return """
Scores of the variants in a VCF, log p(ALT) - log p(REF) in nats:
```
genotok score variants.vcf.gz -r genome.fa.gz -m PATH-OR-NAME -o scored.vcf.gz
```
"""
