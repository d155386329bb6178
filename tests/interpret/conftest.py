"""A model with two chunking stages, and a genome to read with it."""

import random

import pytest
from staged_model import staged_model

from genotok.genomes.fasta import Reference, write_fasta


@pytest.fixture(scope="session")
def model():
    return staged_model(["m2", ["m1", ["T1"], "m1"], "m2"])


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    letters = random.Random(3)
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    records = {
        "one": bytes(letters.choices(b"ACGT", k=240)),
        "two": b"ACGTNNNRACGT" + bytes(letters.choices(b"acgt", k=200)),
        "HLA-DRB1*16:02:01": bytes(letters.choices(b"ACGT", k=150)),
    }
    write_fasta([(name, [sequence]) for name, sequence in records.items()], path)
    return Reference(path)
