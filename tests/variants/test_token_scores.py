"""Scores of models whose tokens are several letters, and of models of masked tokens."""

import json
from pathlib import Path

import pytest
import torch
from haplotype_oracle import ratios
from safetensors.torch import load_file
from variant_files import scoring_model

from genotok.models import GenomicLM, ModelConfig
from genotok.models.likelihood import nucleotide_log_likelihood
from genotok.pretrained import import_checkpoint

NTV2 = Path(__file__).parents[1] / "data" / "ntv2"
CONTIG = "".join("ACGT"[(7 * i * i + i // 3) % 4] for i in range(60)) + "NACGTTGCANA" + "GATTACA" * 4
BPE = {"type": "bpe", "merges": ["A C", "G T", "T A", "AC GT", "T TA", "G A", "TTA C", "C C"]}
RECORDS = [  # substitutions, an insertion and a deletion, in front of the N and behind it
    ("c", 30, CONTIG[29], "".join(letter for letter in "ACGT" if letter != CONTIG[29])[0]),
    ("c", 41, CONTIG[40], CONTIG[40] + "GGA"),
    ("c", 50, CONTIG[49:52], CONTIG[49]),
    ("c", 85, CONTIG[84], "".join(letter for letter in "ACGT" if letter != CONTIG[84])[1]),
]


def masked_model(tokenizer):
    torch.manual_seed(3)
    attention = {"heads": 2, "rotary_dim": 8, "window": -1}
    values = {"layout": ["T1"], "d_model": [32], "d_intermediate": [32], "attention": attention}
    model = GenomicLM(ModelConfig(**values, tokenizer=tokenizer, tasks=["mlm"])).eval()
    with torch.no_grad():
        model.head.weight.mul_(30)
    return model


MODELS = {
    "6-mers": lambda: scoring_model("kmer"),
    "codons": lambda: scoring_model("codon"),
    "bpe": lambda: scoring_model(BPE),
    "masked nucleotides": lambda: masked_model("nucleotide"),
    "masked pairs": lambda: masked_model({"type": "kmer", "k": 2}),
    "NTv2": lambda: import_checkpoint(
        "ntv2", json.loads((NTV2 / "ntv2_tiny.json").read_text()), load_file(NTV2 / "ntv2_tiny.safetensors")
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_scores_are_those_of_the_definition(kind, score, tmp_path):
    model = MODELS[kind]()
    model.save_pretrained(tmp_path / "model")
    masked = "pseudo" if model.config.tasks == ["mlm"] else None
    found = score({"c": CONTIG}, RECORDS, folder=tmp_path / "model", window=24, masked=masked)
    for record, (_, pos, ref, alt) in zip(found, RECORDS, strict=True):
        assert record.status == ("ok",)
        forward, reverse = ratios(model, CONTIG, pos, ref, alt, 24)
        assert record.forward[0] == pytest.approx(forward, rel=1e-3, abs=2e-3)
        assert record.reverse[0] == pytest.approx(reverse, rel=1e-3, abs=2e-3)
        assert record.llr[0] == pytest.approx((forward + reverse) / 2, rel=1e-3, abs=2e-3)
    assert max(abs(record.llr[0]) for record in found) > 0.01


def test_overlapping_k_mers_count_new_letters_alone(score, tmp_path):
    model = scoring_model({"type": "kmer", "k": 3, "stride": 1})
    model.save_pretrained(tmp_path / "model")
    _, pos, ref, alt = RECORDS[0]
    (record,) = score({"c": CONTIG}, RECORDS[:1], folder=tmp_path / "model", window=24, strands="forward")
    left = CONTIG[pos - 1 - 12 : pos - 1]
    windows = [(left + allele + CONTIG[pos : pos + 11]).encode() for allele in (ref, alt)]
    reference, alternative = nucleotide_log_likelihood(model, windows)[0].double().sum(1).tolist()
    assert record.llr[0] == pytest.approx(alternative - reference, rel=1e-3, abs=1e-3)
