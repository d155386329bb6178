"""Shards of three small genomes, and a plan of all arms."""

from pathlib import Path

import pytest
import torch
from small_comparison import WINDOW, settings_of, write_genome

from genotok.comparison.plan import make_plan
from genotok.shards.reader import training_letters
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import train_bpe


@pytest.fixture(autouse=True)
def _settings_put_back():
    """One thread, and torch's settings put back that a run changes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


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
