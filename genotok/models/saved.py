"""Models on disk: `config.json` and `model.safetensors` in one folder."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.models.config import ModelConfig

if TYPE_CHECKING:
    from genotok.models.language_model import GenomicLM

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TORCH_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt"}


def save_model(model: "GenomicLM", folder: str | Path) -> None:
    """Write a model's configuration and weights; the same model gives the same bytes."""
    folder = Path(folder)
    with atomic_path(folder / WEIGHTS_NAME) as path:
        path.write_bytes(save(_unshared(model), metadata={"format": "pt"}))
    with atomic_path(folder / CONFIG_NAME) as path:
        path.write_text(model.config.to_json())


def _unshared(model: "GenomicLM") -> dict[str, Tensor]:
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    for part in _tied_parts(model.config):
        state.pop(f"{part}head.weight")
    return state


def _tied_parts(config: ModelConfig) -> list[str]:
    """What the keys of those models begin with whose head is their embedding: this one, and its entropy model."""
    parts = {"": config, "entropy_model.": config.entropy_model}
    return [part for part, of_part in parts.items() if of_part is not None and of_part.tie_embeddings]


def read_model(cls: type["GenomicLM"], folder: str | Path) -> "GenomicLM":
    """Read a model from a folder that `save_model` wrote.

    Raises:
        InputError: a file is missing or damaged, or the weights are not those of the configuration.
    """
    folder = Path(folder)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name} here, so this is no model; give the folder that holds one")
    config = ModelConfig.from_json(folder / CONFIG_NAME)
    state = read_weights(folder / WEIGHTS_NAME)
    for part in _tied_parts(config):
        if f"{part}embedding.weight" in state:
            state[f"{part}head.weight"] = state[f"{part}embedding.weight"]
    return build_model(cls, config, state, str(folder / WEIGHTS_NAME))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file, or one that torch wrote (`.bin`, `.pt`, `.pth`, `.ckpt`) and that holds tensors alone.

    Raises:
        InputError: it cannot be read, or is truncated or of another kind.
    """
    if Path(path).suffix in TORCH_SUFFIXES:
        return _read_torch_weights(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error


def _read_torch_weights(path: str | Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except Exception as error:  # a damaged or a hostile file can make torch's reader fail in any way
        raise InputError(
            f"{path}: not a readable file of tensors alone, and nothing else is unpickled; convert it to safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # as Lightning's checkpoints have it
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            f"{path}: holds something else than tensors by name, which a checkpoint's weights are"
        )
    return state


def build_model(
    cls: type["GenomicLM"], config: ModelConfig, state: dict[str, Tensor], source: str
) -> "GenomicLM":
    """Make a model of given weights.

    Args:
        cls: `GenomicLM`.
        config: the architecture.
        state: the weights under genotok's names.
        source: what to call the weights in an error.

    Raises:
        InputError: keys are missing or left over, or a shape differs; names the first of them.
    """
    with torch.device("meta"):
        model = cls(config)
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise InputError(
            f"{source}: {_key_difference(missing, extra)}; is this the right configuration for it?"
        )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            shapes = f"{tuple(value.shape)}, and the configuration says {tuple(expected[key].shape)}"
            raise InputError(f"{source}: {key} has the shape {shapes}")
    model.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    for part in _tied_parts(config):
        tied = model.get_submodule(part.removesuffix("."))
        tied.head.weight = tied.embedding.weight
    return model.requires_grad_().eval()


def _key_difference(missing: list[str], extra: list[str]) -> str:
    parts = [
        f"{len(keys)} {word} key{'s' if len(keys) > 1 else ''} ({', '.join(keys[:3])}{', …' if keys[3:] else ''})"
        for word, keys in (("missing", missing), ("unknown", extra))
        if keys
    ]
    return " and ".join(parts)


def model_hash(model: "GenomicLM") -> str:
    """SHA-256 over the configuration and the weights, in hexadecimal: the same for the same model."""
    digest = hashlib.sha256(model.config.to_json().encode())
    digest.update(save(_unshared(model), metadata={"format": "pt"}))
    return digest.hexdigest()
