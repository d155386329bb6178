"""Pooled states against the states of each sequence alone, and the Parquet file."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from labelled_files import ISOTROPIC, MODEL, random_letters, save_model

from genotok.cli import app
from genotok.errors import InputError
from genotok.evaluation import embeddings
from genotok.evaluation.embeddings import Embedder, embed_file
from genotok.models import GenomicLM, ModelConfig

PAIRS = str.maketrans("ACGTN", "TGCAN")
MODELS = {
    "chunks": MODEL,
    "isotropic": ISOTROPIC,
    "masked": ISOTROPIC | {"tasks": ["mlm"]},
    "3-mers": ISOTROPIC | {"tokenizer": {"type": "kmer", "k": 3, "stride": 3}, "tasks": ["mlm"]},
    "overlapping": ISOTROPIC | {"tokenizer": {"type": "kmer", "k": 3, "stride": 1}, "tasks": ["mlm"]},
}


def model(kind, **changes):
    torch.manual_seed(5)
    return GenomicLM(ModelConfig.from_dict(MODELS[kind] | changes)).eval()


def sequences(count=9, seed=0):
    random = np.random.default_rng(seed)
    found = [random_letters(random, int(random.integers(5, 60))) for _ in range(count)]
    return [*found, "ACGTNNNNACGTAC", "GGNN"]


@torch.no_grad()
def states_of(language_model, letters, layer=-1):
    """(tokens, D) of one sequence alone, the letters that each token adds, and whether all of its own are certain."""
    tokenizer = language_model.tokenizer
    ids = tokenizer.encode(letters)
    start = [] if tokenizer.start_id is None else [tokenizer.start_id]
    task = "mlm" if "mlm" in language_model.config.tasks else "lm"
    output = language_model(torch.tensor([start + ids]), task=task, output_hidden_states=True)
    added = tokenizer.letters_added(np.array(ids))
    return output.hidden_states[layer][0, len(start) :].numpy(), added, tokenizer.is_nucleotide[ids]


@pytest.mark.parametrize("layer", [-1, 0])
@pytest.mark.parametrize("kind", MODELS)
def test_the_mean_is_that_over_certain_nucleotides(kind, layer):
    language_model = model(kind)
    found = Embedder(language_model, layer=layer, letters_a_batch=150).embed(sequences())
    for letters, state in zip(sequences(), found, strict=True):
        states, added, certain = states_of(language_model, letters, layer)
        spelled = [
            row
            for row, count, known in zip(states, added, certain, strict=True)
            if known
            for _ in range(count)
        ]
        assert state == pytest.approx(np.mean(spelled, axis=0), abs=2e-5)


@pytest.mark.parametrize("kind", ["chunks", "3-mers"])
def test_the_last_state(kind):
    language_model = model(kind)
    found = Embedder(language_model, pool="last", letters_a_batch=150).embed(sequences())
    for letters, state in zip(sequences(), found, strict=True):
        states, _, certain = states_of(language_model, letters)
        assert state == pytest.approx(states[np.flatnonzero(certain)[-1]], abs=2e-5)


@pytest.mark.parametrize("kind", ["chunks", "3-mers", "overlapping"])
def test_a_state_each_nucleotide(kind):
    language_model = model(kind)
    found = Embedder(language_model, pool="nucleotide", letters_a_batch=150).embed(sequences())
    for letters, rows in zip(sequences(), found, strict=True):
        states, added, _ = states_of(language_model, letters)
        assert len(rows) == len(letters)
        assert rows == pytest.approx(np.repeat(states, added, axis=0), abs=2e-5)


def test_both_strands_and_the_first_letters():
    language_model = model("chunks")
    plain = Embedder(language_model, max_length=20)
    opposite = plain.embed([letters[:20].translate(PAIRS)[::-1] for letters in sequences()])
    found = Embedder(language_model, both_strands=True, max_length=20).embed(sequences())
    assert found == pytest.approx((plain.embed(sequences()) + opposite) / 2, abs=1e-5)


def test_nothing_certain_is_zero_and_case_and_u_do_not_matter():
    embedder = Embedder(model("chunks"))
    assert not embedder.embed(["NNNN"]).any()
    assert np.array_equal(embedder.embed(["ACGUAA"]), embedder.embed(["acgtaa"]))
    assert embedder.embed([]).shape == (0, 16)


def test_batches_are_of_bounded_size():
    """But for a sequence that is longer than a batch by itself."""
    embedder = Embedder(model("chunks"), letters_a_batch=100)
    lengths = [300, *np.random.default_rng(0).integers(1, 90, 50)]
    batches = list(embedder._batches(lengths))
    assert sorted(row for batch in batches for row in batch) == list(range(51))
    assert all(len(b) == 1 or len(b) * (max(lengths[row] for row in b) + 1) <= 100 for b in batches)
    assert len(batches) < 40


@pytest.mark.parametrize("pool", ["mean", "nucleotide"])
def test_the_file_keeps_columns_and_order_whatever_the_blocks(tmp_path, monkeypatch, pool):
    monkeypatch.setattr(embeddings, "ROWS_A_BLOCK", 4)
    lines = [
        {"id": k, "seq": letters, "y": k / 2, "who": None if k < 5 else "x"}
        for k, letters in enumerate(sequences())
    ]
    lines[0]["who"] = "w"
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    embedder = Embedder(model("chunks"), pool=pool)
    assert embed_file(embedder, tmp_path / "t.jsonl", tmp_path / "e.parquet", "seq") == 11
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.column_names == ["id", "y", "who", "length", "embedding"]
    assert table["id"].to_pylist() == list(range(11))
    assert table["who"].to_pylist() == [line["who"] for line in lines]
    assert table["length"].to_pylist() == [len(letters) for letters in sequences()]
    expected = embedder.embed(sequences())
    for row, state in zip(table["embedding"].to_pylist(), expected, strict=True):
        assert np.array(row) == pytest.approx(state, abs=1e-5)
    kind = table.schema.field("embedding").type
    state = kind if pool == "mean" else kind.value_type
    assert (str(state.value_type), state.list_size) == ("float", 16)
    assert f"model_sha256={embedder.model.content_hash()}" in table.schema.metadata[b"genotok"].decode()


def test_the_verb(tmp_path, capsys):
    folder = save_model(tmp_path / "model")
    (tmp_path / "x.fa").write_text(">5S\nACGTACGT\n>5S second\nGGGTTTAA\n")
    words = [
        "embed",
        folder,
        tmp_path / "x.fa",
        "-o",
        tmp_path / "e.parquet",
        "--keep",
        "description,name",
        "--layer",
        "0",
    ]
    app([*map(str, words), "--threads", "1"], standalone_mode=False)
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.column_names == ["description", "name", "length", "embedding"]
    assert table["description"].to_pylist() == ["5S", "5S second"]
    expected = Embedder(GenomicLM.from_pretrained(folder), layer=0).embed(["ACGTACGT", "GGGTTTAA"])
    assert np.array(table["embedding"].to_pylist()) == pytest.approx(expected, abs=1e-6)
    assert "embed: 16 bases" in capsys.readouterr().err


def test_the_same_input_gives_the_same_bytes(tmp_path):
    (tmp_path / "x.fa").write_text(">a\nACGTACGT\n>b\nGGGTTTAA\n")
    for name in "ab":
        embed_file(Embedder(model("chunks")), tmp_path / "x.fa", tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"layer": 2}, "--layer: 2 should be from -2 to 1; the model has 2"),
        ({"pool": "max"}, "--pool: 'max' should be mean, last, nucleotide"),
        ({"pool": "nucleotide", "both_strands": True}, "states per nucleotide are of one strand"),
    ],
)
def test_bad_settings(settings, sentence):
    with pytest.raises(InputError) as caught:
        Embedder(model("chunks"), **settings)
    assert sentence in str(caught.value)


def test_a_model_that_needs_boundaries():
    with pytest.raises(InputError, match="'given' cuts by boundaries, and sequences alone have none"):
        Embedder(model("chunks", chunkers=[{"kind": "given"}]))


def test_bad_files_leave_nothing(tmp_path):
    embedder = Embedder(model("chunks"))
    (tmp_path / "a.csv").write_text("sequence,length\nACGT,4\n")
    (tmp_path / "b.jsonl").write_text('{"sequence": "ACGT", "y": 1}\n{"sequence": "ACGT", "y": "x"}\n')
    (tmp_path / "c.fa").write_text(">a\nACGT\n>b\nACGU\n")
    for name, sentence in (
        ("a.csv", "column 'length' has a name that the output needs"),
        ("b.jsonl", "column 'y' holds values of several kinds"),
        ("c.fa", "record 1 has T and record 2 has U"),
    ):
        with pytest.raises(InputError, match=sentence):
            embed_file(embedder, tmp_path / name, tmp_path / "out" / "e.parquet")
    assert not list((tmp_path / "out").iterdir())
