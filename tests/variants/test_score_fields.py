"""The optional fields: distance of embeddings, and how far the chunks move."""

import functools
import gzip
import math

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import torch
from haplotype_oracle import edited, leftmost_difference, ratios, reverse_complement
from hypothesis import given, settings
from hypothesis import strategies as st
from test_token_scores import BPE, CONTIG, MODELS, RECORDS, masked_model
from variant_files import plan_of, scoring_model, write_fasta, write_vcf

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.variants.field_pool import FieldPool, boundary_shift, distances, letter_marks
from genotok.variants.fields import chosen_fields, info_text
from genotok.variants.masked_pool import MaskedPool
from genotok.variants.pieces import gather_vcfs, split_vcf
from genotok.variants.score import score_vcf
from genotok.variants.scoring_pool import scoring_pool
from genotok.variants.table import gather_tables
from genotok.variants.windows import WindowPair

BOTH = ("embedding", "boundaries")
NAMES = {"l2": "GENOTOK_L2", "cosine": "GENOTOK_COSINE", "boundary_shift": "GENOTOK_BOUNDARY_SHIFT"}


def masked_hnet() -> GenomicLM:
    """Chunks by a router that looks both ways, over pairs of letters."""
    torch.manual_seed(5)
    attention = {"heads": 2, "rotary_dim": 8, "window": -1}
    values = {"layout": ["T1", ["T1"], "T1"], "d_model": [32, 32], "d_intermediate": [32, 32]}
    tokenizer = {"type": "kmer", "k": 2}
    model = GenomicLM(ModelConfig(**values, attention=attention, tokenizer=tokenizer, tasks=["mlm"])).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "chunker" not in name:
                weight.mul_(4)
    return model


def two_stages() -> GenomicLM:
    """Of which the outer one alone decides about the shift."""
    torch.manual_seed(6)
    attention = {"heads": 2, "rotary_dim": 8, "window": -1}
    values = {"layout": ["T1", ["T1", ["T1"], "T1"], "T1"], "d_model": [16] * 3, "d_intermediate": [16] * 3}
    return GenomicLM(ModelConfig(**values, attention=attention, tokenizer="nucleotide")).eval()


CHUNKED = {
    "two stages": two_stages,
    "nucleotides": lambda: scoring_model("nucleotide"),
    "bytes": lambda: scoring_model("byte"),
    "codons": lambda: scoring_model("codon"),
    "overlapping": lambda: scoring_model({"type": "kmer", "k": 3, "stride": 1}),
    "byte pairs": lambda: scoring_model(BPE),
    "masked pairs in chunks": masked_hnet,
}
made = functools.cache(lambda kind: {**CHUNKED, **MODELS}[kind]())


def read_fields(path) -> list[dict[str, tuple]]:
    with pysam.VariantFile(str(path)) as vcf:
        return [{column: record.info.get(name) for column, name in NAMES.items()} for record in vcf]


def embedding_and_begins(model, window: str) -> tuple[list[float], list[bool]]:
    """One window alone: the mean state of its letters in float64, and whether each letter begins a chunk."""
    tokenizer = model.tokenizer
    ids = tokenizer.encode_letters(window.encode())
    new = [int(count) for count in tokenizer.letters_added(ids)]
    in_front = [] if tokenizer.start_id is None else [tokenizer.start_id]
    with torch.no_grad():
        output = model(torch.tensor([in_front + ids.tolist()]), output_hidden_states=True)
    states = output.hidden_states[-1][0, len(in_front) :].double()
    total = torch.zeros(states.shape[1], dtype=torch.float64)
    begins = []
    for i, count in enumerate(new):
        for letter in range(count):
            total += states[i]
            begins.append(
                letter == 0 and bool(output.boundaries and output.boundaries[0].mask[0, len(in_front) + i])
            )
    assert len(begins) == len(window)
    return (total / len(window)).tolist(), begins


