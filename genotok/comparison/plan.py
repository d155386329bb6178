"""`genotok compare plan`: every arm's model, settings of training, and what it should cost."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from genotok.comparison.arms import ENTROPY, FIXED, Arm, Cuts, find_arm
from genotok.comparison.settings import ComparisonSettings
from genotok.comparison.sizing import Budget, entropy_model, entropy_training_flops, flops_per_base, solve
from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.models.cost import parameters_by_part
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import WindowEncoder
from genotok.tokenizers import load_tokenizer

MEASURED_WINDOWS = 256  # in which the letters of a token are counted


def make_plan(settings: ComparisonSettings) -> dict[str, Any]:
    """Choose the model of every arm so that training costs the same operations a base.

    Returns:
        JSON values, the same ones every time: `settings` with those that all arms share, `bases` that every run
        reads, and `arms` by name: `title`, `family`, `model` (a configuration), `entropy_model` (its configuration or
        None), `letters` a token, `rows` a chunk that training steers to and `expected_rows`, `flops_per_base` with
        its `deviation` from what is wanted, `parameters`, `learning_rate`.

    Raises:
        InputError: shards or a tokenizer cannot be read, or an arm has no size that costs what is wanted.
    """
    dataset = ShardDataset(settings.shards, "train")
    window = dataset.manifest.window
    budget = Budget(
        settings.flops_per_base,
        window,
        settings.outer_layers,
        settings.outer_share,
        settings.entropy_share,
        settings.aspect,
    )
    arms = {name: _arm(find_arm(name), settings, budget, dataset) for name in settings.arms}
    for name, arm in arms.items():
        if abs(arm["deviation"]) > settings.tolerance:
            raise InputError(
                f"flops_per_base: {name!r} can only be had with {arm['flops_per_base']:.4g} operations a base, "
                f"{100 * arm['deviation']:+.1f} % off; take another number of them, or a larger tolerance"
            )
    return {
        "settings": asdict(settings),
        "window": window,
        "bases": settings.train["steps"] * settings.train["batch_size"] * window,
        "arms": arms,
    }


def learning_rate(base: float, reference_width: int, tokens_a_base: float, width: int) -> float:
    """The learning rate of a stage: base * sqrt(tokens of the stage for each base * reference width / its width).

    This is the rule by which H-Net gives its stages their rates (arXiv 2507.07955, section 2.3, eq. 11), written for
    all arms: a stage that reads every base and is `reference_width` wide has the rate `base`.
    """
    return base * math.sqrt(tokens_a_base * reference_width / width)


def training_settings(plan: dict[str, Any], name: str, seed: int) -> dict[str, Any]:
    """The settings of `genotok train` for one arm and seed; the folder of an entropy model comes on top."""
    shared, arm = plan["settings"], plan["arms"][name]
    return {
        **shared["train"],
        "shards": shared["shards"],
        "model": arm["model"],
        "learning_rate": arm["learning_rate"],
        "target_chunk_length": arm["rows"],
        "seed": seed,
    }


def entropy_settings(plan: dict[str, Any], name: str, seed: int) -> dict[str, Any]:
    """The same for its entropy model, which reads the same windows in the same order."""
    own = plan["arms"][name]
    return training_settings(plan, name, seed) | {
        "model": own["entropy_model"],
        "learning_rate": own["entropy_learning_rate"],
        "target_chunk_length": [],
    }


def realised_flops(plan: dict[str, Any], name: str, fractions: Sequence[float]) -> float:
    """Operations a base that training took, of the chunks that it made.

    Args:
        plan: of `make_plan`.
        name: of the arm.
        fractions: of each chunking stage, chunks a row, the mean over training.
    """
    arm, window = plan["arms"][name], plan["window"]
    config = counted_config(arm)
    rows = [1 / fraction for fraction in fractions]
    return flops_per_base(config, window, arm["letters"], rows) + entropy_training_flops(config, window)


def counted_config(arm: dict[str, Any]) -> ModelConfig:
    """The configuration of an arm of a plan, with its entropy model where it has one."""
    values = dict(arm["model"])
    if arm["entropy_model"] is not None:
        (chunker,) = values["chunkers"]
        values["chunkers"] = [{**chunker, "model": arm["entropy_model"]}]
    return ModelConfig.from_dict(values)


def _arm(arm: Arm, settings: ComparisonSettings, budget: Budget, dataset: ShardDataset) -> dict[str, Any]:
    cuts = _cuts(arm, settings, dataset)
    entropy = entropy_model(budget) if arm.family == ENTROPY else None
    rows = settings.expected_rows.get(arm.name, cuts.rows)
    if len(rows) != arm.stages or any(not length >= 1 for length in rows):
        raise InputError(f"expected_rows.{arm.name}: should hold {arm.stages} numbers, each at least 1")
    config = solve(arm, cuts, budget, entropy, rows)
    flops = flops_per_base(config, budget.window, cuts.letters, rows)
    flops += entropy_training_flops(config, budget.window)
    values = config.to_dict()
    if entropy is not None:  # training takes it from the folder of a trained one
        values["chunkers"] = [{k: v for k, v in values["chunkers"][0].items() if k != "model"}]
    base, reference = settings.train["learning_rate"], settings.reference_width
    tokens_a_base = 1 / (cuts.letters * math.prod(cuts.rows))
    found = {
        "title": arm.title,
        "family": arm.family,
        "model": values,
        "entropy_model": entropy,
        "letters": cuts.letters,
        "rows": cuts.rows,
        "expected_rows": rows,
        "flops_per_base": flops,
        "deviation": flops / budget.flops - 1,
        "parameters": sum(parameters_by_part(config).values()),
        "learning_rate": learning_rate(base, reference, tokens_a_base, config.d_model[-1]),
    }
    if entropy is not None:
        found["entropy_learning_rate"] = learning_rate(base, reference, 1.0, entropy["d_model"][0])
    return found


def _cuts(arm: Arm, settings: ComparisonSettings, dataset: ShardDataset) -> Cuts:
    if arm.stages == 0:
        if arm.vocabulary:
            tokenizer: Any = str(Path(settings.tokenizers) / f"bpe_{arm.vocabulary}.json")
        else:
            tokenizer = {"type": "kmer", "k": arm.length} if arm.family == FIXED else "nucleotide"
        description = load_tokenizer(tokenizer).description
        return Cuts(description, 1.0 if arm.length == 0 else letters_a_token(description, dataset))
    if arm.stages == 2:
        return Cuts(rows=list(settings.chunk_lengths_two_stages))
    return Cuts(rows=[float(arm.length or settings.chunk_length)])


def letters_a_token(tokenizer: str | dict[str, Any], dataset: ShardDataset) -> float:
    """Letters a token of a tokenizer, in windows spread over a split."""
    encode = WindowEncoder(dataset.manifest.letter_tokenizer, load_tokenizer(tokenizer))
    count = min(len(dataset), MEASURED_WINDOWS)
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    windows = [dataset[index].ids for index in chosen]
    return sum(map(len, windows)) / sum(len(encode(window)) for window in windows)
