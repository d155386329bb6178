"""Hyena-GLT: adaptive merging, Hyena on the chunks, cross-attention between the two, positions that know the chunks.

python docs/examples/hyena_glt.py
"""

import torch

from genotok import GenomicLM, ModelConfig

REPEATS = "ATGC" * 50


def small_hyena_glt(**changes) -> GenomicLM:
    """The preset `hyena_glt_small` at a width for a laptop."""
    values = ModelConfig.preset("hyena_glt_small").to_dict()
    values |= {"layout": ["h1", ["H2"], "h1"], "d_model": 32, "d_intermediate": 64}
    values["attention"] = {"heads": 4, "rotary_dim": 0, "window": -1}
    values["hyena"] = {"max_length": 1024, "d_filter": 16}
    return GenomicLM(ModelConfig.from_dict({**values, **changes})).eval()


def main() -> None:
    """Compare the chunks of a repeat with those of a random sequence, with and without merging."""
    random = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(1))
    for name, changes in (
        ("merged by similarity", {}),
        ("every token a chunk", {"chunkers": {"kind": "static", "length": 1}}),
        ("codons", {"chunkers": {"kind": "static", "length": 3}}),
    ):
        torch.manual_seed(1)
        model = small_hyena_glt(**changes)
        for words, ids in (("repeat", torch.tensor(model.tokenizer.encode(REPEATS))), ("random", random)):
            with torch.no_grad():
                mask = model(ids[None]).boundaries[0].mask[0]
            chunks = int(mask.sum())
            print(
                f"{name}, {words} sequence: {len(ids)} tokens, {chunks} chunks, {len(ids) / chunks:.2f} a chunk"
            )

    torch.manual_seed(1)
    model = small_hyena_glt()
    ids = random[None]
    causal, both = model(ids, task="lm"), model(ids, task="mlm")
    moved = (causal.logits - both.logits)[0].norm(dim=-1).mean()
    print(f"the same weights, causal and both ways: logits {moved:.2f} apart at a nucleotide")
    print("generated:", model.tokenizer.decode(model.generate(["ATG"], 30, seed=2)[0].tolist()))


if __name__ == "__main__":
    main()
