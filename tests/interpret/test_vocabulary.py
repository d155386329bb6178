"""Words of chunks, and how they change."""

import numpy as np
import pytest
from staged_model import staged_model

from genotok.errors import InputError
from genotok.genomes.fasta import Reference, write_fasta
from genotok.genomes.regions import Region
from genotok.interpret.chunk_rows import ChunkRow
from genotok.interpret.stability import WINDOW, chunk_stability
from genotok.interpret.vocabulary import LONGEST_WORD, Vocabulary


def rows_of(chunks, stage=0):
    rows, start = [], 0
    for number, letters in enumerate(chunks):
        rows.append(ChunkRow(start, stage, start + len(letters), "c", letters[:201], 0.9, number))
        start += len(letters)
    return rows


def test_words_are_counted():
    found = Vocabulary()
    found.add(rows_of(["AC", "GT", "AC", "GT", "AC", "AAA", "ANA", "A" * (LONGEST_WORD + 1)]))
    found.add(rows_of(["T"], stage=1))
    words = found.most_frequent(0)
    assert [(word.letters, word.count, word.other_strand) for word in words] == [
        ("AC", 3, 2), ("GT", 2, 3), ("AAA", 1, 0),
    ]  # fmt: skip
    assert words[0].share == pytest.approx(3 / 8)
    # 3 + 3 of the 13 letters in counted words are A, 3 are C; five chunks have two letters.
    assert words[0].expected == pytest.approx(5 * 6 / 13 * 3 / 13)
    assert found.lengths(0) == {2: 5, 3: 2, LONGEST_WORD + 1: 1}
    assert [word.letters for word in found.most_frequent(1)] == ["T"]
    assert [word.letters for word in found.most_frequent(0, 1)] == ["AC"]


def test_rare_words_are_forgotten(monkeypatch):
    monkeypatch.setattr("genotok.interpret.vocabulary.MOST_WORDS", 3)
    found = Vocabulary()
    found.add(rows_of(["AC", "AC", "A", "C", "G", "T", "AC"]))
    assert found.most_frequent(0)[0].letters == "AC"
    assert len(found.stages[0].words) <= 3
    assert sum(found.lengths(0).values()) == 7


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("g") / "g.fa"
    letters = np.random.default_rng(2).choice(list(b"ACGT"), 2000).astype(np.uint8).tobytes()
    write_fasta([("a", [letters]), ("n", [b"N" * 900])], path)
    return Reference(path)


def test_fixed_strides_do_not_move_with_a_letter_but_with_the_beginning(genome):
    model = staged_model(["m1", ["T1"], "m1"])
    fixed = type(model)(type(model.config).from_dict(
        model.config.to_dict() | {"chunkers": [{"kind": "static", "length": 4}], "upsamplers": ["repeat"]}
    )).eval()  # fmt: skip
    (found,) = chunk_stability(fixed, genome, [Region("a", 0, 2000)], sites=5)
    assert found.sites == 5
    assert found.substitution.max() == found.substitution_all == 0
    assert found.shift.mean() > 0.3
    assert found.recovered > WINDOW - 10


def test_learned_boundaries_move_behind_the_letter_alone(genome):
    found = chunk_stability(staged_model(["m1", ["T1"], "m1"]), genome, [Region("a", 0, 2000)], sites=6)
    (stage,) = found
    assert stage.boundaries > 10
    assert stage.substitution.sum() == pytest.approx(stage.substitution_all), "a causal model looks back only"
    assert 0 < stage.substitution_all < 50
    assert stage.recovered < WINDOW - 2
    again = chunk_stability(staged_model(["m1", ["T1"], "m1"]), genome, [Region("a", 0, 2000)], sites=6)
    assert np.array_equal(again[0].shift, stage.shift)


def test_places_that_cannot_be_read(genome):
    model = staged_model(["m1", ["T1"], "m1"])
    with pytest.raises(InputError, match="as long as a window"):
        chunk_stability(model, genome, [Region("a", 0, 100)])
    with pytest.raises(InputError, match="full of ambiguous letters"):
        chunk_stability(model, genome, [Region("n", 0, 900)], sites=3)
