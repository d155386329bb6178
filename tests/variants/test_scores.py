"""The numbers."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from haplotype_oracle import edited, ratios, reverse_complement
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import plan_of, read_scores, write_fasta, write_vcf

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.variants.pool import PairPool, default_batch_size
from genotok.variants.prefix_pool import make_pool
from genotok.variants.score import score_vcf
from genotok.variants.windows import WindowPair

CLOSE = {"rel": 1e-4, "abs": 2e-4}
LETTERS = "".join("ACGT"[(7 * i * i + i // 3) % 4] for i in range(200))


@st.composite
def sites(draw):
    """A contig, and some (pos, ref, alts) on it."""
    contig = draw(st.text("ACGT", min_size=1, max_size=25)) + draw(st.text("ACN", max_size=25))
    records = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(contig) - 1))
        ref = contig[start : start + draw(st.integers(1, 4))]
        if "N" not in ref:
            alts = draw(st.lists(st.text("ACGT", min_size=1, max_size=5), min_size=1, max_size=3))
            records.append((start + 1, ref, alts))
    return contig, records


@given(sites(), st.integers(10, 40))
@settings(max_examples=25, derandomize=True, deadline=None)
def test_scores_are_those_of_the_definition(model, model_folder, variants, window):
    contig, records = variants
    with tempfile.TemporaryDirectory() as folder:
        fasta = write_fasta(Path(folder) / "g.fa", {"c": contig})
        lines = [("c", pos, ref, ",".join(alts)) for pos, ref, alts in records]
        vcf = write_vcf(Path(folder) / "in.vcf", lines)
        output = Path(folder) / "out.vcf"
        score_vcf(str(vcf), fasta, model_folder, str(output), window=window, threads=1)
        found = read_scores(output)
    assert len(found) == len(records)
    for (pos, ref, alts), record in zip(records, found, strict=True):
        assert record.status == ("ok",) * len(alts)
        for i, alt in enumerate(alts):
            forward, reverse = ratios(model, contig, pos, ref, alt, window)
            assert record.forward[i] == pytest.approx(forward, **CLOSE)
            assert record.reverse[i] == pytest.approx(reverse, **CLOSE)
            assert record.llr[i] == pytest.approx((forward + reverse) / 2, **CLOSE)


def test_the_scores_of_the_test_model_are_not_small(score):
    records = [
        ("c", pos, LETTERS[pos - 1], "ACGT"["CGTA".index(LETTERS[pos - 1])]) for pos in range(20, 180, 8)
    ]
    found = score({"c": LETTERS}, records)
    assert np.std([record.forward[0] for record in found]) > 1
    assert np.std([record.forward[0] - record.reverse[0] for record in found]) > 1


def test_all_writings_of_an_indel_have_one_score(score):
    contig = LETTERS[:80] + "CACACACACA" + LETTERS[80:]
    start = contig.index("CACACACACA") + 1
    deletions = [
        ("c", start + i, contig[start + i - 1 : start + i + 2], contig[start + i - 1]) for i in range(8)
    ]
    whole = [
        (
            "c",
            start - 3,
            contig[start - 4 : start + 11],
            contig[start - 4 : start - 1] + contig[start + 1 : start + 11],
        )
    ]
    insertions = [
        ("c", start + i, contig[start + i - 1], contig[start + i - 1] + contig[start + i : start + i + 2])
        for i in range(8)
    ]
    found = score({"c": contig}, deletions + whole + insertions)
    for records in (found[:9], found[9:]):
        assert len({(record.llr, record.forward, record.reverse) for record in records}) == 1
    assert found[0].llr != found[9].llr


def test_a_complex_allele_with_common_ends_scores_as_without_them(score):
    first, second = score(
        {"c": LETTERS},
        [
            ("c", 50, LETTERS[49:60], LETTERS[49:53] + "TTT" + LETTERS[55:60]),
            ("c", 54, LETTERS[53:55], "TTT"),
        ],
    )
    assert first.llr == second.llr
    assert first.status == ("ok",)


@pytest.mark.parametrize(("ref", "alt"), [("A", "G"), ("A", "ATTC"), ("ACGA", "A"), ("AC", "GTT")])
def test_swapping_ref_and_alt_changes_the_sign(score, ref, alt):
    contig = LETTERS[:100] + ref + LETTERS[100:]
    there = score({"c": contig}, [("c", 101, ref, alt)])[0]
    back = score({"c": edited(contig, 101, ref, alt)}, [("c", 101, alt, ref)])[0]
    assert there.forward == pytest.approx([-x for x in back.forward], **CLOSE)
    assert there.reverse == pytest.approx([-x for x in back.reverse], **CLOSE)
    assert abs(there.llr[0]) > 0.01


def test_the_reverse_score_is_the_forward_score_of_the_reverse_complemented_contig(score):
    records = [
        ("c", 90, LETTERS[89], "T" if LETTERS[89] != "T" else "A"),
        ("c", 30, LETTERS[29:34], LETTERS[29]),
    ]
    records += [("c", 3, LETTERS[2], LETTERS[2] + "GGA"), ("c", 198, LETTERS[197:200], LETTERS[197])]
    mirrored = [
        ("c", len(LETTERS) - (pos - 1) - len(ref) + 1, reverse_complement(ref), reverse_complement(alt))
        for _, pos, ref, alt in records
    ]
    found = score({"c": LETTERS}, records)
    other = score({"c": reverse_complement(LETTERS)}, mirrored)
    for here, there in zip(found, other, strict=True):
        assert here.reverse == pytest.approx(there.forward, abs=1e-5, rel=1e-5)
        assert here.forward == pytest.approx(there.reverse, abs=1e-5, rel=1e-5)


def test_an_alt_that_is_ref_scores_exactly_zero(score):
    record = score({"c": LETTERS}, [("c", 60, LETTERS[59:62], LETTERS[59:62].lower())])[0]
    assert record.llr == record.forward == record.reverse == (0.0,)


def test_a_contig_shorter_than_the_window_is_scored_whole(model, score):
    for contig, pos, ref, alt in [("ACGTT", 2, "CG", "C"), ("A", 1, "A", "T"), ("AC", 2, "C", "CTTT")]:
        record = score({"c": contig}, [("c", pos, ref, alt)], window=512)[0]
        assert (*record.forward, *record.reverse) == pytest.approx(
            ratios(model, contig, pos, ref, alt, 512), **CLOSE
        )


def test_ambiguous_letters_beside_a_variant_do_not_count(model, score):
    contig = LETTERS[:95] + "NNNR" + LETTERS[99:]
    record = score({"c": contig}, [("c", 94, LETTERS[93], "G")])[0]
    assert record.forward[0] == pytest.approx(ratios(model, contig, 94, LETTERS[93], "G", 32)[0], **CLOSE)


def test_case_does_not_matter_and_u_is_t(score):
    upper = score({"c": LETTERS}, [("c", 60, LETTERS[59:62], "T")])[0]
    lower = score({"c": LETTERS.lower().replace("t", "u")}, [("c", 60, LETTERS[59:62].lower(), "u")])[0]
    assert upper.llr == lower.llr


def test_the_forward_strand_alone(score):
    records = [("c", 60, LETTERS[59], LETTERS[59] + "GA"), ("c", 70, LETTERS[69], "N")]
    both = score({"c": LETTERS}, records)
    forward = score({"c": LETTERS}, records, strands="forward")
    assert forward[0].llr == forward[0].forward == pytest.approx(both[0].forward, abs=1e-5)
    assert forward[0].reverse == forward[1].reverse == (None,)
    assert [row["llr_rc"] for row in score.table] == [None, None]


def test_a_model_without_a_start_token_does_not_predict_the_first_letter(
    byte_model, byte_model_folder, score
):
    records = [
        ("c", 1, LETTERS[0], "ACGT".replace(LETTERS[0], "")[0]),
        ("c", 70, LETTERS[69:72], LETTERS[69]),
    ]
    found = score({"c": LETTERS}, records, folder=byte_model_folder)
    for (_, pos, ref, alt), record in zip(records, found, strict=True):
        expected = ratios(byte_model, LETTERS, pos, ref, alt, 32)
        assert (*record.forward, *record.reverse) == pytest.approx(expected, **CLOSE)


def test_scores_do_not_depend_on_batch_size_and_neighbours(score):
    records = [
        ("c", pos, LETTERS[pos - 1], ",".join(x for x in ("A", "CC", "GTA", "T") if x != LETTERS[pos - 1]))
        for pos in range(1, 200, 9)
    ]
    alone = score({"c": LETTERS}, records, batch_size=1)
    for size in (3, 64):
        together = score({"c": LETTERS}, records, batch_size=size)
        for one, other in zip(alone, together, strict=True):
            assert one.forward == pytest.approx(other.forward, abs=1e-5, rel=1e-5)
            assert one.reverse == pytest.approx(other.reverse, abs=1e-5, rel=1e-5)


def test_equal_windows_are_computed_once(model):
    pool = PairPool(model, "fp32", 2)
    pairs = [(b"ACGT", b"ACGTA"), (b"ACGTA", b"ACGT"), (b"ACGT", b"ACGTR"), (b"ACGTN", b"ACGTA")]
    plan = plan_of(pool, [WindowPair(ref, alt, 4) for ref, alt in pairs])
    assert len(plan.windows.lengths) == 3  # R is read as N
    scores = pool.scores(plan)
    assert (scores.dtype, scores.shape) == (np.float64, (4,))
    assert scores[0] == -scores[1] != 0
    assert scores[2] == pytest.approx(0, abs=1e-5)  # an ambiguous letter does not count
    assert scores[3] == pytest.approx(scores[0], abs=1e-5)
    alone = pool.scores(plan_of(pool, [WindowPair(b"ACGT", b"ACGTA", 4)]))
    assert alone[0] == pytest.approx(scores[0], abs=1e-5)


def test_a_batch_that_is_too_large_for_the_memory_is_cut(model, monkeypatch):
    windows = [LETTERS[i : i + 20 + i % 3].encode() for i in range(11)]

    def sums(limit):
        pool = PairPool(model, "fp32", 11)
        run, sizes = pool._sums, []

        def limited(batch):
            if len(batch.lengths) > limit:
                raise torch.OutOfMemoryError
            sizes.append(len(batch.lengths))
            return run(batch)

        monkeypatch.setattr(pool, "_sums", limited)
        others = windows[1:] + windows[:1]
        pairs = [WindowPair(ref, alt, 0) for ref, alt in zip(windows, others, strict=True)]
        return pool.scores(plan_of(pool, pairs)), sizes, pool.batch_size

    whole, cut = sums(11), sums(3)
    assert whole[1:] == ([11], 11)
    assert cut[1:] == ([2, 3, 3, 3], 3)
    assert cut[0] == pytest.approx(whole[0], abs=1e-5, rel=1e-5)
    with pytest.raises(InputError, match="cpu: has no memory for one window of 23 tokens"):
        sums(0)


def test_bf16_has_to_be_asked_for(score, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "genotok.variants.scoring_pool.make_pool",
        lambda model, precision, *rest: asked.append(precision) or make_pool(model, precision, *rest),
    )
    record = ("c", 60, LETTERS[59], LETTERS[59] + "GA")
    scores = [score({"c": LETTERS}, [record], precision=name)[0].llr for name in ("auto", "fp32", "bf16")]
    assert asked == ["fp32", "fp32", "bf16"]
    assert scores[0] == scores[1] != scores[2]


def test_a_batch_shrinks_as_windows_grow():
    sizes = [default_batch_size(torch.device("cpu"), window) for window in (2, 512, 8192, 1 << 20)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_variants_across_portions_and_blocks(score, monkeypatch):
    records = [
        ("c", pos, LETTERS[pos - 1], "ACGT".replace(LETTERS[pos - 1], "")[1]) for pos in range(5, 195, 5)
    ]
    whole = score({"c": LETTERS}, records)
    monkeypatch.setattr("genotok.variants.letters.BLOCK", 16)
    for name, value in (("BLOCK_BATCHES", 1), ("BLOCK_BYTES", 10)):
        monkeypatch.setattr(f"genotok.variants.score.{name}", value)
        cut = score({"c": LETTERS}, records, batch_size=5)
        for one, other in zip(whole, cut, strict=True):
            assert one.place == other.place
            assert one.llr == pytest.approx(other.llr, abs=1e-5, rel=1e-5)


def test_a_model_that_gives_no_number_is_an_error(score, model, tmp_path):
    broken = GenomicLM(model.config)
    broken.load_state_dict(model.state_dict())
    with torch.no_grad():
        broken.head.weight[0, 0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(Exception, match=r"c:60: the model's likelihood there is no number"):
        score({"c": LETTERS}, [("c", 60, LETTERS[59], LETTERS[59] + "A")], folder=tmp_path / "broken")
    assert not (tmp_path / "out.vcf").exists()
