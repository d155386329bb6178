"""Chunks of models whose tokens are several letters, on the letters."""

import math

import numpy as np
import pytest
import torch
from bed_files import write_bed
from staged_model import staged_model

from genotok.interpret.chunks import find_chunks
from genotok.models.likelihood import nucleotide_log_likelihood

BPE = {"type": "bpe", "merges": ["A C", "G T", "AC GT", "T A", "C C"]}
TOKENIZERS = {"codon": "codon", "bpe": BPE, "overlap": {"type": "kmer", "k": 3, "stride": 2}}


@pytest.mark.parametrize("contig", ["one", "two"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_chunks_begin_where_their_first_token_does(kind, contig, reference):
    model = staged_model(["m2", ["m1", ["T1"], "m1"], "m2"], TOKENIZERS[kind])
    tokenizer, letters = model.tokenizer, reference.fetch(contig)
    found = find_chunks(model, reference, contig, 0, len(letters), window=300)
    ids = tokenizer.encode_letters(letters.encode()).astype(int)
    with torch.no_grad():
        stages = model(torch.tensor([[tokenizer.start_id, *ids]])).boundaries
    places = np.cumsum(tokenizer.letters_added(ids)) - tokenizer.letters_added(ids)
    begins = [np.zeros(len(letters), bool) for _ in stages]
    probability = [np.zeros(len(letters)) for _ in stages]
    tokens = list(range(len(ids) + 1))  # 0 is the start token
    for s, stage in enumerate(stages):
        chosen = stage.mask[0, : len(tokens)].tolist()
        for row, token in enumerate(tokens):
            if token > 0:
                probability[s][places[token - 1]] = stage.prob[0, row].item()
                begins[s][places[token - 1]] = chosen[row]
        tokens = [token for token, kept in zip(tokens, chosen, strict=True) if kept]
        assert 0 < begins[s].sum() < len(ids)
    for s in range(2):
        assert (found.begins[s] == begins[s]).all()
        np.testing.assert_allclose(found.probability[s], probability[s], atol=1e-6)
    nats = nucleotide_log_likelihood(model, [letters.encode()])[0][0].numpy()
    certain = np.array([letter in "ACGT" for letter in letters.upper()])
    np.testing.assert_allclose(found.surprisal[certain], -nats[certain] / math.log(2), atol=1e-5)
    assert np.isnan(found.surprisal[~certain]).all()


def test_a_region_within_a_window_of_codons(reference, tmp_path):
    """The windows begin at the same letters whatever is asked for, and so do the codons."""
    model = staged_model(["m2", ["m1", ["T1"], "m1"], "m2"], "codon")
    whole = find_chunks(model, reference, "one", 0, 240, window=60, context=20)
    part = find_chunks(model, reference, "one", 101, 187, window=60, context=20)
    assert part.letters == whole.letters[101:187]
    assert (part.begins[0] == whole.begins[0][101:187]).all()
    np.testing.assert_allclose(part.surprisal, whole.surprisal[101:187], atol=1e-5)
    write_bed(part, tmp_path / "x.bed")
    rows = [line.split("\t") for line in (tmp_path / "x.bed").read_text().splitlines()]
    assert (rows[0][1], rows[-1][2]) == ("101", "187")