def expected(model, contig: str, haplotype: str, window: int) -> dict[str, float]:
    """The fields of the forward strand of an edited contig."""
    start, ref, alt = leftmost_difference(contig, haplotype)
    left = max(0, start - window // 2)
    windows = contig[left : left + window], haplotype[left : left + window]
    (a, a_begins), (b, b_begins) = (embedding_and_begins(model, letters) for letters in windows)
    dot, norms = sum(x * y for x, y in zip(a, b, strict=True)), math.hypot(*a) * math.hypot(*b)
    before = start - left
    aligned = list(zip(a_begins[:before], b_begins[:before], strict=True))
    aligned += zip(a_begins[before + len(ref) :], b_begins[before + len(alt) :], strict=False)
    moved = sum(x != y for x, y in aligned)
    return {
        "l2": math.dist(a, b),
        "cosine": 1 - dot / norms,
        "boundary_shift": moved / len(aligned) if aligned else 0.0,
    }


def expected_of_strands(model, contig, pos, ref, alt, window) -> dict[str, float]:
    haplotype = edited(contig, pos, ref, alt)
    both = [
        expected(model, contig, haplotype, window),
        expected(model, reverse_complement(contig), reverse_complement(haplotype), window),
    ]
    return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}


@pytest.mark.parametrize("kind", CHUNKED)
def test_fields_are_those_of_the_definition(kind, score, tmp_path):
    model = made(kind)
    model.save_pretrained(tmp_path / "model")
    score({"c": CONTIG}, RECORDS, folder=tmp_path / "model", window=24, fields=BOTH, batch_size=3)
    found = read_fields(tmp_path / "out.vcf")
    for fields, row, (_, pos, ref, alt) in zip(found, score.table, RECORDS, strict=True):
        wanted = expected_of_strands(model, CONTIG, pos, ref, alt, 24)
        for name in wanted:
            assert fields[name][0] == pytest.approx(wanted[name], rel=2e-3, abs=2e-5)
            assert row[name] == fields[name][0]
    assert max(fields["l2"][0] for fields in found) > 0.05
    assert max(fields["boundary_shift"][0] for fields in found) > 0


@pytest.mark.parametrize("kind", ["codons", "NTv2", "masked pairs in chunks"])
def test_ratios_are_those_without_fields(kind, score, tmp_path):
    made(kind).save_pretrained(tmp_path / "model")
    options = {"folder": tmp_path / "model", "window": 24}
    without = score({"c": CONTIG}, RECORDS, **options)
    within = score({"c": CONTIG}, RECORDS, fields=("embedding",), **options)
    for one, other in zip(without, within, strict=True):
        assert one.forward == pytest.approx(other.forward, rel=1e-4, abs=1e-4)
        assert one.reverse == pytest.approx(other.reverse, rel=1e-4, abs=1e-4)


def test_a_causal_model_is_run_once_for_everything(monkeypatch):
    model = made("nucleotides")
    pool = FieldPool(model, "fp32", 8, chosen_fields(BOTH))
    windows = [b"GATTACAGATTACA", b"GATTACACATTACA", b"GATTACATTACA"]
    pairs = [WindowPair(windows[0], windows[1], 7, (8, 8)), WindowPair(windows[0], windows[2], 7, (9, 7))]
    plan = plan_of(pool, pairs)
    assert len(plan.windows.windows.lengths) == 3
    run, forward = [], model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, **kwargs: run.append(len(ids)) or forward(ids, **kwargs)
    )
    assert pool.scores(plan).shape == (2, 4)
    assert run == [3]
    assert pool.scores(plan_of(pool, [])).shape == (0, 4)


@st.composite
def edits(draw):
    contig = draw(st.text("ACGT", min_size=14, max_size=40))
    start = draw(st.integers(0, 10))
    ref = contig[start : start + draw(st.integers(1, 4))]
    return contig, start + 1, ref, draw(st.text("ACGT", min_size=1, max_size=4))


