"""Attention maps: where their rows lie, and that they are what the layers do."""

import numpy as np
import pytest
import torch
from staged_model import staged_model

from genotok.genomes.regions import Region
from genotok.interpret.attention_maps import attention_maps, mixer_kinds
from genotok.kernels.attention import attention_weights, ragged_attention
from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM, ModelConfig
from genotok.models.chunkers.spans import chunk_starts
from genotok.variants.letters import ReferenceLetters

REGION = Region("one", 100, 130)


def attention_model(layout, window=-1, **values):
    stages = str(layout).count("[")
    torch.manual_seed(1)
    config = {
        "layout": layout,
        "d_model": [16] * stages,
        "d_intermediate": [32] * stages,
        "attention": {"heads": 2, "rotary_dim": 8, "window": window},
        "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 16},
    }
    return GenomicLM(ModelConfig.from_dict(config | values)).eval()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [-1, 0, 3])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_weights_are_what_the_kernel_takes_of_each_value(causal, window, kv_heads):
    torch.manual_seed(0)
    ragged = Ragged.from_lengths(torch.tensor([5, 9]))
    q = torch.randn(14, 4, 8)
    k, v = torch.randn(2, 14, kv_heads, 8)
    weights = attention_weights(q, k, ragged, causal=causal, window=window)
    assert weights.shape == (2, 4, 9, 9)
    values = ragged.to_padded(v.repeat_interleave(4 // kv_heads, 1)).transpose(1, 2)
    found = ragged.to_packed((weights @ values).transpose(1, 2))
    torch.testing.assert_close(found, ragged_attention(q, k, v, ragged, causal=causal, window=window))


@pytest.fixture(scope="module")
def letters(reference):
    return ReferenceLetters(reference).contig("one")


def test_rows_of_tokens_and_of_chunks(model, letters):
    (found,) = attention_maps(model, letters, REGION, 90)
    assert (found.layer, found.stage) == ("stage2.encoder.0", 2)
    ids = [model.tokenizer.start_id, *model.tokenizer.encode_letters(letters.fetch(70, 160)).tolist()]
    with torch.no_grad():
        starts = chunk_starts(model(torch.tensor([ids])).packed_boundaries)[1].numpy()
    first = np.maximum(70 + starts - 1, 70)  # the start token has no letter
    assert found.keys[:, 0].tolist() == first.tolist()
    assert found.keys[-1, 1] == 160
    assert np.array_equal(found.keys[1:, 0], found.keys[:-1, 1])
    kept = (found.keys[:, 1] > 100) & (found.keys[:, 0] < 130)
    assert np.array_equal(found.queries, found.keys[kept])
    assert found.weights.shape == (2, kept.sum(), len(first))
    np.testing.assert_allclose(found.weights.sum(2), 1, rtol=1e-5)


def test_causal_maps_look_back_only_and_no_farther_than_the_window(letters):
    (found,) = attention_maps(attention_model(["T1"], window=6), letters, REGION, 60)
    distance = found.queries[:, None, 0] - found.keys[None, :, 0]
    seen = found.weights[0] > 0
    assert (distance[seen] >= 0).all()
    assert (distance[seen] <= 6).all()
    assert (seen.sum(1) == 7).all()


def test_masked_models_look_both_ways(letters):
    (found,) = attention_maps(attention_model(["T1"], tasks=["mlm"]), letters, REGION, 60)
    assert (found.weights > 0).all()


def test_layers_come_in_the_order_in_which_they_run(letters):
    found = attention_maps(attention_model(["m1t1", ["T2"], "t1"]), letters, REGION, None)
    names = ["stage0.encoder.1", "stage1.encoder.0", "stage1.encoder.1", "stage0.decoder.0"]
    assert [one.layer for one in found] == names
    assert [one.stage for one in found] == [0, 1, 1, 0]
    assert found[0].queries.tolist() == [[place, place + 1] for place in range(100, 130)]
    assert found[0].keys[:2].tolist() == [[100, 100], [100, 101]]


def test_tokens_of_several_letters_have_their_span(letters):
    model = attention_model(["T1"], tokenizer={"type": "kmer", "k": 6})
    (found,) = attention_maps(model, letters, Region("one", 103, 110), 60)
    assert (np.diff(found.queries, axis=1) == 6).all()
    assert found.queries[0, 0] <= 103
    assert found.queries[-1, 1] >= 110


def test_a_model_without_attention_has_no_maps(letters):
    model = staged_model(["m2"])
    assert attention_maps(model, letters, REGION, 60) == []
    assert mixer_kinds(model) == ["Mamba2"]
