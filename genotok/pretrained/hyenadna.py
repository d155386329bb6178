"""HyenaDNA's published checkpoints (github.com/HazyResearch/hyena-dna): their keys in genotok's names."""

import re
from typing import Any

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.models.mixers.hyena import position_features
from genotok.pretrained.keys import needed_values, rename, same_values, share_embedding

_FAMILY = "HyenaDNA"
# The operator's settings: key in the original configuration, key in that of the Hugging Face port, ours, default.
_OPERATOR = [
    ("order", "hyena_order", "order", 2),
    ("l_max", "max_seq_len", "max_length", None),
    ("filter_order", "filter_order", "d_filter", 64),
    ("num_inner_mlps", "num_inner_mlps", "filter_layers", 2),
    ("emb_dim", "emb_dim", "d_position", 3),
    ("short_filter_order", "short_filter_order", "d_conv", 3),
    ("shift", "shift", "shift", 0.05),
    ("w", "activation_freq", "frequency", 1),
]
# Variants of the operator that no published checkpoint has.
_FIXED = {
    "modulate": True,
    "normalized": False,
    "num_heads": 1,
    "inner_factor": 1,
    "num_blocks": 1,
    "outer_mixing": False,
    "post_order_ffn": False,
}
_LAYER = r"^backbone\.layers\.(\d+)\."
_BLOCK = r"backbone.encoder.blocks.\1."
_FILTER = _LAYER + r"mixer\.filter_fn\."
_RULES = [
    (r"^backbone\.embeddings\.word_embeddings\.", "embedding."),
    (r"^backbone\.ln_f\.", "backbone.encoder.norm."),
    (r"^lm_head\.weight$", "head.weight"),
    (_LAYER + r"norm1\.", _BLOCK + "mixer_norm."),
    (_LAYER + r"norm2\.", _BLOCK + "mlp_norm."),
    (_LAYER + r"mlp\.fc1\.", _BLOCK + "mlp.up."),
    (_LAYER + r"mlp\.fc2\.", _BLOCK + "mlp.out."),
    (_LAYER + r"mixer\.in_proj\.", _BLOCK + "mixer.in_proj."),
    (_LAYER + r"mixer\.out_proj\.", _BLOCK + "mixer.out."),
    (_LAYER + r"mixer\.short_filter\.", _BLOCK + "mixer.conv_"),
    (_FILTER + r"bias$", _BLOCK + "mixer.skip"),
    (_FILTER + r"modulation\.deltas$", _BLOCK + "mixer.filter.decay"),
    (_FILTER + r"implicit_filter\.(\d+)\.freq$", _BLOCK + r"mixer.filter.\2.frequency"),
    (_FILTER + r"implicit_filter\.(\d+)\.", _BLOCK + r"mixer.filter.layers.\2."),
    (_FILTER + r"pos_emb\.([tz])$", _BLOCK + r"mixer.filter.position.\2"),
]


def convert_hyenadna(
    config: dict[str, Any], state: dict[str, Tensor]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Translate an official configuration and state dict.

    Args:
        config: the official JSON, with the operator's settings under `layer`, or that of the Hugging Face port.
        state: the state dict of either; weights that were trained with recomputation have the same tensors
            under slightly longer names.

    Returns:
        The configuration and the state dict under genotok's names.

    Raises:
        InputError: a size is missing, the operator is another, or a key is none of the family's.
    """
    width, layers, intermediate, vocabulary = needed_values(
        _FAMILY, config, ("d_model", "n_layer", "d_inner", "vocab_size")
    )
    operator = _operator(config)
    plain = {
        re.sub(r"^(model|hyena)\.|(?<=mixer\.)layer\.|(?<=mlp\.)layer\.", "", k): v for k, v in state.items()
    }
    renamed = rename(_FAMILY, plain, _RULES)
    tied = "head.weight" not in renamed or "embedding.weight" not in renamed
    share_embedding(renamed)
    multiple = config.get("pad_vocab_size_multiple", 8)
    converted = {
        "layout": [f"H{layers}"],
        "d_model": width,
        "d_intermediate": intermediate,
        "attention": {"heads": 1, "rotary_dim": 0, "window": -1},
        "hyena": operator,
        "tokenizer": "hyenadna",
        "vocab_size": -(-vocabulary // multiple) * multiple,
        "tie_embeddings": tied or same_values(renamed["head.weight"], renamed["embedding.weight"]),
        "norm": "layer",
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "mlp": "gelu",
    }
    converted = ModelConfig.from_dict(converted)
    return converted, _in_our_shapes(renamed, converted)


def _operator(config: dict[str, Any]) -> dict[str, Any]:
    layer = config.get("layer", config)
    if not isinstance(layer, dict):
        raise InputError(f"layer: {layer!r} should be an object with the settings of the operator")
    for key, wanted in _FIXED.items():
        if layer.get(key, wanted) != wanted:
            raise InputError(f"layer.{key}: {layer[key]!r} is not {_FAMILY}'s, which has {wanted!r}")
    settings = {ours: layer.get(a, layer.get(b, default)) for a, b, ours, default in _OPERATOR}
    if settings["max_length"] is None:
        raise InputError("layer.l_max: this key is needed, the longest sequence that the filters cover")
    return settings


def _in_our_shapes(state: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Vectors without their leading ones, one frequency for all sines, and places that are computed when needed."""
    shaped = {}
    for key, tensor in state.items():
        if match := re.search(r"filter\.position\.([tz])$", key):
            _check_positions(key, tensor, match[1], config)
        elif match := re.fullmatch(r"(.*\.filter\.)\d+\.(frequency)", key):
            known = shaped.setdefault(match[1] + match[2], tensor.flatten())
            if not same_values(known, tensor.flatten()):
                raise InputError(
                    f"{key}: the sines of one filter have different frequencies; {_FAMILY}'s share one"
                )
        elif match := re.fullmatch(r"(.*\.filter\.layers\.)(\d+)(\..*)", key):
            shaped[f"{match[1]}{int(match[2]) // 2}{match[3]}"] = tensor
        elif key.endswith("filter.decay"):
            shaped[key] = tensor.flatten().abs()
        elif key.endswith("mixer.conv_weight"):
            shaped[key] = tensor.flatten(1)
        elif key.endswith("mixer.skip"):
            shaped[key] = tensor.view(config.hyena.order - 1, -1)
        else:
            shaped[key] = tensor
    return shaped


def _check_positions(key: str, tensor: Tensor, kind: str, config: ModelConfig) -> None:
    """Refuse places that were learned or belong to another longest length."""
    length = config.hyena.max_length
    shape = (1, length, config.hyena.d_position if kind == "z" else 1)
    fits = tensor.shape == shape
    if fits and not tensor.is_meta:
        wanted = position_features(length, config.hyena.d_position, length)[None, :, : shape[-1]]
        fits = torch.allclose(tensor.float(), wanted, atol=1e-3)
    if not fits:
        raise InputError(
            f"{key}: these positions, {tuple(tensor.shape)}, are not those of l_max {length} and emb_dim "
            f"{config.hyena.d_position}; is this the right configuration for the checkpoint?"
        )
