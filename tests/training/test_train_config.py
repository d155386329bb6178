"""Settings of a run as a person writes them."""

import pytest

from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.settings import parse_settings
from genotok.training.config import TrainConfig
from genotok.training.start import read_model_config

NEEDED = {"shards": "shards", "model": "hnet_1stage_dna", "steps": 10}


def test_what_is_written_is_taken():
    config = parse_settings(
        TrainConfig, {**NEEDED, "learning_rate": "1e-3", "target_chunk_length": [4]}, "c.yaml"
    )
    assert config == TrainConfig(**NEEDED, learning_rate=1e-3, target_chunk_length=[4.0])
    assert isinstance(config.learning_rate, float)


def test_a_short_model_is_filled_in():
    """By the rules of H-Net's configurations: heads of 64, half of it rotary, MLPs of 8/3 rounded up to 64 or 128."""
    chosen = {
        "d_intermediate": [0, 1408],
        "attention": {"heads": [2, 8], "rotary_dim": [32, 32], "window": [1023, -1]},
        "mamba2": {"d_state": 32, "head_dim": 64},
    }
    short = {
        "layout": ["m2", ["T2"], "m2"],
        "d_model": [128, 512],
        "chunkers": [{"kind": "static", "length": 4}],
    }
    assert read_model_config(short) == ModelConfig(**short | chosen)
    wanted = {**short, "attention": chosen["attention"]}
    assert read_model_config(wanted).d_intermediate == [0, 1408]
    with pytest.raises(InputError, match=r"^model\.d_model: 7 is no multiple of 8"):
        read_model_config({"layout": ["T1"], "d_model": [7]})


REFUSED = [
    ({"steps": 0}, "steps: is 0 and must be at least 1"),
    ({"batch_size": 0}, "batch_size: is 0 and must be at least 1"),
    ({"learning_rate": 0}, "learning_rate: is 0.0 and must be more than 0"),
    ({"learning_rate": float("nan")}, "learning_rate: is nan and must be more than 0"),
    ({"clip": -1}, "clip: is -1.0 and must be more than 0"),
    ({"warmup": 1}, "warmup: is 1.0 and must be from 0 to less than 1"),
    ({"warmup": 0.6, "decay": 0.5}, "decay: is 0.5 and must be at most 1 together with warmup"),
    ({"precision": "fp64"}, "precision: is 'fp64' and must be auto, fp32, bf16, fp16 or fp8"),
    ({"target_chunk_length": [1.0]}, "target_chunk_length: is [1.0] and must be more than 1 in every stage"),
    ({"stage_learning_rates": [1.0, 0.0]}, "stage_learning_rates: is [1.0, 0.0] and must be more than 0"),
    ({"seed": -1}, "seed: is -1 and must be at least 0"),
    ({"steps": "many"}, "steps: Input should be a valid integer"),
    ({"steps": 1.5}, "steps: Input should be a valid integer"),
    ({"both_strands": "perhaps"}, "both_strands: Input should be a valid boolean"),
    ({"leraning_rate": 1}, "leraning_rate: "),
    ({"model": 3}, "model."),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_what_cannot_be_is_said_with_file_and_key(change, sentence):
    with pytest.raises(InputError) as error:
        parse_settings(TrainConfig, NEEDED | change, "c.yaml")
    assert str(error.value).startswith(f"c.yaml: {sentence}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_key_is_named(key):
    with pytest.raises(InputError, match=f"^c.yaml: {key}: "):
        parse_settings(TrainConfig, {k: v for k, v in NEEDED.items() if k != key}, "c.yaml")


def test_what_a_run_is_known_by():
    """Where the shards lie and when checkpoints come does not change the result."""
    base = TrainConfig(**NEEDED)
    same = TrainConfig(**(NEEDED | {"shards": "moved"}), checkpoint_every=3, keep_checkpoints=9)
    assert base.identity() == same.identity()
    for change in ({"seed": 2}, {"threads": 1}, {"log_every": 3}, {"clip": 2.0}):
        assert TrainConfig(**NEEDED, **change).identity() != base.identity()
