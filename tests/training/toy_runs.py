"""Runs of a few steps."""

from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer

TOY_MODEL = {
    "layout": ["m1", ["T1"], "m1"],
    "d_model": [16, 24],
    "d_intermediate": [0, 32],
    "attention": {"heads": 2, "rotary_dim": 4, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 16},
}
TOY_SETTINGS = {
    "model": TOY_MODEL,
    "steps": 12,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "threads": 1,
    "log_every": 1,
    "validate_every": 5,
    "validation_windows": 6,
    "checkpoint_every": 5,
}
RESULTS = ("model.safetensors", "config.json", "README.md", "metrics.jsonl")


def toy_config(shards, **changes):
    return TrainConfig(shards=str(shards), **(TOY_SETTINGS | changes))


def train(shards, folder, resume=False, restart_if_changed=False, **changes):
    """Run to the end; the trainer."""
    trainer = Trainer(toy_config(shards, **changes), folder)
    trainer.run(resume, restart_if_changed)
    return trainer


def results(folder):
    """The bytes of what a finished run leaves."""
    return {name: (folder / name).read_bytes() for name in RESULTS}
