"""Shards of three small genomes, and a plan of all arms."""

from pathlib import Path

import pytest
from one_thread import settings_put_back
from small_comparison import WINDOW, settings_of, write_genome

from genotok.comparison.plan import make_plan
from genotok.shards.reader import training_letters
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import train_bpe

__all__ = ["settings_put_back"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A folder with `shards` and `bpe_32.json`."""
    made = tmp_path_factory.mktemp("comparison")
    sources = [
        write_genome(made / f"{name}.fa", 12 * WINDOW, seed, name)
        for seed, name in enumerate(("one", "two", "three"))
    ]
    tokenize_genomes(sources, made / "shards", window=WINDOW, test=["two:two", "three:three"])
    (made / "bpe_32.json").write_text(train_bpe(training_letters(made / "shards"), 32).to_json())
    return made


@pytest.fixture(scope="session")
def plan(folder) -> dict:
    return make_plan(settings_of(folder))
