"""H-Net's published checkpoints (github.com/goombalab/hnet): their keys in genotok's names."""

import re

from torch import Tensor

from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.pretrained.keys import share_embedding

# Inside the backbone, in the order in which they are applied.
_RULES = [
    (r"\bmain_network\.main_network\.(layers|rmsnorm)\b", r"inner.encoder.\1"),
    (r"^main_network\.(layers|rmsnorm)\b", r"encoder.\1"),
    (r"\bmain_network\b", "inner"),
    (r"\bpad_dimension\b", "widening"),
    (r"\brouting_module\.q_proj_layer\b", "chunker.query"),
    (r"\brouting_module\.k_proj_layer\b", "chunker.key"),
    (r"\bresidual_proj\b", "skip"),
    (r"\blayers\b", "blocks"),
    (r"\brmsnorm\b", "norm"),
    (r"\bnorm1\b", "mixer_norm"),
    (r"\bnorm2\b", "mlp_norm"),
    (r"\bmixer\.Wqkv\b", "mixer.qkv"),
    (r"\bmixer\.out_proj\b", "mixer.out"),
    (r"\bmixer\.conv1d\.(weight|bias)", r"mixer.conv_\1"),
    (r"\bmixer\.A_log\b", "mixer.a_log"),
    (r"\bmixer\.D$", "mixer.skip"),
    (r"\bmlp\.fc1\b", "mlp.value_gate"),
    (r"\bmlp\.fc2\b", "mlp.out"),
]


def genotok_key(key: str) -> str:
    """The name that genotok gives a parameter of H-Net's own code."""
    if key in ("embeddings.weight", "lm_head.weight"):
        return {"embeddings.weight": "embedding.weight", "lm_head.weight": "head.weight"}[key]
    if not key.startswith("backbone."):
        raise InputError(f"the checkpoint holds the key {key!r}, which is not one of H-Net's")
    name = key.removeprefix("backbone.")
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return f"backbone.{name}"


def convert_hnet(config: dict, state: dict[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Translate an official configuration and state dict.

    Args:
        config: the official JSON (`arch_layout`, `d_model`, ...).
        state: the official state dict.

    Returns:
        The configuration and the state dict under genotok's names.
    """
    converted = {genotok_key(key): value for key, value in state.items()}
    for key, value in converted.items():
        if key.endswith("conv_weight") and value.ndim == 3:
            converted[key] = value.squeeze(1)
    if config.get("tie_embeddings"):
        share_embedding(converted)
    return ModelConfig.from_dict(config), converted
