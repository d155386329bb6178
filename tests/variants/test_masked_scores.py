"""Substitutions scored at their site by models of masked tokens."""

import functools
import random

import numpy as np
import pytest
import torch
from haplotype_oracle import edited, log_likelihood, ratios
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_oracle import site_ratios
from test_token_scores import BPE, CONTIG, MODELS, masked_model
from variant_files import plan_of

from genotok.errors import InputError
from genotok.variants.masked_pool import MaskedPool, masked_way
from genotok.variants.windows import WindowPair

CLOSE = {"rel": 1e-4, "abs": 1e-4}
KINDS = ("masked nucleotides", "masked pairs", "NTv2")
VARIED = "".join(random.Random(1).choices("ACGT", k=60))
made = functools.cache(lambda kind: MODELS[kind]())


def substitution(pos: int, length: int, shift: int = 1, contig: str = CONTIG) -> tuple[str, int, str, str]:
    """A record of `length` letters of which none stays."""
    ref = contig[pos - 1 : pos - 1 + length]
    return "c", pos, ref, "".join("ACGT"[("ACGT".index(letter) + shift) % 4] for letter in ref)


SUBSTITUTIONS = [
    substitution(30, 1),
    substitution(30, 1, 2),
    substitution(1, 1),
    substitution(len(CONTIG), 1),  # a letter that is left beside the 6-mers
    substitution(41, 3),  # across two 6-mers
    (
        "c",
        41,
        CONTIG[40:45],
        "ACGT".replace(CONTIG[40], "")[0] + CONTIG[41:44] + "ACGT".replace(CONTIG[44], "")[1],
    ),
    substitution(20, 9),
    substitution(85, 2, 3),  # behind the N
]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_definition(kind, score, tmp_path):
    model = made(kind)
    model.save_pretrained(tmp_path / "model")
    found = score({"c": CONTIG}, SUBSTITUTIONS, folder=tmp_path / "model", window=24, batch_size=3)
    for record, (_, pos, ref, alt) in zip(found, SUBSTITUTIONS, strict=True):
        assert record.status == ("ok",)
        forward, reverse = site_ratios(model, CONTIG, pos, ref, alt, 24)
        assert record.forward[0] == pytest.approx(forward, **CLOSE)
        assert record.reverse[0] == pytest.approx(reverse, **CLOSE)
        assert record.llr[0] == pytest.approx((forward + reverse) / 2, **CLOSE)
    assert max(abs(record.llr[0]) for record in found) > 0.05
    assert "##genotok_masked=marginal\n" in (tmp_path / "out.vcf").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_alleles_of_another_length_are_scored_by_both_whole_windows(kind, score, tmp_path):
    model = made(kind)
    model.save_pretrained(tmp_path / "model")
    records = [
        ("c", 41, CONTIG[40], CONTIG[40] + "GGA"),
        ("c", 50, CONTIG[49:52], CONTIG[49]),
        ("c", 30, CONTIG[29:31], "TCAG"),
        substitution(33, 1),
    ]
    found = score({"c": CONTIG}, records, folder=tmp_path / "model", window=24)
    for record, (_, pos, ref, alt) in zip(found[:3], records, strict=False):
        forward, reverse = ratios(model, CONTIG, pos, ref, alt, 24)
        assert (record.forward[0], record.reverse[0]) == pytest.approx((forward, reverse), rel=1e-3, abs=2e-3)
    forward, reverse = site_ratios(model, CONTIG, *records[3][1:], 24)
    assert (found[3].forward[0], found[3].reverse[0]) == pytest.approx((forward, reverse), **CLOSE)


