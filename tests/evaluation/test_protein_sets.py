"""Labelled proteins: embedded, probed and fine-tuned as nucleotides are, without an opposite strand."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_files import save_model, write_csv

from genotok.errors import InputError
from genotok.evaluation.duplicates import describe_duplicates, duplicate_groups
from genotok.evaluation.embeddings import Embedder, embed_file
from genotok.evaluation.finetune import FinetuneSettings, finetune
from genotok.evaluation.kmer_counts import kmer_frequencies, longest_word
from genotok.evaluation.labelled_rows import read_labelled_rows
from genotok.evaluation.probe import ProbeSettings, probe
from genotok.genomes.alphabets import PROTEIN
from genotok.models import GenomicLM

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
QUICK = {"folds": 2, "draws": 50, "random_weights": False, "kmers": (1, 6)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("proteins") / "model", tokenizer="protein")


def rows(count=48):
    """Half of them rich in W; selenocysteine (U) beside T, an unknown letter and a stop."""
    random = np.random.default_rng(4)
    found = [("MTUWWX*", "rich")]
    for k in range(count):
        letters = "".join(random.choice(list(AMINO_ACIDS), 30))
        found.append(
            (letters.replace("L", "W") if k % 2 else letters.replace("W", "L"), ["plain", "rich"][k % 2])
        )
    return found


def write_fasta(path, named):
    path.write_text("".join(f">{name} protein\n{letters[:11]}\n{letters[11:]}\n" for letters, name in named))
    return path


def test_fasta_and_tables_give_the_same_states(folder, tmp_path):
    embedder = Embedder(GenomicLM.from_pretrained(folder))
    fasta = write_fasta(tmp_path / "p.faa", rows())
    packed = tmp_path / "q.faa.zst"
    packed.write_bytes(pa.compress(fasta.read_bytes(), "zstd", asbytes=True))
    table = write_csv(tmp_path / "p.csv", rows())
    states = []
    for number, source in enumerate((fasta, packed, table)):
        assert embed_file(embedder, source, tmp_path / f"{number}.parquet") == len(rows())
        states.append(np.stack(pq.read_table(tmp_path / f"{number}.parquet")["embedding"].to_numpy()))
    assert np.array_equal(states[0], states[1])
    assert np.array_equal(states[0], states[2])
    assert np.abs(states[0]).sum(1).min() > 0
    assert np.array_equal(states[0], embedder.embed([letters for letters, _ in rows()]))


def test_a_probe_of_proteins(folder, tmp_path):
    table = write_csv(tmp_path / "p.csv", [*rows(), rows()[3]])
    result = probe(folder, table, ["label"], settings=ProbeSettings(**QUICK), threads=1)
    assert result["statement"] == (
        "Of the 50 rows of the table 1 repeat a sequence, and 0 have a copy with another label. "
        "Copies are kept on one side of every split."
    )
    assert result["settings"]["kmers"] == [1]
    methods = result["results"]["all"]["methods"]
    assert methods["kmers"]["metrics"]["mcc"]["value"] > 0.5
    assert methods["probe"]["metrics"]["mcc"]["value"] > 0.2


def test_fine_tuning_with_proteins(folder, tmp_path):
    result = finetune(
        folder,
        write_fasta(tmp_path / "p.faa", rows()),
        ["name"],
        tmp_path / "run",
        settings=FinetuneSettings(draws=20, train={"steps": 2, "threads": 1, "device": "cpu"}),
    )
    assert result["classes"] == ["plain", "rich"]
    assert (tmp_path / "run" / "test_metrics.json").is_file()


def test_letters_that_spell_an_opposite_strand_are_another_protein():
    sequences = ["ACGT", "AACC", "GGTT", "ggtt", "GGTU"]
    groups, _ = duplicate_groups(sequences, (), PROTEIN)
    assert groups.tolist() == [0, 1, 2, 2, 3]
    found = describe_duplicates(sequences, groups, np.arange(5), PROTEIN)
    assert (found["different"], found["copies"], found["reverse_complements"]) == (4, 1, 0)
    assert duplicate_groups(["GGTT"], ["AACC"], PROTEIN)[1].tolist() == [False]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_shares_of_words_of_amino_acids(k):
    sequences = [letters for letters, _ in rows(6)]
    found = kmer_frequencies(sequences, k, alphabet=PROTEIN)
    assert found.shape == (7, 20**k)
    for sequence, row in zip(sequences, found.toarray(), strict=True):
        words = [sequence[i : i + k] for i in range(len(sequence) - k + 1)]
        words = [word for word in words if not set(word) - set(AMINO_ACIDS)]
        wanted = np.zeros(20**k)
        for word, count in Counter(words).items():
            wanted[sum(AMINO_ACIDS.index(x) * 20 ** (k - 1 - i) for i, x in enumerate(word))] = count / len(
                words
            )
        assert np.allclose(row, wanted)
    assert (longest_word(PROTEIN), longest_word()) == (3, 8)


@pytest.mark.parametrize(
    ("settings", "embedding", "sentence"),
    [
        ({"kmers_both_strands": True}, {}, "--kmers-both-strands: the model reads proteins"),
        ({"kmers": (4, 5)}, {}, "--kmers: words of amino acids should have from 1 to 3 letters"),
        ({}, {"both_strands": True}, "--both-strands: the model reads proteins"),
    ],
)
def test_what_proteins_have_not(settings, embedding, sentence, folder, tmp_path):
    table = write_csv(tmp_path / "p.csv", rows(8))
    with pytest.raises(InputError, match=sentence):
        probe(folder, table, ["label"], settings=ProbeSettings(**(QUICK | settings)), threads=1, **embedding)


def test_proteins_for_a_model_of_nucleotides(tmp_path):
    with pytest.raises(InputError, match=r"column .sequence.: .* is no nucleotide letter"):
        read_labelled_rows(write_csv(tmp_path / "p.csv", rows()), ["label"])
    with pytest.raises(InputError, match=r"read proteins with .* and a model of proteins"):
        read_labelled_rows(write_fasta(tmp_path / "p.faa", rows()), ["name"])
