"""Models on disk: `config.json`, `model.safetensors` and a card, `README.md`, in one folder."""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.models.card import CARD_NAME, may_write_card, model_card
from genotok.models.config import MODEL_TYPE, ModelConfig
from genotok.models.hub import download_model, hub_name
from genotok.provenance import carried_hash

if TYPE_CHECKING:
    from genotok.models.language_model import GenomicLM

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
# What transformers calls a model, by its first task.
ARCHITECTURES = {"lm": "GenotokForCausalLM", "mlm": "GenotokForMaskedLM"}
TORCH_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt"}


def save_model(model: "GenomicLM", folder: str | Path) -> None:
    """Write a model's weights, configuration and card; the same model gives the same bytes.

    `config.json` has two keys more than `ModelConfig.to_dict`, by which transformers knows the model, see
    `genotok.hf`. A README.md that a person wrote stays, see `genotok.models.card`. The card carries the hash of
    `genotok.provenance`, where the caller gives one.
    """
    folder = Path(folder)
    weights = save(_unshared(model), metadata={"format": "pt"})
    with atomic_path(folder / WEIGHTS_NAME) as path:
        path.write_bytes(weights)
    with atomic_path(folder / CONFIG_NAME) as path:
        path.write_text(config_text(model.config))
    if may_write_card(folder / CARD_NAME):
        count = sum(parameter.numel() for parameter in model.parameters())
        card = model_card(model.config, count, _hash(model.config, weights), carried_hash())
        with atomic_path(folder / CARD_NAME) as path:
            path.write_text(card)


def config_text(config: ModelConfig) -> str:
    """What stands in `config.json`: the configuration, and the names by which transformers finds its classes."""
    found_by = {
        "architectures": [ARCHITECTURES.get(config.tasks[0], "GenotokModel")],
        "model_type": MODEL_TYPE,
    }
    return json.dumps(found_by | config.to_dict(), indent=2) + "\n"


def _unshared(model: "GenomicLM") -> dict[str, Tensor]:
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    for part in _tied_parts(model.config):
        state.pop(f"{part}head.weight")
    return state


def _tied_parts(config: ModelConfig) -> list[str]:
    """What the keys of those models begin with whose head is their embedding: this one, and its entropy model."""
    parts = {"": config, "entropy_model.": config.entropy_model}
    return [part for part, of_part in parts.items() if of_part is not None and of_part.tie_embeddings]


def read_model(
    cls: type["GenomicLM"], source: str | Path, revision: str | None = None, strict: bool = True
) -> "GenomicLM":
    """Read a model that `save_model` wrote.

    Args:
        cls: `GenomicLM`.
        source: a folder, or a name on the Hugging Face Hub: `owner/name` or `owner/name@revision`. What exists as a
            path is a path.
        revision: branch, tag or commit of the Hub.
        strict: whether every weight must fit; without it those that fit are taken, the others are as a new model's,
            and the model's `load_report` says which.

    Raises:
        InputError: a file is missing or damaged, the weights are not those of the configuration, or the Hub does
            not give the model.
    """
    on_hub = hub_name(source)
    if on_hub is None:
        if revision is not None:
            raise InputError(
                f"{source}: is a folder, and only a name on the Hub has a revision ({revision!r})"
            )
        folder = Path(source)
    else:
        repository, named = on_hub
        if named and revision and named != revision:
            raise InputError(f"{source}: names another revision than {revision!r}, which was given with it")
        folder = download_model(repository, revision or named, (CONFIG_NAME, WEIGHTS_NAME))
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name} here, so this is no model; give the folder that holds one")
    config = ModelConfig.from_json(folder / CONFIG_NAME)
    state = read_weights(folder / WEIGHTS_NAME)
    for part in _tied_parts(config):
        if f"{part}embedding.weight" in state:
            state[f"{part}head.weight"] = state[f"{part}embedding.weight"]
    build = build_model if strict else fit_model
    return build(cls, config, state, str(folder / WEIGHTS_NAME))


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


class _NothingDrawn(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        if function is torch.eye:  # of torch.nn.init.eye_
            return kwargs["out"]
        return function(*args, **(kwargs or {}))


@contextmanager
def without_numbers() -> Iterator[None]:
    """Within the block, models are made with shapes alone, on the meta device.

    Torch would draw numbers there as well, for which it imports its compiler, and that takes two seconds.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


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
    with without_numbers():
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
    model.load_report = LoadReport([], [], [])
    return model.requires_grad_().eval()


@dataclass(frozen=True)
class LoadReport:
    """How weights fit a model.

    Attributes:
        missing: keys of the model that were not among the weights.
        unknown: keys of the weights that the model does not have.
        reshaped: keys of both, with the shape of the weights and the shape of the model.
    """

    missing: list[str]
    unknown: list[str]
    reshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]]

    def lines(self) -> list[str]:
        """What a person should know: one line a kind of difference, with every key."""
        shapes = [f"{key} {found} for {wanted}" for key, found, wanted in self.reshaped]
        kinds = {
            "missing and drawn anew": self.missing,
            "unknown and left out": self.unknown,
            "of another shape and drawn anew": shapes,
        }
        return [f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in kinds.items() if keys]


def fit_model(
    cls: type["GenomicLM"], config: ModelConfig, state: dict[str, Tensor], source: str
) -> "GenomicLM":
    """`build_model` with weights that need not fit: a new model, with those of them that do.

    The model's `load_report` says what did not, and so does standard error.

    Raises:
        InputError: none of them fits.
    """
    model = cls(config)
    expected, state = model.state_dict(), dict(state)
    for part in _tied_parts(config):
        for tensors in (expected, state):
            tensors.pop(f"{part}head.weight", None)
    both = sorted(expected.keys() & state.keys())
    fitting = [key for key in both if state[key].shape == expected[key].shape]
    if not fitting:
        raise InputError(f"{source}: none of the weights fits; is this the right configuration for it?")
    with torch.no_grad():
        for key in fitting:
            expected[key].copy_(state[key])
    model.load_report = LoadReport(
        sorted(expected.keys() - state.keys()),
        sorted(state.keys() - expected.keys()),
        [
            (key, tuple(state[key].shape), tuple(expected[key].shape))
            for key in both
            if state[key].shape != expected[key].shape
        ],
    )
    for line in model.load_report.lines():
        print(f"{source}: {line}", file=sys.stderr)
    return model.eval()


def _key_difference(missing: list[str], extra: list[str]) -> str:
    parts = [
        f"{len(keys)} {word} key{'s' if len(keys) > 1 else ''} ({', '.join(keys[:3])}{', …' if keys[3:] else ''})"
        for word, keys in (("missing", missing), ("unknown", extra))
        if keys
    ]
    return " and ".join(parts)


def model_hash(model: "GenomicLM") -> str:
    """SHA-256 over the configuration and the weights, in hexadecimal: the same for the same model."""
    return _hash(model.config, save(_unshared(model), metadata={"format": "pt"}))


def _hash(config: ModelConfig, weights: bytes) -> str:
    digest = hashlib.sha256(config.to_json().encode())
    digest.update(weights)
    return digest.hexdigest()
