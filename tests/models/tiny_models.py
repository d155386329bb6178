"""Models of each kind that are small enough to run many times."""

import copy

import torch

from genotok.models import GenomicLM, ModelConfig

ONE_STAGE = {
    "layout": ["m1T1", ["T1"], "m1"],
    "d_model": [16, 16],
    "d_intermediate": [24, 24],
    "attention": {"heads": 2, "rotary_dim": 4, "window": [5, -1]},
    "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 4},
}
TWO_STAGES = {
    "layout": ["m1", ["T1m1", ["T1"], "m1"], "T1"],
    "d_model": [16, 24, 32],
    "d_intermediate": [24, 16, 40],
    "attention": {"heads": [2, 3, 2], "rotary_dim": [4, 8, 0], "window": [7, 2, -1]},
    "mamba2": {"d_state": 4, "head_dim": 8, "d_conv": 3, "chunk_size": 8},
}
ISOTROPIC = {
    "layout": ["T2"],
    "d_model": 16,
    "d_intermediate": 24,
    "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 16, "chunk_size": 8},
}
HYENA = {"max_length": 60, "d_filter": 8, "frequency": 1.0}
TINY = {
    "one stage": ONE_STAGE,
    "two stages that widen": TWO_STAGES,
    "transformer": ISOTROPIC,
    "mamba": {**ISOTROPIC, "layout": ["M2"]},
    "transformer with biases": {
        **ISOTROPIC,
        "attention": {**ISOTROPIC["attention"], "bias": True},
        "norm": "layer",
        "mlp": "gelu",
        "head": "roberta",
        "tasks": ["lm", "mlm"],
    },
    "hyena": {**ISOTROPIC, "layout": ["H1h1"], "hyena": HYENA, "norm": "layer", "mlp": "gelu"},
    "hyena of order 3 in stages": {
        **ONE_STAGE,
        "layout": ["m1h1", ["H1"], "H1"],
        "mlp": "gelu",
        "hyena": {**HYENA, "order": 3, "d_position": 3, "filter_layers": 0},
    },
    "grouped queries": {
        **ONE_STAGE,
        "layout": ["m1T1", ["T1"], "t1"],
        "attention": {"heads": 4, "rotary_dim": 4, "window": [5, -1], "kv_heads": [2, 1]},
    },
    "tied embeddings": {**ONE_STAGE, "tie_embeddings": True},
    "static chunks": {**ONE_STAGE, "chunkers": {"kind": "static", "length": 3}, "upsamplers": "repeat"},
    "merged and static chunks": {
        **TWO_STAGES,
        "chunkers": [{"kind": "merge", "min_length": 2, "max_length": 6}, {"kind": "static", "length": 3}],
        "upsamplers": ["ema", "repeat"],
    },
}
TINY["means of chunks"] = {**ONE_STAGE, "chunk_states": "mean"}
TINY["cross-attention in stages"] = {
    **TWO_STAGES,
    "chunk_states": "cross_attention",
    "upsamplers": [{"kind": "cross_attention", "window": 3}, "cross_attention"],
}
TINY["positions"] = {**TWO_STAGES, "positions": [{"periods": "learned"}, {"periods": "fixed"}, None]}
TINY["positions of summaries"] = {
    **ONE_STAGE,
    "chunk_states": "mean",
    "upsamplers": [{"kind": "cross_attention", "window": 2}],
    "positions": {"periods": "fixed"},
}
# Those of which every part can be run row by row.
STEPPED = (
    "one stage",
    "two stages that widen",
    "transformer",
    "transformer with biases",
    "mamba",
    "hyena",
    "hyena of order 3 in stages",
    "grouped queries",
    "tied embeddings",
    "static chunks",
    "means of chunks",
    "cross-attention in stages",
    "positions",
    "positions of summaries",
    "merged and static chunks",
)


def tiny_config(name: str, **changes) -> ModelConfig:
    """A configuration of `TINY`, with top-level keys changed."""
    return ModelConfig.from_dict({**copy.deepcopy(TINY[name]), **changes})


def tiny_model(name: str, seed: int = 0, **changes) -> GenomicLM:
    """A model whose every parameter matters: also those that begin as zeros and ones are moved."""
    torch.manual_seed(seed)
    model = GenomicLM(tiny_config(name, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()