def pairs_of(contig: str, pos: int, ref: str, alt: str) -> tuple[WindowPair, WindowPair]:
    both = contig[:14].encode(), edited(contig, pos, ref, alt)[:14].encode()
    behind = (pos - 1 + len(ref), pos - 1 + len(alt))
    return WindowPair(*both, pos - 1, behind), WindowPair(*both[::-1], pos - 1, behind[::-1])


@pytest.mark.parametrize("kind", ["nucleotides", "masked pairs in chunks"])
@given(st.lists(edits(), min_size=1, max_size=4))
@settings(max_examples=15, derandomize=True, deadline=None)
def test_fields_are_symmetric_and_ratios_antisymmetric(kind, changes):
    model = made(kind)
    masked = MaskedPool(model, "fp32", 4, "marginal") if "mlm" in model.config.tasks else None
    pool = FieldPool(model, "fp32", 3, chosen_fields(BOTH), masked)
    pairs = [pairs_of(*change)[i] for i in (0, 1) for change in changes]
    scores = pool.scores(plan_of(pool, pairs))
    there, back = range(len(changes)), range(len(changes), len(pairs))
    assert np.array_equal(scores[there, 0], -scores[back, 0])
    assert np.array_equal(scores[there, 1:], scores[back, 1:])
    assert (scores[:, 1:] >= 0).all()
    assert (scores[:, 2] <= 2).all()
    assert (scores[:, 3] <= 1).all()
    for change, place in zip(changes, there, strict=True):
        ref, alt = pairs_of(*change)[0][:2]
        assert (ref == alt) == (scores[place, 1] == 0)


@pytest.mark.parametrize("kind", ["nucleotides", "masked pairs in chunks"])
def test_fields_do_not_depend_on_batch_size_and_neighbours(kind, score, tmp_path):
    made(kind).save_pretrained(tmp_path / "model")
    options = {"folder": tmp_path / "model", "window": 24, "fields": BOTH}
    score({"c": CONTIG}, RECORDS, batch_size=1, **options)
    alone = score.table
    for records in (RECORDS, RECORDS[::-1]):
        for size in (2, 64):
            score({"c": CONTIG}, records, batch_size=size, **options)
            for one, other in zip(alone, score.table[:: 1 if records is RECORDS else -1], strict=True):
                for name in NAMES:
                    assert one[name] == pytest.approx(other[name], abs=1e-5, rel=1e-5)


def test_a_small_angle_is_not_lost_in_rounding():
    ref, alt = np.array([[3.0, 4.0, 0.0]]), np.array([[3.0, 4.0, 5e-9]])
    l2, cosine = distances(ref, alt)
    assert l2[0] == 5e-9
    assert cosine[0] == pytest.approx(0.5e-18, rel=1e-6)
    assert distances(np.array([[1.0, 0.0]]), np.array([[0.0, 7.0]]))[1][0] == pytest.approx(1.0)
    assert distances(np.array([[1.0, 0.0]]), np.array([[-3.0, 0.0]]))[1][0] == pytest.approx(2.0)


def test_marks_of_letters_by_hand():
    letters = torch.tensor([[0, 1, 2, 1], [0, 2, 0, 0]])  # a start token in front, padding behind
    begins = torch.tensor([[True, False, True, False], [True, True, True, True]])
    marks = [[False, True, False, False], [True, False, False, False]]
    assert letter_marks(begins, letters).tolist() == marks


def test_boundary_shift_by_hand():
    def marks(text):
        return np.array([letter == "|" for letter in text])

    pair = (3, 4, 6, 8, 8)  # one letter becomes three
    #                        front|variant|behind: 3 and 2 letters behind are compared
    assert boundary_shift(pair, marks("|..|.|.|"), marks("|..|||.|")) == 0
    assert boundary_shift(pair, marks("|.|..|.|"), marks("|..|||.|")) == 1 / 5
    assert boundary_shift(pair, marks("|.|.|..|"), marks("|..|||.|")) == 3 / 5
    assert boundary_shift((0, 1, 1, 1, 1), marks("|"), marks(".")) == 0
    assert boundary_shift((1, 2, 2, 2, 2), marks("|."), marks(".|")) == 1


