"""Layers of Nucleotide Transformer v2 as the main network of another model, as DNAChunker's hybrid has them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.saved import CONFIG_NAME, WEIGHTS_NAME, read_weights
from genotok.models.stage import Stage
from genotok.pretrained.ntv2 import convert_ntv2_state

_WEIGHTS_NAMES = (WEIGHTS_NAME, "pytorch_model.bin")
_BLOCK = re.compile(r"backbone\.encoder\.blocks\.(\d+)\.(.*)")
_NORM = "backbone.encoder.norm."


@dataclass(frozen=True)
class MainNetworkReport:
    """What became of a checkpoint's layers.

    Attributes:
        layers: the checkpoint's layer in each block of the main network, counted from 0.
        available: how many layers the checkpoint has.
        taken: names of the model's parameters that have the checkpoint's values now.
        left: names of the checkpoint's tensors, as genotok calls them, that were not used.
        frozen: how many numbers training leaves as they are.
    """

    layers: list[int]
    available: int
    taken: list[str]
    left: list[str]
    frozen: int

    def __str__(self) -> str:
        """One line for a log."""
        layers = ", ".join(map(str, self.layers))
        state = f"{self.frozen:,} parameters are frozen" if self.frozen else "they are trained further"
        return f"main network: layers {layers} of {self.available} taken; {state}"


@torch.no_grad()
def load_ntv2_weights(
    model: GenomicLM,
    checkpoint: Mapping[str, Tensor] | GenomicLM | str | Path,
    *,
    freeze: bool = False,
    layers: Sequence[int] | None = None,
) -> MainNetworkReport:
    """Put layers of Nucleotide Transformer v2 into the innermost stage of a model, in place.

    The stage's blocks must be built as theirs are: attention with biases and rotary positions over the whole head, a
    gated MLP, and LayerNorm in front of both. With n blocks and N layers, block i takes layer i (N - 1) / (n - 1),
    rounded to the nearest and half up, so that the first and the last are among them. The norm behind the last
    layer is taken too; the embedding only where the model has the same tokens, and the head only where it is the same
    as well.

    Args:
        model: changed in place.
        checkpoint: a state dict under the official or genotok's names, a model that was imported, a folder of either
            kind, or a file of weights.
        freeze: whether training shall leave what was taken as it is (`requires_grad` off).
        layers: the layer for each block, instead of the rule.

    Raises:
        InputError: the blocks are built otherwise, sizes differ, or there are too few layers.
    """
    state, heads, label = _read(checkpoint)
    stage, prefix = _innermost(model)
    _check_style(model, heads, label)
    available = 1 + max((int(m[1]) for m in map(_BLOCK.fullmatch, state) if m), default=-1)
    chosen = _chosen_layers(layers, len(stage.encoder.blocks), available, label)
    sources = _sources(model, state, prefix, chosen)
    parameters = dict(model.named_parameters())
    for name, key in sources.items():
        _check_fit(name, parameters[name], key, state, label)
    for name, key in sources.items():
        parameters[name].copy_(state[key])
        parameters[name].requires_grad_(parameters[name].requires_grad and not freeze)
    frozen = sum(parameters[name].numel() for name in sources) if freeze else 0
    left = sorted(state.keys() - set(sources.values()))
    return MainNetworkReport(chosen, available, list(sources), left, frozen)


def weights_file(path: str | Path) -> Path:
    """The file of weights that a folder or a path names.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    files = [path / name for name in _WEIGHTS_NAMES] if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            return file
    raise InputError(
        f"{path}: holds no weights; give a folder with {' or '.join(_WEIGHTS_NAMES)}, or such a file"
    )


def _read(
    checkpoint: Mapping[str, Tensor] | GenomicLM | str | Path,
) -> tuple[dict[str, Tensor], int | None, str]:
    """Weights under genotok's names, the number of heads where it is known, and what to call them."""
    heads, label = None, "the checkpoint"
    if isinstance(checkpoint, GenomicLM):
        heads, checkpoint = checkpoint.config.attention.heads[-1], checkpoint.state_dict()
    elif not isinstance(checkpoint, Mapping):
        label = str(checkpoint)
        heads = _heads_of_folder(Path(checkpoint))
        checkpoint = read_weights(weights_file(checkpoint))
    state = dict(checkpoint)
    if not any(key.startswith("backbone.") for key in state):
        state = convert_ntv2_state(state)
    return state, heads, label


