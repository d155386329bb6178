"""Small tables with a planted motif, and a small model."""

import numpy as np
import torch

from genotok.models import GenomicLM, ModelConfig

MODEL = {
    "layout": ["m1", ["T1"], "m1"],
    "d_model": [16, 24],
    "d_intermediate": [0, 32],
    "attention": {"heads": 2, "rotary_dim": 4, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 16},
}
ISOTROPIC = {
    "layout": ["T2"],
    "d_model": 16,
    "d_intermediate": 16,
    "attention": {"heads": 2, "rotary_dim": 4, "window": -1},
}
MOTIF = "TATAATGC"


def save_model(folder, seed=3, **changes):
    """A model that nobody has trained."""
    torch.manual_seed(seed)
    GenomicLM(ModelConfig.from_dict(MODEL | changes)).save_pretrained(folder)
    return folder


def random_letters(random, length):
    return "".join(random.choice(list("ACGT"), length))


def motif_rows(count, seed=0, share=0.5):
    """(sequence, 0 or 1) rows; those of class 1 have the motif twice."""
    random, rows = np.random.default_rng(seed), []
    for k in range(count):
        label = int(k < share * count)
        letters = random_letters(random, int(random.integers(30, 50)))
        rows.append((MOTIF + letters + MOTIF if label else letters, label))
    return [rows[k] for k in random.permutation(count)]


def write_csv(path, rows, names=("sequence", "label")):
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path
