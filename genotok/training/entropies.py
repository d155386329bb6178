"""Entropy models: their settings, their entropies in the shards, and thresholds for a wanted chunk length."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM, ModelConfig
from genotok.models.chunkers import entropy_threshold
from genotok.models.entropies import next_token_entropies
from genotok.settings import parse_settings
from genotok.shards.entropies import annotate_shards
from genotok.shards.manifest import read_manifest
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import collate
from genotok.training.config import TrainConfig
from genotok.training.precision import choose_device
from genotok.training.start import starting_config

DEFAULT_MODEL = "entropy_dna"
CALIBRATION_TOKENS = 1 << 18


def entropy_train_config(values: Mapping[str, Any], source: str) -> TrainConfig:
    """Settings of `genotok entropy train`: those of `genotok train`, and a small model where none is named.

    Args:
        values: what the user wrote.
        source: the file, for a complaint.
    """
    model = {} if "init" in values else {"model": DEFAULT_MODEL}
    settings = parse_settings(TrainConfig, {**model, **values}, source)
    check_entropy_model(starting_config(settings), "model")
    return settings


def read_entropy_model(folder: str | Path) -> GenomicLM:
    """Read a model that other models may cut by.

    Raises:
        InputError: the folder holds no causal model of one stage.
    """
    model = GenomicLM.from_pretrained(folder)
    check_entropy_model(model.config, str(folder))
    return model


def check_entropy_model(config: ModelConfig, source: str) -> None:
    """Refuse a configuration that is not of a causal model of one stage; `source` is what to call it."""
    if "lm" not in config.tasks:
        raise InputError(f"{source}: is no causal model; an entropy model predicts the next token")
    if config.chunkers:
        raise InputError(f"{source}: has {len(config.chunkers) + 1} stages; an entropy model has one")


def with_entropy_model(config: ModelConfig, settings: TrainConfig) -> tuple[ModelConfig, GenomicLM | None]:
    """Put the entropy model of a folder into the configuration of a model with the chunker `entropy`.

    Args:
        config: of the model that shall be trained.
        settings: of the run; its `entropy_model` is the folder. A model from `init` has one and needs none.

    Returns:
        The configuration, and the entropy model of the folder; None where there is no folder.

    Raises:
        InputError: one of the two is there without the other, or they do not fit together.
    """
    chunker = config.chunkers[0] if config.chunkers else {"kind": "none"}
    folder = settings.entropy_model
    if folder is None and settings.init is not None and "model" in chunker:
        return config, None
    if (chunker["kind"] == "entropy") != (folder is not None):
        raise InputError(
            "entropy_model: this key is needed, the folder of a trained model whose entropies the chunker cuts by"
            if folder is None
            else f"entropy_model: is for the chunker 'entropy', and the outermost stage has {chunker['kind']!r}"
        )
    if folder is None:
        return config, None
    model = read_entropy_model(folder)
    own = model.config.to_dict()
    if chunker.get("model", own) != own:
        raise InputError(f"entropy_model: {folder} is another model than that of chunkers[0].model")
    values = config.to_dict()
    values["chunkers"][0]["model"] = own
    try:
        return ModelConfig.from_dict(values), model
    except InputError as error:
        raise InputError(f"entropy_model: {folder} does not fit: {error}") from error


def window_entropies(model: GenomicLM, windows: list[np.ndarray]) -> list[np.ndarray]:
    """The entropies of windows, as a model reads them: behind its tokenizer's start token, if it has one.

    Args:
        model: an entropy model.
        windows: (L,) uint8 token ids each.

    Returns:
        For each window (L,) or (L + 1,) float32, in nats; see `next_token_entropies`.
    """
    batch = collate(windows, model.tokenizer).to(model.device)
    ragged = Ragged.from_lengths(batch.lengths)
    found = next_token_entropies(model, ragged.to_packed(batch.input_ids), ragged)
    return [part.numpy() for part in found.cpu().split(batch.lengths.tolist())]


def annotate(
    shards: Path,
    model_folder: Path,
    target: Path,
    *,
    dtype: str = "float32",
    device: str = "auto",
    threads: int = 2,
) -> None:
    """Write shards again with the entropies of a model; see `genotok.shards.entropies.annotate_shards`.

    Raises:
        InputError: the folder holds no entropy model, or it and the shards do not fit together.
    """
    torch.set_num_threads(threads)
    model = read_entropy_model(model_folder).to(choose_device(device))
    manifest = read_manifest(shards)[1]
    if model.config.tokenizer != manifest.tokenizer:
        raise InputError(
            f"{model_folder}: its tokenizer is {model.config.tokenizer!r}, and {shards} was made with "
            f"{manifest.tokenizer!r}"
        )
    annotate_shards(
        shards, target, lambda windows: window_entropies(model, windows), model.content_hash(), dtype
    )


def calibrated_threshold(
    dataset: ShardDataset, entropies_of: Callable[[int], np.ndarray], mean_length: float, **rule
) -> float:
    """The threshold for chunks of a wanted mean length in up to 2^18 tokens, of windows spread over the split.

    The start token of a window counts as a token.

    Args:
        dataset: the windows.
        entropies_of: gives for a window's index its entropies on the forward strand.
        mean_length: tokens a chunk.
        rule: threshold_add, monotonicity and max_length, see `EntropyChunker`.

    Raises:
        InputError: see `entropy_threshold`.
    """
    count = min(len(dataset), max(1, CALIBRATION_TOKENS // dataset.manifest.window))
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    found = [torch.from_numpy(entropies_of(int(index))) for index in indices]
    ragged = Ragged.from_lengths(torch.tensor([len(part) for part in found]))
    return entropy_threshold(torch.cat(found), mean_length, ragged, **rule)


def needs_calibration(model: GenomicLM, reads_shards: bool) -> bool:
    """Whether a run has to find the threshold first, which it does in the shards that it reads.

    Raises:
        InputError: it has, and reads no shards to find it in.
    """
    if model.entropy_model is None or model.backbone.chunker.threshold is not None:
        return False
    if not reads_shards:
        raise InputError(
            "chunkers[0].mean_length: needs shards to find a threshold in; give the threshold itself"
        )
    return True


def calibrate(model: GenomicLM, dataset: ShardDataset, cached: bool) -> None:
    """Find the threshold of a model that was told a mean chunk length.

    Args:
        model: with an entropy model.
        dataset: the windows that it is trained on.
        cached: whether they hold its entropies.
    """
    settings = {key: value for key, value in model.config.chunkers[0].items() if key not in ("kind", "model")}

    def computed(index: int) -> np.ndarray:
        return window_entropies(model.entropy_model, [dataset[index].ids])[0]

    model.set_entropy_threshold(
        calibrated_threshold(dataset, dataset.entropies if cached else computed, **settings)
    )


def threshold_of_shards(shards: Path, mean_length: float, split: str = "train", **rule) -> float:
    """The threshold that training with these shards and this mean length would take.

    Args:
        shards: with entropies.
        mean_length: tokens a chunk.
        split: whose windows to look at.
        rule: threshold_add, monotonicity and max_length, see `EntropyChunker`.

    Raises:
        InputError: the shards have no entropies, or no such split, or the length is below 1.
    """
    dataset = ShardDataset(shards, split)
    if dataset.manifest.entropies is None:
        raise InputError(f"{shards}: has no entropies; `genotok entropy annotate` adds them")
    return calibrated_threshold(dataset, dataset.entropies, mean_length, **rule)
