"""One transformer for three tasks: the next token, masked tokens, and a property of the sequence.

python docs/examples/hyformer.py
"""

import tempfile

import torch

from genotok import GenomicLM, ModelConfig


def small_hyformer() -> GenomicLM:
    """The preset's architecture at a width for a laptop, with a head for three classes."""
    values = ModelConfig.preset("hyformer").to_dict()
    values |= {"layout": ["T2"], "d_model": 64, "d_intermediate": 192}
    values["attention"] = {"heads": 4, "rotary_dim": 16, "window": -1}
    values["tasks"] = ["lm", "mlm", "prediction"]
    values["heads"] = {"class": {"kind": "classification", "outputs": 3, "per": "sequence"}}
    return GenomicLM(ModelConfig.from_dict(values))


def main() -> None:
    """Each task once, generation from a cache, and the way to disk and back."""
    torch.manual_seed(1)
    model = small_hyformer().eval()
    random = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 4, (2, 40), generator=random)
    lengths = torch.tensor([40, 25])

    causal = model(ids, task="lm", labels=ids, lengths=lengths)
    print(f"lm: {causal.loss:.3f} nats a token")

    hidden = torch.rand(ids.shape, generator=random) < 0.15
    masked = ids.masked_fill(hidden, model.tokenizer.mask_id)
    both = model(masked, task="mlm", labels=ids.masked_fill(~hidden, -100), lengths=lengths)
    print(f"mlm: {both.loss:.3f} nats a masked token")

    answer = model(ids, task="prediction", labels={"class": torch.tensor([0, 2])}, lengths=lengths)
    print(f"prediction: {tuple(answer.predictions['class'].shape)}, loss {answer.loss:.3f}")

    added = model.generate(["ACGT", "GG"], 12, seed=3, temperature=0.8, top_k=3)
    print("generated:", ", ".join(model.tokenizer.decode(row.tolist()) for row in added))

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = GenomicLM.from_pretrained(folder)
    assert torch.equal(again(ids, task="lm", lengths=lengths).logits, causal.logits)


if __name__ == "__main__":
    main()