def test_only_what_is_asked_for_is_written(score, tmp_path):
    score({"c": CONTIG}, [*RECORDS, ("c", 3, CONTIG[2], "<DEL>")], fields=("boundaries",), strands="forward")
    text = (tmp_path / "out.vcf").read_text()
    assert "GENOTOK_L2" not in text
    assert "##INFO=<ID=GENOTOK_BOUNDARY_SHIFT,Number=A,Type=Float," in text
    assert text.splitlines()[-1].endswith("GENOTOK_STATUS=symbolic;GENOTOK_BOUNDARY_SHIFT=.")
    assert list(score.table[0]) == [
        "chrom",
        "pos",
        "ref",
        "alt",
        "llr",
        "llr_fwd",
        "llr_rc",
        "status",
        "boundary_shift",
    ]
    assert score.table[-1]["boundary_shift"] is None
    score({"c": CONTIG}, RECORDS)
    assert list(score.table[0]) == ["chrom", "pos", "ref", "alt", "llr", "llr_fwd", "llr_rc", "status"]
    assert "BOUNDARY" not in (tmp_path / "out.vcf").read_text()


def test_fields_of_an_earlier_scoring_go(score, tmp_path, model_folder):
    score({"c": CONTIG}, RECORDS, fields=BOTH)
    again = tmp_path / "again.vcf"
    fasta = tmp_path / "genome.fa"
    score_vcf(str(tmp_path / "out.vcf"), fasta, model_folder, str(again), window=32, threads=1)
    score({"c": CONTIG}, RECORDS)
    assert again.read_bytes() == (tmp_path / "out.vcf").read_bytes()


def test_the_text_of_a_record():
    fields = chosen_fields(["embedding"])
    values = [(-1.25, -1.5, -1.0, "ok", 0.123456789, 1e-13), (None, None, None, "symbolic", None, None)]
    assert info_text(fields, values) == (
        b"GENOTOK_LLR=-1.25,.;GENOTOK_LLR_FWD=-1.5,.;GENOTOK_LLR_RC=-1,.;GENOTOK_STATUS=ok,symbolic;"
        b"GENOTOK_L2=0.123457,.;GENOTOK_COSINE=1e-13,."
    )
    assert info_text(fields, []) == b""


def test_bad_choices(score, tmp_path):
    with pytest.raises(InputError, match="fields: 'chunks' is unknown; known are embedding, boundaries"):
        score({"c": CONTIG}, RECORDS, fields=("embedding", "chunks"))
    masked_model("nucleotide").save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="fields: this model makes no chunks"):
        score({"c": CONTIG}, RECORDS, folder=tmp_path / "model", fields=BOTH)
    assert not (tmp_path / "out.vcf").exists()


