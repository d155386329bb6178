"""Runs of a few steps."""

import pytest

from genotok.training.config import TrainConfig
from genotok.training.distributed import Ranks
from genotok.training.loop import Trainer
from genotok.training.precision import Precision
from genotok.training.step import GradientStep

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


class Pulled(BaseException):
    """Somebody pulled the plug."""


def pull_the_plug(trainer, step, **how):
    """Run, and fall over in the middle of the step behind `step`."""
    whole_step = trainer._train_step

    def last_step(*arguments):
        if trainer.step == step:
            raise Pulled
        whole_step(*arguments)

    trainer._train_step = last_step
    with pytest.raises(Pulled):
        trainer.run(**how)


def losses_of(model, batch, targets, weight, task="lm", **changes):
    """The losses of one batch on one rank, and the model's output; the gradient is in the parameters."""
    settings = {"target_chunk_length": targets, "ratio_weight": weight, "precision": "fp32"}
    step = GradientStep(
        model,
        toy_config("shards", **(settings | changes)),
        Ranks(0, 1, model.device),
        Precision("fp32", model.device, model),
    )
    return step.backward(batch, task).on_host(), step.passes.output


def results(folder):
    """The bytes of what a finished run leaves."""
    return {name: (folder / name).read_bytes() for name in RESULTS}
