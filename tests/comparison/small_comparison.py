"""Settings of a comparison of all arms that is small enough for a CPU, and genomes for it."""

from pathlib import Path

import numpy as np

from genotok.comparison.settings import ComparisonSettings

WINDOW = 516
ARMS = [
    *("transformer", "mamba2", "static_3", "kmer_6", "bpe_32"),
    *("entropy", "merge", "hnet_1stage", "hnet_2stage"),
]


def write_genome(path: Path, letters: int, seed: int, name: str) -> Path:
    """Letters by chance, with a word that comes again and again."""
    random = np.random.default_rng(seed)
    text = "".join(random.choice(list("ACGT"), letters, p=[0.3, 0.2, 0.2, 0.3]))
    text = "".join(f"{text[k : k + 40]}GATTACA" for k in range(0, letters, 47))[:letters]
    path.write_text(f">{name}\n{text}\n")
    return path


def settings_of(folder: Path, **changes) -> ComparisonSettings:
    """Of a comparison of all arms."""
    train = {
        "steps": 3,
        "batch_size": 2,
        "learning_rate": 0.003,
        "device": "cpu",
        "threads": 1,
        "log_every": 1,
    }
    values = {
        "shards": str(folder / "shards"),
        "tokenizers": str(folder),
        "train": train,
        "arms": ARMS,
        "seeds": [1, 2],
        "flops_per_base": 1e6,
        "entropy_share": 0.3,
        "reference_width": 32,
        "draws": 40,
        "sites": 4,
        "block": 2 * WINDOW,
    }
    return ComparisonSettings(**values | changes)