def test_gathered_fields_are_those_of_the_whole(tmp_path, model_folder):
    fasta = write_fasta(tmp_path / "genome.fa", {"c": CONTIG})
    vcf = write_vcf(tmp_path / "in.vcf", RECORDS)
    options = {"window": 16, "threads": 1, "batch_size": 1, "fields": BOTH}
    whole = str(tmp_path / "whole.vcf.gz")
    score_vcf(str(vcf), fasta, model_folder, whole, parquet=tmp_path / "whole.parquet", **options)
    pieces = [tmp_path / f"{i}.vcf.gz" for i in range(2)]
    split_vcf(vcf, pieces)
    scored = [tmp_path / f"{i}.scored.vcf.gz" for i in range(2)]
    tables = [tmp_path / f"{i}.parquet" for i in range(2)]
    for piece, output, table in zip(pieces, scored, tables, strict=True):
        score_vcf(str(piece), fasta, model_folder, str(output), parquet=table, **options)
    gather_vcfs(scored, tmp_path / "gathered.vcf.gz")
    gather_tables(tables, tmp_path / "gathered.parquet")
    for name in ("vcf.gz", "parquet"):
        assert (tmp_path / f"gathered.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
    assert "boundary_shift" in pq.read_schema(tmp_path / "gathered.parquet").names
    options["fields"] = ()
    score_vcf(str(pieces[1]), fasta, model_folder, str(scored[1]), parquet=tables[1], **options)
    with pytest.raises(InputError, match=r"was not scored as .*GENOTOK_"):
        gather_vcfs(scored, tmp_path / "other.vcf.gz")
    for order in (tables, tables[::-1]):
        with pytest.raises(InputError, match=r"\d.parquet: does not have the fields of the first table"):
            gather_tables(order, tmp_path / "other.parquet")
    assert not (tmp_path / "other.parquet").exists()


def test_the_tiny_published_model_scores_a_file_with_fields(score, tmp_path):
    model = made("NTv2")
    model.save_pretrained(tmp_path / "model")
    found = score({"c": CONTIG}, RECORDS, folder=tmp_path / "model", window=24, fields=("embedding",))
    for record, row, (_, pos, ref, alt) in zip(found, score.table, RECORDS, strict=True):
        wanted = expected_of_strands(model, CONTIG, pos, ref, alt, 24)
        assert row["l2"] == pytest.approx(wanted["l2"], rel=2e-3)
        assert row["cosine"] == pytest.approx(wanted["cosine"], rel=1e-2, abs=1e-6)
        if len(ref) != len(alt):
            assert record.forward[0] == pytest.approx(ratios(model, CONTIG, pos, ref, alt, 24)[0], abs=2e-3)


def test_indices_are_written_as_ever(score, tmp_path, model_folder):
    fasta, vcf = write_fasta(tmp_path / "g.fa", {"c": CONTIG}), write_vcf(tmp_path / "i.vcf", RECORDS)
    output = tmp_path / "o.vcf.gz"
    score_vcf(str(vcf), fasta, model_folder, str(output), window=16, threads=1, fields=BOTH)
    with pysam.VariantFile(str(output)) as scored:
        (record,) = scored.fetch("c", 40, 41)
        assert len(record.info["GENOTOK_COSINE"]) == 1
    assert gzip.decompress(output.read_bytes()).count(b"GENOTOK_L2=") == len(RECORDS)


def test_the_size_of_batches_can_be_limited(monkeypatch):
    model = made("masked pairs in chunks")
    pool = scoring_pool(model, "fp32", 64, fields=chosen_fields(["embedding"]))
    pool.batch_size = 2
    pairs = [
        WindowPair(b"GATTACAGAT"[: 10 - i] + b"C", b"GATTACAGAT"[: 10 - i] + b"G", 10 - i, (11 - i,) * 2)
        for i in range(9)
    ]
    sizes, forward = [], model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, **kwargs: sizes.append(len(ids)) or forward(ids, **kwargs)
    )
    assert pool.scores(plan_of(pool, pairs)).shape == (9, 3)
    assert max(sizes) == pool.batch_size == 2


def test_workers_hand_on_all_values(tmp_path, model_folder):
    fasta, vcf = write_fasta(tmp_path / "g.fa", {"c": CONTIG}), write_vcf(tmp_path / "i.vcf", RECORDS)
    written = []
    for workers in (0, 1):
        output, table = tmp_path / f"{workers}.vcf", tmp_path / f"{workers}.parquet"
        options = {"window": 16, "threads": 1, "fields": BOTH, "workers": workers, "parquet": table}
        score_vcf(str(vcf), fasta, model_folder, str(output), **options)
        written.append((output.read_bytes(), table.read_bytes()))
    assert written[0] == written[1]
