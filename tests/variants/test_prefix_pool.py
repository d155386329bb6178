"""Shared prefixes: the same scores as whole windows give, at less work."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from tiny_models import tiny_model
from variant_files import plan_of

from genotok.errors import InputError
from genotok.variants.pool import PairPool
from genotok.variants.prefix_pool import PrefixPool, make_pool
from genotok.variants.windows import WindowPair

KINDS = ["one stage", "two stages that widen", "transformer", "mamba", "static chunks"]
MODELS = {
    (kind, tokenizer): tiny_model(kind, tokenizer=tokenizer)
    for kind in KINDS
    for tokenizer in ("nucleotide", "byte")
}
LETTERS = st.text("ACGTN", max_size=30).map(str.encode)
PAIRS = st.lists(
    st.tuples(LETTERS, st.text("ACGT", max_size=4), st.text("ACGT", max_size=4), LETTERS),
    min_size=1,
    max_size=8,
)


def pairs_of(parts):
    """Pairs that share prefixes with each other, since each stands beside one with REF and ALT swapped."""
    for before, ref, alt, after in parts:
        ref, alt = before + ref.encode() + after, before + alt.encode() + after
        if ref and alt:
            yield WindowPair(ref, alt, len(before))
            yield WindowPair(alt, ref, len(before))


@pytest.mark.parametrize("model", MODELS.values(), ids=map("-".join, MODELS))
@settings(max_examples=15, deadline=None)
@given(parts=PAIRS, size=st.integers(1, 9))
def test_equals_whole_windows(model, parts, size):
    shared, whole = PrefixPool(model, "fp32", size), PairPool(model, "fp32", 64)
    pairs = list(pairs_of(parts))
    found, wanted = (pool.scores(plan_of(pool, pairs)) for pool in (shared, whole))
    assert found.dtype == np.float64
    assert found == pytest.approx(wanted, abs=1e-4)
    assert found[::2] == pytest.approx(-found[1::2], abs=1e-9)


def test_equal_prefixes_and_endings_are_read_once():
    model = MODELS["one stage", "nucleotide"]
    pool, read = PrefixPool(model, "fp32", 64), []
    run = model.prefill
    model.prefill = lambda ids, lengths: read.append(ids.shape) or run(ids, lengths)
    try:
        alts = (b"ACGTCAAA", b"ACGTGAAA", b"ACGTTAAA")
        plan = plan_of(pool, [WindowPair(b"ACGTAAAA", alt, 4) for alt in alts])
        assert len(plan.endings.lengths) == 4
        scores = pool.scores(plan)
    finally:
        del model.prefill
    assert read == [(1, 5)]  # the start token and four letters
    assert len(set(scores)) == 3


def test_which_model_gets_which_pool():
    assert isinstance(make_pool(MODELS["one stage", "byte"], "fp32", 1), PrefixPool)
    assert isinstance(make_pool(tiny_model("hyena"), "fp32", 1), PairPool)
    masked = tiny_model("transformer", tasks=["mlm", "lm"])
    assert isinstance(make_pool(masked, "fp32", 1), PairPool)
    assert isinstance(make_pool(tiny_model("transformer", tokenizer="kmer"), "fp32", 1), PairPool)


def test_a_batch_that_is_too_large_for_the_memory_is_cut(monkeypatch):
    model = MODELS["mamba", "nucleotide"]
    pairs = [
        WindowPair(b"ACGT" * 3 + letters, b"ACGT" * 3 + b"T", 12 - i)
        for i, letters in enumerate([b"A", b"C", b"G"])
    ]

    def scores(limit):
        pool = PrefixPool(model, "fp32", 100)
        run, sizes = pool._sums, []

        def limited(plan, begin, end):
            if end - begin > limit:
                torch.empty(1 << 50, dtype=torch.uint8)  # what the host's memory raises
            sizes.append(end - begin)
            return run(plan, begin, end)

        monkeypatch.setattr(pool, "_sums", limited)
        return pool.scores(plan_of(pool, pairs)), sizes

    whole, cut = scores(3), scores(1)
    assert (whole[1], cut[1]) == ([3], [1, 1, 1])
    assert cut[0] == pytest.approx(whole[0], abs=1e-5)
    with pytest.raises(InputError, match="has no memory for one window of 12 letters in front of a variant"):
        scores(0)
