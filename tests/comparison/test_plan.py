"""What a plan gives every arm: the same bases, and learning rates by one rule."""

import json

import pytest
from small_comparison import ARMS, WINDOW, settings_of

from genotok.comparison.plan import (
    entropy_settings,
    learning_rate,
    letters_a_token,
    make_plan,
    training_settings,
)
from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.settings import parse_settings
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches
from genotok.tokenizers import load_tokenizer
from genotok.training.config import TrainConfig
from genotok.training.optimizer import stage_factors
from genotok.training.start import read_model_config


def letters_of_steps(plan, name, seed):
    """The letters of all windows that an arm reads, in their order."""
    config = parse_settings(TrainConfig, training_settings(plan, name, seed), name)
    tokenizer = load_tokenizer(read_model_config(config.model).tokenizer)
    dataset = ShardDataset(config.shards, "train")
    batches = TrainingBatches(dataset, config.batch_size, config.seed, True, tokenizer=tokenizer)
    rows = [row for _ in range(config.steps) for row in zip(*rows_of(next(batches)), strict=True)]
    return [tokenizer.decode(ids[:length].tolist()) for ids, length in rows]


def rows_of(batch):
    return batch.input_ids, batch.lengths


def test_every_arm_reads_the_same_bases_in_the_same_order(plan):
    wanted = letters_of_steps(plan, "transformer", 1)
    assert sum(map(len, wanted)) == plan["bases"] == 3 * 2 * WINDOW
    for name in ("kmer_6", "bpe_32", "hnet_2stage", "entropy"):
        assert letters_of_steps(plan, name, 1) == wanted
    assert letters_of_steps(plan, "transformer", 2) != wanted


def test_the_entropy_model_reads_them_too(plan):
    own, arm = entropy_settings(plan, "entropy", 2), training_settings(plan, "entropy", 2)
    assert {key: own[key] for key in ("shards", "steps", "batch_size", "seed")} == {
        key: arm[key] for key in ("shards", "steps", "batch_size", "seed")
    }
    assert own["target_chunk_length"] == []


@pytest.mark.parametrize("name", ["hnet_1stage", "hnet_2stage", "static_3", "merge"])
def test_one_rule_for_the_rates_of_all_stages(plan, name):
    """What the trainer gives outer stages is what the rule says of a stage that reads so many tokens a base."""
    config = parse_settings(TrainConfig, training_settings(plan, name, 1), name)
    model = GenomicLM(read_model_config(config.model))
    rates = [config.learning_rate * factor for factor in stage_factors(model, config)]
    tokens, wanted = 1.0, []
    for stage, width in enumerate(model.config.d_model):
        wanted.append(learning_rate(0.003, 32, tokens, width))
        tokens /= config.target_chunk_length[stage] if stage < len(config.target_chunk_length) else 1
    assert rates == pytest.approx(wanted)


def test_learning_rate_by_hand():
    assert learning_rate(0.002, 256, 1.0, 256) == 0.002
    assert learning_rate(0.002, 256, 1 / 4, 256) == pytest.approx(0.001)
    assert learning_rate(0.002, 256, 1.0, 1024) == pytest.approx(0.001)


def test_letters_of_tokens(plan, folder):
    dataset = ShardDataset(folder / "shards", "train")
    assert letters_a_token("nucleotide", dataset) == 1
    assert letters_a_token({"type": "kmer", "k": 6}, dataset) == 6  # the window is a multiple
    assert plan["arms"]["bpe_32"]["letters"] == letters_a_token(str(folder / "bpe_32.json"), dataset) > 1.5


def test_a_plan_is_the_same_every_time(plan, folder):
    assert json.dumps(make_plan(settings_of(folder))) == json.dumps(plan)
    assert list(json.loads(json.dumps(plan))["arms"]) == ARMS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": ["transformer"]}, "arms: should name at least two arms"),
        ({"arms": ["transformer", "transformer"]}, "arms: should name at least two arms, each once"),
        ({"arms": ["transformer", "hnet_3"]}, "arm 'hnet_3' is unknown"),
        ({"seeds": []}, "seeds: should hold at least one"),
        ({"tolerance": 0}, "tolerance: is 0 and must be between 0 and 1"),
        ({"train": {"steps": 3, "batch_size": 2}}, "train.learning_rate: this key is needed"),
        ({"train": {"seed": 3}}, "train.seed: is what the plan decides"),
        ({"chunk_lengths_two_stages": [2.0]}, "should hold two lengths"),
    ],
)
def test_settings_that_are_refused(folder, changes, said):
    with pytest.raises(InputError, match=said):
        settings_of(folder, **changes)


def test_a_tolerance_that_no_arm_can_keep(folder):
    with pytest.raises(InputError, match=r"can only be had with .* operations a base, .* % off"):
        make_plan(settings_of(folder, tolerance=1e-7))
