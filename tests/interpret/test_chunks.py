"""Chunks along regions, and the BED file."""

import gzip
import math

import numpy as np
import pytest
import torch
from bed_files import write_bed
from hypothesis import given, settings
from hypothesis import strategies as st
from staged_model import staged_model

from genotok.errors import InputError
from genotok.interpret.chunks import RegionChunks, chunks_of_region, find_chunks


def chunks_from_one_pass(model, reference, contig):
    """Boundaries, probabilities and bits of a whole contig, read off the padded output letter by letter."""
    letters = reference.fetch(contig)
    ids = [model.tokenizer.start_id, *model.tokenizer.encode(letters)]
    with torch.no_grad():
        output = model(torch.tensor([ids]))
    begins, probability, tokens = [], [], list(range(len(ids)))
    for stage in output.boundaries:
        mask, prob = np.zeros(len(ids), bool), np.zeros(len(ids))
        inner = []
        for row, token in enumerate(tokens):
            prob[token] = stage.prob[0, row]
            if stage.mask[0, row]:
                mask[token] = True
                inner.append(token)
        begins.append(mask[1:])
        probability.append(prob[1:])
        tokens = inner
    log_p = output.logits[0].double().log_softmax(-1)
    bits = [
        -float(log_p[place, ids[place + 1]]) / math.log(2) if letter in "ACGT" else math.nan
        for place, letter in enumerate(letters)
    ]
    return begins, probability, bits


@pytest.mark.parametrize("contig", ["one", "two"])
def test_a_whole_contig_is_one_pass(model, reference, contig):
    found = find_chunks(model, reference, contig, 0, reference.contigs[contig])
    begins, probability, bits = chunks_from_one_pass(model, reference, contig)
    assert found.letters == reference.fetch(contig)
    for stage in range(2):
        assert 0.02 < begins[stage].mean() < 0.9, "the model should find some boundaries"
        assert np.array_equal(found.begins[stage], begins[stage])
        np.testing.assert_allclose(found.probability[stage], probability[stage], atol=1e-6)
    np.testing.assert_allclose(found.surprisal, bits, rtol=1e-5)


@given(block=st.integers(30, 300), batch_size=st.integers(1, 5), span=st.tuples(*[st.integers(0, 239)] * 2))
@settings(max_examples=10, deadline=None)
def test_windows_make_no_difference_where_the_context_reaches_back(model, reference, block, batch_size, span):
    start, end = min(span), max(span) + 1
    whole = find_chunks(model, reference, "one", 0, 240)
    found = find_chunks(
        model, reference, "one", start, end, context=240, window=240 + block, batch_size=batch_size
    )
    for stage in range(2):
        assert np.array_equal(found.begins[stage], whole.begins[stage][start:end])
        np.testing.assert_allclose(found.probability[stage], whole.probability[stage][start:end], atol=1e-5)
    np.testing.assert_allclose(found.surprisal, whole.surprisal[start:end], rtol=1e-4)


@given(span=st.tuples(st.integers(0, 239), st.integers(0, 239)), window=st.integers(20, 120))
@settings(max_examples=10, deadline=None)
def test_a_base_is_seen_alike_in_every_region(model, reference, span, window):
    start, end = min(span), max(span) + 1
    settings_ = {"window": window, "context": window // 3}
    whole = find_chunks(model, reference, "one", 0, 240, **settings_)
    found = find_chunks(model, reference, "one", start, end, **settings_)
    np.testing.assert_allclose(found.probability[0], whole.probability[0][start:end], atol=1e-5)
    np.testing.assert_allclose(found.surprisal, whole.surprisal[start:end], rtol=1e-4)


def test_a_block_is_read_behind_its_context(model, reference):
    """With windows of 100 and 30 bases of context, base 150 lies in the block that begins at 140."""
    found = find_chunks(model, reference, "one", 150, 160, window=100, context=30)
    ids = [model.tokenizer.start_id, *model.tokenizer.encode(reference.fetch("one", 110, 160))]
    with torch.no_grad():
        output = model(torch.tensor([ids]))
    np.testing.assert_allclose(found.probability[0], output.boundaries[0].prob[0, 41:], atol=1e-6)


@given(span=st.tuples(st.integers(0, 239), st.integers(0, 239)))
@settings(max_examples=10, deadline=None)
def test_chunks_tile_the_region_and_stages_nest(model, reference, span):
    start, end = min(span), max(span) + 1
    found = find_chunks(model, reference, "one", start, end, window=90)
    outer, inner = found.chunks(0), found.chunks(1)
    for chunks in (outer, inner):
        assert chunks[0, 0] == start
        assert chunks[-1, 1] == end
        assert (chunks[:, 0] < chunks[:, 1]).all()
        assert np.array_equal(chunks[1:, 0], chunks[:-1, 1])
    assert set(inner[:, 0]) <= set(outer[:, 0])
    assert (found.probability[1][~found.begins[0]] == 0).all()
    assert np.array_equal(found.begins[0], found.probability[0] > 0.5)


def test_ambiguous_letters_have_no_surprisal(model, reference):
    found = find_chunks(model, reference, "two", 2, 12)
    assert found.letters == "GTNNNRACGT"
    assert np.isnan(found.surprisal).tolist() == [letter in "NR" for letter in found.letters]


def test_without_a_start_token_the_first_base_has_no_surprisal(reference):
    model = staged_model(["m1", ["T1"], "m1"], tokenizer="byte")
    found = find_chunks(model, reference, "one", 0, 30)
    assert np.isnan(found.surprisal).tolist() == [True] + [False] * 29
    assert found.begins[0][0]
    within = find_chunks(model, reference, "one", 5, 30)
    np.testing.assert_allclose(within.surprisal, found.surprisal[5:], rtol=1e-5)


def test_a_model_without_stages_has_surprisal_alone(reference, tmp_path):
    found = find_chunks(staged_model(["m2"]), reference, "one", 10, 60)
    assert found.begins == found.probability == []
    assert found.surprisal.shape == (50,)
    with pytest.raises(InputError, match="has no chunking stage"):
        write_bed(found, tmp_path / "x.bed")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("contig", "span", "options", "sentence"),
    [
        ("one", (230, 241), {}, "one:231-241 is no region of it; one has 240 bases"),
        ("one", (10, 10), {}, "one:11-10 is no region"),
        ("one", (-1, 10), {}, "is no region"),
        ("three", (0, 10), {}, "three has 0 bases"),
        (
            "one",
            (0, 10),
            {"window": 64, "context": 64},
            "context: 64 must be at least 0 and less than the window",
        ),
        ("one", (0, 10), {"window": 64, "context": -1}, "context: -1 must be"),
    ],
)
def test_bad_spans(model, reference, contig, span, options, sentence):
    with pytest.raises(InputError) as caught:
        find_chunks(model, reference, contig, *span, **options)
    assert sentence in str(caught.value)


