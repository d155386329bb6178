"""Small models with two chunking stages, and a genome to read with them."""

import random

import pytest
import torch

from genotok.genomes.fasta import Reference, write_fasta
from genotok.models import GenomicLM, ModelConfig


def make_model(layout, tokenizer="nucleotide"):
    """A model with drawn weights whose routers find boundaries here and there."""
    stages = str(layout).count("[")
    values = {
        "layout": layout,
        "d_model": [16, 16, 32][:stages],
        "d_intermediate": [0, 0, 32][-stages:],
        "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 16},
        "tokenizer": tokenizer,
    }
    torch.manual_seed(5)
    model = GenomicLM(ModelConfig.from_dict(values)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".chunker." in name:
                weight.normal_(std=0.25)
    return model


@pytest.fixture(scope="session")
def model():
    return make_model(["m2", ["m1", ["T1"], "m1"], "m2"])


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    letters = random.Random(3)
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    records = {
        "one": bytes(letters.choices(b"ACGT", k=400)),
        "two": b"ACGTNNNRACGT" + bytes(letters.choices(b"acgt", k=200)),
        "HLA-DRB1*16:02:01": bytes(letters.choices(b"ACGT", k=150)),
    }
    write_fasta([(name, [sequence]) for name, sequence in records.items()], path)
    return Reference(path)
