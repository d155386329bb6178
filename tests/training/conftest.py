"""Shards of a toy genome, and the process-wide settings put back that a training run changes."""

import numpy as np
import pytest
from one_thread import settings_put_back

from genotok.shards.writer import tokenize_genomes

__all__ = ["settings_put_back"]


@pytest.fixture(scope="session")
def toy_shards(tmp_path_factory):
    """A motif that comes again and again between random letters, with a contig for validation."""
    folder = tmp_path_factory.mktemp("toy")
    random = np.random.default_rng(0)
    pieces = ["GATTACAGATTACACCGGT" + "".join(random.choice(list("ACGT"), 2)) for _ in range(150)]
    (folder / "toy.fa").write_text(f">a\n{''.join(pieces[:120])}N\n>b\n{''.join(pieces[120:])}\n")
    tokenize_genomes([folder / "toy.fa"], folder / "shards", window=32, valid=["b"])
    return folder / "shards"
