"""An H-Net whose main network carries the blocks of a Nucleotide Transformer v2, trained on masked nucleotides.

python docs/examples/hnet_ntv2.py [CONFIG.json WEIGHTS.safetensors]

Without a checkpoint the blocks come from a small model of the same architecture with random weights.
"""

import argparse
import json
from pathlib import Path

import torch

from genotok import GenomicLM, ModelConfig
from genotok.models.saved import read_weights
from genotok.pretrained import import_checkpoint, load_ntv2_weights

SMALL_NTV2 = {
    "layout": ["T4"],
    "d_model": 48,
    "d_intermediate": 96,
    "attention": {"heads": 4, "rotary_dim": 12, "window": -1, "bias": True},
    "tokenizer": "ntv2",
    "norm": "layer",
    "norm_eps": 1e-12,
    "head": "roberta",
    "tasks": ["mlm"],
}


def hybrid(ntv2: ModelConfig, layers: int) -> ModelConfig:
    """Nucleotides outside, as many of NTv2's blocks on the chunks: 2 encoder and 2 decoder layers around them."""
    return ModelConfig.from_dict(
        {
            "layout": ["T2", [f"T{layers}"], "T2"],
            "d_model": ntv2.d_model[0],
            "d_intermediate": ntv2.d_intermediate[0],
            "attention": {
                "heads": ntv2.attention.heads[0],
                "rotary_dim": ntv2.attention.rotary_dim[0],
                "window": -1,
                "bias": True,
            },
            "norm": "layer",
            "norm_eps": ntv2.norm_eps,
            "upsamplers": "cross_attention",
            "tasks": ["mlm"],
        }
    )


def main() -> None:
    """Put the blocks in, freeze them, and take one training step on the rest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("weights", type=Path, nargs="?")
    options = parser.parse_args()
    torch.manual_seed(1)
    if options.weights:
        config, state = json.loads(options.config.read_text()), read_weights(options.weights)
        source = import_checkpoint("ntv2", config, state, str(options.weights))
    else:
        source = GenomicLM(ModelConfig.from_dict(SMALL_NTV2))
    layers = min(20, len(source.backbone.encoder.blocks))
    model = GenomicLM(hybrid(source.config, layers))
    print(load_ntv2_weights(model, source, freeze=True))

    random = torch.Generator().manual_seed(2)
    letters = torch.randint(0, 4, (4, 120), generator=random)
    hidden = torch.rand(letters.shape, generator=random) < 0.15
    inputs = letters.masked_fill(hidden, model.tokenizer.mask_id)
    labels = letters.masked_fill(~hidden, -100)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for step in range(3):
        output = model(inputs, task="mlm", labels=labels)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        print(f"step {step}: {output.loss:.3f} nats a masked nucleotide")


if __name__ == "__main__":
    main()