def test_a_deletion_that_looks_like_a_substitution_is_none(score, tmp_path):
    """Both windows of `C` deleted in front of a run of A differ in one letter, as those of C>A do."""
    model = made("masked nucleotides")
    model.save_pretrained(tmp_path / "model")
    contig = "GATTACAT" + "C" + "A" * 40
    deletion, change = score(
        {"c": contig}, [("c", 8, "TC", "T"), ("c", 9, "C", "A")], folder=tmp_path / "model", window=16,
        strands="forward",
    )  # fmt: skip
    ref, alt = contig[:16], contig[:8] + "A" * 8
    expected = log_likelihood(model, alt) - log_likelihood(model, ref)
    assert deletion.llr[0] == pytest.approx(expected, rel=1e-3, abs=2e-3)
    assert abs(change.llr[0] - deletion.llr[0]) > 0.01


@st.composite
def changes(draw):
    """A contig without N near, a position, and two alleles of one length there."""
    contig = draw(st.text("ACGT", min_size=12, max_size=40)) + draw(st.sampled_from(["", "NNACGT"]))
    length = draw(st.integers(1, 6))
    pos = draw(st.integers(1, 12 - length + 1))
    return (
        contig,
        pos,
        contig[pos - 1 : pos - 1 + length],
        draw(st.text("ACGT", min_size=length, max_size=length)),
    )


def pairs_of(contig: str, pos: int, ref: str, alt: str, window: int) -> tuple[WindowPair, WindowPair]:
    """A change and the change back, as pairs of windows, common ends of the alleles left on."""
    left = max(0, pos - 1 - window // 2)
    both = contig[left : left + window].encode(), edited(contig, pos, ref, alt)[left : left + window].encode()
    shared = pos - 1 - left
    behind = (shared + len(ref), shared + len(alt))
    return WindowPair(*both, shared, behind), WindowPair(*both[::-1], shared, behind)


@pytest.mark.parametrize("kind", KINDS)
@given(changes(), st.integers(12, 20))
@settings(max_examples=15, derandomize=True, deadline=None)
def test_ref_and_alt_exchanged_change_the_sign_and_nothing_else(kind, change, window):
    there, back = pairs_of(*change, window)
    scores = []
    for pair in (there, back):
        pool = MaskedPool(made(kind), "fp32", 4, "marginal")
        scores += pool.scores(plan_of(pool, [pair])).tolist()
    assert scores[0] == -scores[1]
    assert (scores[0] == 0) == (there.ref == there.alt)


@pytest.mark.parametrize("kind", KINDS)
def test_exchange_in_the_file_as_well(kind, score, tmp_path):
    made(kind).save_pretrained(tmp_path / "model")
    for record in SUBSTITUTIONS[:1] + SUBSTITUTIONS[4:7]:
        _, pos, ref, alt = record
        there = score({"c": CONTIG}, [record], folder=tmp_path / "model", window=24)[0]
        swapped = {"c": edited(CONTIG, pos, ref, alt)}
        back = score(swapped, [("c", pos, alt, ref)], folder=tmp_path / "model", window=24)[0]
        assert (there.llr, there.forward, there.reverse) == tuple(
            tuple(-x for x in part) for part in (back.llr, back.forward, back.reverse)
        )


def test_scores_do_not_depend_on_batch_size_and_neighbours(score, tmp_path):
    made("NTv2").save_pretrained(tmp_path / "model")
    records = [*SUBSTITUTIONS, ("c", 41, CONTIG[40], CONTIG[40] + "GGA")]
    options = {"folder": tmp_path / "model", "window": 24}
    alone = [score({"c": CONTIG}, [record], **options)[0] for record in records]
    for size in (1, 3, 64):
        together = score({"c": CONTIG}, records, batch_size=size, **options)
        for one, other in zip(alone, together, strict=True):
            assert one.forward == pytest.approx(other.forward, abs=1e-5, rel=1e-5)
            assert one.reverse == pytest.approx(other.reverse, abs=1e-5, rel=1e-5)


def test_all_alleles_of_a_site_need_one_window(monkeypatch):
    model = made("NTv2")
    pool = MaskedPool(model, "fp32", 8, "marginal")
    windows = [f"GATTACAGATTACAG{letter}TTACAGATTA".encode() for letter in "ACGT"]
    pairs = [(a, b) for a in windows for b in windows]
    plan = plan_of(pool, [WindowPair(a, b, 15, (16, 16)) for a, b in pairs])
    assert (len(plan), len(plan.sites.lengths), len(plan.whole.lengths)) == (16, 1, 0)
    run = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, **settings: run.append(len(ids)) or forward(ids, **settings)
    )
    scores = pool.scores(plan).reshape(4, 4)
    assert run == [1]
    assert np.array_equal(scores, -scores.T)
    assert len(np.unique(scores)) == 13
    assert pool.scores(plan_of(pool, [])).tolist() == []


