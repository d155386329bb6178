"""Small models with any number of chunking stages."""

import torch

from genotok.models import GenomicLM, ModelConfig


def staged_model(layout, tokenizer="nucleotide"):
    """A model with drawn weights whose routers find boundaries here and there."""
    stages = str(layout).count("[")
    values = {
        "layout": layout,
        "d_model": [16, 16, 32][:stages],
        "d_intermediate": [0, 0, 32][-stages:],
        "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 16},
        "tokenizer": tokenizer,
    }
    torch.manual_seed(5)
    model = GenomicLM(ModelConfig.from_dict(values)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".chunker." in name:
                weight.normal_(std=0.25)
    return model
