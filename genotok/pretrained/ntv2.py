"""Nucleotide Transformer v2's published checkpoints: their Hugging Face keys in genotok's names."""

import re
from typing import Any

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.pretrained.keys import needed_values, rename, share_embedding

_FAMILY = "Nucleotide Transformer v2"
# What the architecture has beside its sizes; the first version of the Nucleotide Transformer differs here.
_FIXED = {
    "position_embedding_type": "rotary",
    "add_bias_fnn": False,
    "emb_layer_norm_before": False,
    "token_dropout": False,
}
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_LAYER = r"^esm\.encoder\.layer\.(\d+)\."
_BLOCK = r"backbone.encoder.blocks.\1."
_RULES = [
    (r"^esm\.embeddings\.word_embeddings\.", "embedding."),
    (_LAYER + r"attention\.self\.(query|key|value)\.", _BLOCK + r"mixer.\2."),
    (_LAYER + r"attention\.output\.dense\.", _BLOCK + "mixer.out."),
    (_LAYER + r"attention\.LayerNorm\.", _BLOCK + "mixer_norm."),
    (_LAYER + r"LayerNorm\.", _BLOCK + "mlp_norm."),
    (_LAYER + r"intermediate\.dense\.", _BLOCK + "mlp.value_gate."),
    (_LAYER + r"output\.dense\.", _BLOCK + "mlp.out."),
    (r"^esm\.encoder\.emb_layer_norm_after\.", "backbone.encoder.norm."),
    (r"^lm_head\.decoder\.weight$", "head.weight"),
    (r"^lm_head\.bias$", "head.bias"),
    (r"^lm_head\.dense\.", "head.dense."),
    (r"^lm_head\.layer_norm\.", "head.norm."),
]
# Stored beside the model: constants, absolute positions that rotary ones replace, and the contact map's head.
_UNUSED = re.compile(
    r"^esm\.(embeddings\.position_(ids|embeddings\.weight)|contact_head\..*|.*rotary_embeddings\.inv_freq)$"
)


def convert_ntv2(config: dict[str, Any], state: dict[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Translate an official configuration and state dict.

    Args:
        config: the `config.json` of the checkpoint (`hidden_size`, ...).
        state: the state dict of an `EsmForMaskedLM`.

    Returns:
        The configuration and the state dict under genotok's names.

    Raises:
        InputError: a size is missing, the architecture is another, or a key is none of the family's.
    """
    width, layers, heads, intermediate, vocabulary = needed_values(_FAMILY, config, _SIZES)
    for key, wanted in _FIXED.items():
        if config.get(key, wanted) != wanted:
            raise InputError(f"{key}: {config[key]!r} is not {_FAMILY}'s, which has {wanted!r}")
    tied = config.get("tie_word_embeddings", False)
    rotary = width // max(heads, 1)
    converted = {
        "layout": [f"T{layers}"],
        "d_model": width,
        "d_intermediate": intermediate,
        "attention": {"heads": heads, "rotary_dim": rotary, "window": -1, "bias": True},
        "tokenizer": "ntv2",
        "vocab_size": vocabulary,
        "tie_embeddings": tied,
        "norm": "layer",
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "head": "roberta",
        "tasks": ["mlm"],
    }
    renamed = convert_ntv2_state(state)
    if tied:
        share_embedding(renamed)
    return ModelConfig.from_dict(converted), renamed


def convert_ntv2_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an `EsmForMaskedLM` under genotok's names.

    Raises:
        InputError: a key is none of the family's, or a layer is not complete.
    """
    used = {key: value for key, value in state.items() if not _UNUSED.match(key)}
    return _in_our_order(rename(_FAMILY, used, _RULES))


def _in_our_order(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value in one matrix; the value in front of the gate, where the checkpoints have it behind."""
    ordered = {}
    for key, tensor in state.items():
        if match := re.fullmatch(r"(.*\.mixer\.)query(\.\w+)", key):
            names = [f"{match[1]}{part}{match[2]}" for part in ("query", "key", "value")]
            missing = [name for name in names if name not in state]
            if missing:
                raise InputError(f"the checkpoint holds {key} and not {missing[0]}; is it complete?")
            ordered[f"{match[1]}qkv{match[2]}"] = torch.cat([state[name] for name in names])
        elif key.endswith("mlp.value_gate.weight"):
            ordered[key] = torch.cat(tensor.chunk(2)[::-1])
        elif not re.search(r"\.mixer\.(key|value)\.", key):
            ordered[key] = tensor
    return ordered