def _heads_of_folder(folder: Path) -> int | None:
    path = folder / CONFIG_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
        if "num_attention_heads" in values:
            return values["num_attention_heads"]
        return values["attention"]["heads"][-1]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path}: is no configuration of Nucleotide Transformer v2") from error


def _innermost(model: GenomicLM) -> tuple[Stage, str]:
    stage, prefix = model.backbone, "backbone."
    while stage.inner is not None:
        stage, prefix = stage.inner, f"{prefix}inner."
    return stage, prefix


def _check_style(model: GenomicLM, heads: int | None, label: str) -> None:
    config = model.config
    layout = config.stage_layout
    while layout.inner is not None:
        layout = layout.inner
    of_head = config.d_model[-1] // config.attention.heads[-1]
    blocks = layout.encoder
    if any(block.mixer != "attention" or not block.mlp for block in blocks):
        raise InputError(
            f"layout: the innermost stage of {config.layout!r} does not fit {label}, which needs attention blocks "
            f"with an MLP ('T{len(blocks)}') in its place"
        )
    wanted = [
        ("norm", config.norm, "layer"),
        ("mlp", config.mlp, "swiglu"),
        ("attention.bias", config.attention.bias, True),
        ("attention.rotary_dim", config.attention.rotary_dim[-1], of_head),
        ("attention.rotary_base", float(config.attention.rotary_base), 10_000.0),
        ("attention.heads", config.attention.heads[-1], heads or config.attention.heads[-1]),
    ]
    for key, found, needed in wanted:
        if found != needed:
            raise InputError(f"{key}: {found!r} does not fit {label}, which needs {needed!r}")


def _chosen_layers(layers: Sequence[int] | None, blocks: int, available: int, label: str) -> list[int]:
    if layers is None:
        if available < blocks:
            raise InputError(f"{label}: has {available} layers, and the main network {blocks} blocks")
        steps = max(blocks - 1, 1)
        return [(2 * i * (available - 1) + steps) // (2 * steps) for i in range(blocks)]
    chosen = list(layers)
    if len(chosen) != blocks:
        raise InputError(
            f"layers: {len(chosen)} layers are named for the {blocks} blocks of the main network"
        )
    for layer in chosen:
        if type(layer) is not int or not 0 <= layer < available:
            raise InputError(
                f"layers: {layer!r} is none of the {available} layers of {label}, counted from 0"
            )
    return chosen


def _sources(model: GenomicLM, state: dict[str, Tensor], prefix: str, chosen: list[int]) -> dict[str, str]:
    """Parameter of the model -> key of the checkpoint."""
    sources = {}
    for name, _ in model.named_parameters():
        inside = (
            _BLOCK.fullmatch(f"backbone.{name.removeprefix(prefix)}") if name.startswith(prefix) else None
        )
        if inside:
            sources[name] = f"backbone.encoder.blocks.{chosen[int(inside[1])]}.{inside[2]}"
        elif name.startswith(f"{prefix}encoder.norm."):
            sources[name] = f"{_NORM}{name.rsplit('.', 1)[1]}"
    embedding = state.get("embedding.weight")
    if (
        model.config.tokenizer != "ntv2"
        or embedding is None
        or embedding.shape != model.embedding.weight.shape
    ):
        return sources
    sources["embedding.weight"] = "embedding.weight"
    head = {name: name for name, _ in model.named_parameters() if name.startswith("head.")}
    of_checkpoint = {key for key in state if key.startswith("head.")}
    if not model.config.tie_embeddings and head.keys() == of_checkpoint:
        sources |= head
    return sources


def _check_fit(name: str, parameter: Tensor, key: str, state: dict[str, Tensor], label: str) -> None:
    if key not in state:
        raise InputError(f"{label}: has no {key}, which {name} should take; is it complete?")
    if state[key].shape != parameter.shape:
        raise InputError(
            f"{label}: {key} has the shape {tuple(state[key].shape)}, and {name} of the model "
            f"{tuple(parameter.shape)}; the innermost stage must have the checkpoint's d_model and d_intermediate"
        )
