"""An H-Net for DNA: logits, loss, the chunks of each stage, and what a pass costs.

python docs/examples/hnet.py
"""

import torch

from genotok import GenomicLM, ModelConfig
from genotok.interpret.coloured_text import chunks_of, print_coloured
from genotok.models.cost import model_cost

LETTERS = "ATGGCGTTAGCCAAAGGTCCAGGCTATGCAGTAG" * 3


def main() -> None:
    """Run a small model of three stages on one sequence and on a ragged batch."""
    torch.manual_seed(1)
    config = ModelConfig.reasonable(d_model=[64, 96, 128], layout=["m2", "T1m1", "T2"])
    model = GenomicLM(config).eval()
    ids = torch.tensor([model.tokenizer.encode(LETTERS)])
    with torch.no_grad():
        output = model(ids, labels=ids)
    print(f"logits {tuple(output.logits.shape)}, loss {output.loss:.3f} nats a nucleotide")
    for stage, boundaries in enumerate(output.boundaries):
        print(f"stage {stage}: {boundaries.mask.shape[1]} rows make {int(boundaries.mask.sum())} chunks")
    print_coloured(chunks_of(LETTERS, output.boundaries[0].mask[0].tolist()))

    # Sequences of different length lie end to end inside the model; nothing is spent on padding.
    lengths = torch.tensor([102, 40, 7])
    batch = ids.repeat(3, 1)
    ragged = model(batch, labels=batch, lengths=lengths)
    alone = model(ids[:, :40])
    torch.testing.assert_close(ragged.logits[1, :40], alone.logits[0], atol=1e-5, rtol=1e-5)
    ragged.loss.backward()

    published = ModelConfig.preset("hnet_1stage_dna")
    cost = model_cost(published, length=8192, compression=[3.0])
    print(
        f"hnet_1stage_dna: {cost.parameters / 1e6:.1f} M parameters, {cost.flops.total / 8192e6:.0f} MFLOPs a base"
    )


if __name__ == "__main__":
    main()