def test_a_batch_holds_no_more_logits_than_it_may(monkeypatch):
    model = made("NTv2")
    pairs = [pairs_of(VARIED, *substitution(pos, 1, contig=VARIED)[1:], 24)[0] for pos in range(20, 40)]

    def scores(limit):
        monkeypatch.setattr("genotok.variants.masked_pool._MOST_LOGITS", limit * model.config.vocab_size)
        pool, sizes, forward = MaskedPool(model, "fp32", 64, "marginal"), [], model.forward
        with monkeypatch.context() as patch:
            patch.setattr(
                model, "forward", lambda ids, **kwargs: sizes.append(ids.numel()) or forward(ids, **kwargs)
            )
            return pool.scores(plan_of(pool, pairs)), sizes

    whole, cut = scores(1 << 20), scores(20)
    assert len(whole[1]) == 1
    assert cut[1] == [20] * 5
    assert cut[0] == pytest.approx(whole[0], abs=1e-5, rel=1e-5)


def test_a_batch_that_is_too_large_for_the_memory_is_cut(monkeypatch):
    model = made("masked nucleotides")
    pairs = [pairs_of(VARIED, *substitution(pos, 2, contig=VARIED)[1:], 20)[0] for pos in range(12, 40)]

    def scores(limit):
        pool, forward = MaskedPool(model, "fp32", 16, "marginal"), model.forward

        def limited(ids, **kwargs):
            if len(ids) > limit:
                raise torch.OutOfMemoryError
            return forward(ids, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(model, "forward", limited)
            return pool.scores(plan_of(pool, pairs)), pool.batch_size

    assert scores(16)[1] == 16
    assert scores(3)[1] == 2
    assert scores(3)[0] == pytest.approx(scores(16)[0], abs=1e-5, rel=1e-5)
    with pytest.raises(InputError, match="cpu: has no memory for one window of 21 tokens"):
        scores(0)


def test_byte_pairs_have_no_site(score, tmp_path):
    model = masked_model(BPE)
    model.save_pretrained(tmp_path / "model")
    record = substitution(30, 1)
    found = score({"c": CONTIG}, [record], folder=tmp_path / "model", window=24)[0]
    assert found.forward[0] == pytest.approx(ratios(model, CONTIG, *record[1:], 24)[0], rel=1e-3, abs=2e-3)
    assert "##genotok_masked=pseudo\n" in (tmp_path / "out.vcf").read_text()
    with pytest.raises(InputError, match=r"masked: the tokenizer 'bpe' cuts REF and ALT at different places"):
        score({"c": CONTIG}, [record], folder=tmp_path / "model", masked="marginal")


def test_what_cannot_be_masked(model, score, tmp_path):
    with pytest.raises(InputError, match="masked: is for models of masked tokens"):
        score({"c": CONTIG}, [substitution(30, 1)], masked="pseudo")
    with pytest.raises(InputError, match="masked: is 'x' and must be one of marginal, pseudo"):
        masked_way(made("NTv2"), "x")
    assert masked_way(model, None) is None
    assert masked_way(made("NTv2"), "pseudo") == "pseudo"
    assert "genotok_masked" not in score_text(score, tmp_path)
    overlapping = masked_model({"type": "kmer", "k": 3, "stride": 1})
    with pytest.raises(InputError, match="no likelihood where k-mers overlap"):
        masked_way(overlapping, None)


def score_text(score, folder) -> str:
    score({"c": CONTIG}, [substitution(30, 1)])
    return (folder / "out.vcf").read_text()