def test_from_files(model, reference, tmp_path):
    model.save_pretrained(tmp_path / "model")
    name = "HLA-DRB1*16:02:01"
    found = chunks_of_region(
        tmp_path / "model", reference.path, f"{name}:11-1,50".replace(",", ""), device="cpu"
    )
    direct = find_chunks(model, reference, name, 10, 150)
    assert (found.contig, found.start, found.end) == (name, 10, 150)
    np.testing.assert_allclose(found.surprisal, direct.surprisal, rtol=1e-5)


@pytest.fixture
def found():
    """Two stages over ten bases from position 100 on; the first chunk began before the region."""
    begins = [np.array([0, 0, 1, 0, 1, 1, 0, 0, 0, 0], bool), np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, 0], bool)]
    probability = [np.full(10, 0.25, np.float32), np.zeros(10, np.float32)]
    probability[0][[2, 4, 5]] = [0.75, 1.0, 0.5004]
    probability[1][4] = 0.9
    return RegionChunks("c*:1", 100, 110, "ACGTNACGTA", begins, probability, np.ones(10))


def test_bed(found, tmp_path):
    write_bed(found, tmp_path / "x.bed")
    expected = [
        ("c*:1", 100, 102, "s0:AC", 250, ".", 100, 102, "0,114,178"),
        ("c*:1", 100, 104, "s1:ACGT", 0, ".", 100, 104, "213,94,0"),
        ("c*:1", 102, 104, "s0:GT", 750, ".", 102, 104, "86,180,233"),
        ("c*:1", 104, 105, "s0:N", 1000, ".", 104, 105, "0,114,178"),
        ("c*:1", 104, 110, "s1:NACGTA", 900, ".", 104, 110, "230,159,0"),
        ("c*:1", 105, 110, "s0:ACGTA", 500, ".", 105, 110, "86,180,233"),
    ]
    text = (tmp_path / "x.bed").read_text()
    assert text == "".join("\t".join(map(str, line)) + "\n" for line in expected)


def test_bed_with_track_line_and_compressed(found, tmp_path):
    write_bed(found, tmp_path / "x.bed", track='chunks of "m"')
    write_bed(found, tmp_path / "x.bed.gz", track='chunks of "m"')
    plain = (tmp_path / "x.bed").read_bytes()
    assert plain.startswith(b'track name="chunks of \'m\'" itemRgb="On"\nc*:1\t100\t')
    assert gzip.decompress((tmp_path / "x.bed.gz").read_bytes()) == plain
    first = (tmp_path / "x.bed.gz").read_bytes()
    write_bed(found, tmp_path / "x.bed.gz", track='chunks of "m"')
    assert (tmp_path / "x.bed.gz").read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("length", "name"), [(200, "A" * 200), (201, "A" * 200 + "...")])
def test_long_names_in_bed_are_cut(tmp_path, length, name):
    begins, probability = [np.zeros(length, bool)], [np.zeros(length, np.float32)]
    write_bed(
        RegionChunks("c", 0, length, "A" * length, begins, probability, np.ones(length)), tmp_path / "x.bed"
    )
    assert (tmp_path / "x.bed").read_text().split("\t")[3] == f"s0:{name}"


def test_bed_of_a_model_is_sorted(model, reference, tmp_path):
    found = find_chunks(model, reference, "one", 50, 230, window=64)
    write_bed(found, tmp_path / "x.bed")
    rows = [line.split("\t") for line in (tmp_path / "x.bed").read_text().splitlines()]
    spans = [(int(row[1]), int(row[2])) for row in rows]
    assert spans == sorted(spans)
    for row, (start, end) in zip(rows, spans, strict=True):
        assert row[3].split(":")[1] == reference.fetch("one", start, end)
        assert 0 <= int(row[4]) <= 1000
