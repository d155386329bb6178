"""Shards hold letters; a model's tokens are made of them when they are read."""

import numpy as np
import pytest
import torch
from fasta_files import random_letters, write

from genotok.errors import InputError
from genotok.shards.manifest import merge_manifests, read_manifest
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches, WindowEncoder, batches_in_order, collate
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import KmerTokenizer, load_tokenizer

LETTERS = random_letters(700, 4, "ACGTACGTACGTN")
BPE = {"type": "bpe", "merges": ["A C", "G T", "AC GT", "T A", "C C"]}
KINDS = {
    "kmer": "kmer",
    "codon": "codon",
    "ntv2": "ntv2",
    "bpe": BPE,
    "overlap": {"type": "kmer", "k": 4, "stride": 3},
}
every = pytest.mark.parametrize("kind", KINDS)
COMPLEMENT = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters")
    write(folder / "g.fa", {"a": LETTERS})
    tokenize_genomes([folder / "g.fa"], folder / "nucleotide", window=50, stride=40)
    return folder


@every
def test_the_files_are_those_of_nucleotides(kind, folder):
    plain = read_manifest(folder / "nucleotide")[1]
    made = tokenize_genomes([folder / "g.fa"], folder / kind, tokenizer=KINDS[kind], window=50, stride=40)
    assert made.files == plain.files
    _, again = read_manifest(folder / kind)
    assert again.tokenizer == load_tokenizer(KINDS[kind]).description
    assert again.letter_tokenizer is load_tokenizer("nucleotide")


@every
def test_windows_are_encoded_on_either_strand(kind, folder):
    tokenizer, dataset = load_tokenizer(KINDS[kind]), ShardDataset(folder / "nucleotide", "train")
    encode = WindowEncoder(load_tokenizer("nucleotide"), tokenizer)
    for window in (dataset[i] for i in range(len(dataset))):
        letters = LETTERS[window.start : window.start + 50]
        assert encode(window.ids).tolist() == tokenizer.encode_letters(letters.encode()).tolist()
        opposite = letters.translate(COMPLEMENT)[::-1]
        assert encode(window.ids, True).tolist() == tokenizer.encode_letters(opposite.encode()).tolist()


@every
def test_batches_hold_every_window(kind, folder):
    tokenizer, dataset = load_tokenizer(KINDS[kind]), ShardDataset(folder / "nucleotide", "train")
    for windows, batch in batches_in_order(dataset, 4, tokenizer):
        for row, window in enumerate(windows):
            ids = batch.input_ids[row, : batch.lengths[row]].tolist()
            assert ids[0] == tokenizer.start_id
            letters = LETTERS[window.start : window.start + 50]
            assert tokenizer.decode(ids) == letters
            assert batch.letters[row].sum() == len(letters)
        certain = sum(int((~window.ambiguous).sum()) for window in windows)
        assert (batch.nucleotides, batch.bases) == (certain, sum(len(window.ids) for window in windows))
        assert batch.tokens == (batch.labels >= 0).sum()


def test_training_reads_both_strands(folder):
    tokenizer, dataset = load_tokenizer("kmer"), ShardDataset(folder / "nucleotide", "train")
    windows = [LETTERS[dataset[i].start :][:50] for i in range(len(dataset))]
    batches = TrainingBatches(dataset, len(dataset), 1, True, tokenizer=tokenizer)
    seen = [tokenizer.decode(ids.tolist()) for _ in range(2) for ids in next(batches).input_ids]
    assert sorted(seen) == sorted(windows + [letters.translate(COMPLEMENT)[::-1] for letters in windows])


def test_a_batch_of_3_mers():
    codon = load_tokenizer("codon")
    batch = collate([codon.encode_letters(b"AACNA"), codon.encode_letters(b"ACGTTT")], codon)
    start = codon.start_id
    assert batch.input_ids.tolist() == [[start, 1, 68, 64], [start, 6, 63, codon.pad_id]]
    assert batch.labels.tolist() == [[-100, 1, -100, 64], [-100, 6, 63, -100]]
    assert batch.letters.tolist() == [[0, 3, 1, 1], [0, 3, 3, 0]]
    assert (batch.tokens, batch.nucleotides, batch.bases) == (4, 10, 11)
    assert batch.letters.dtype == torch.int64


def test_byte_shards_keep_what_is_no_letter_for_every_tokenizer():
    encode = WindowEncoder(load_tokenizer("byte"), load_tokenizer("codon"))
    assert encode(np.frombuffer(b"ACGRTT-A", np.uint8)).tolist() == load_tokenizer("codon").encode("ACGRTT-A")
    nucleotide = load_tokenizer("nucleotide")
    encode = WindowEncoder(nucleotide, load_tokenizer("codon"))
    assert encode(nucleotide.encode_letters(b"AC-TTT")).tolist() == load_tokenizer("codon").encode("AC-TTT")


SERVED = [
    ("nucleotide", "nucleotide", None),
    ("nucleotide", "kmer", None),
    ("nucleotide", BPE, None),
    ("bpe", BPE, None),
    ("kmer", {"type": "kmer", "k": 6, "stride": 6}, None),
    ("kmer", {"type": "kmer", "k": 4}, "is 'kmer', and the shards were made with 'kmer' with other settings"),
    ("nucleotide", "byte", "is 'byte', and the shards were made with 'nucleotide'"),
    ("kmer", "codon", "is 'codon', and the shards were made with 'kmer'"),
    ("bpe", "kmer", "is 'kmer', and the shards were made with 'bpe'"),
    (
        "nucleotide",
        {"type": "kmer", "k": 2, "alphabet": "protein"},
        "is 'kmer', and the shards were made with",
    ),
]


@pytest.mark.parametrize(("made_with", "model", "sentence"), SERVED)
def test_which_shards_serve_which_tokenizer(made_with, model, sentence, folder):
    tokenize_genomes(
        [folder / "g.fa"], folder / "served", tokenizer=KINDS.get(made_with, made_with), window=50
    )
    _, manifest = read_manifest(folder / "served")
    if sentence is None:
        manifest.check_serves(load_tokenizer(model), "is")
    else:
        with pytest.raises(InputError, match=sentence):
            manifest.check_serves(load_tokenizer(model), "is")


def test_a_vocabulary_of_proteins_has_shards_of_proteins(folder):
    tokenizer = KmerTokenizer(2, 2, "protein").description
    with pytest.raises(InputError, match="tokenizer 'protein' reads protein, and these are dna sequences"):
        tokenize_genomes([folder / "g.fa"], folder / "x", tokenizer=tokenizer, alphabets=["dna"])
    assert not (folder / "x").exists()
    (folder / "p.fa").write_text(">p\nMKVLAAX\n")
    made = tokenize_genomes([folder / "p.fa"], folder / "x", tokenizer=tokenizer)
    assert made.letter_tokenizer is load_tokenizer("protein")
    with pytest.raises(InputError, match="is 'ntv2', and the shards were made with 'kmer'"):
        made.check_serves(load_tokenizer("ntv2"), "is")


def test_shards_of_two_vocabularies_are_not_merged(folder):
    for name, tokenizer in (("one", BPE), ("two", {"type": "bpe", "merges": ["A C"] * 40})):
        tokenize_genomes([folder / "g.fa"], folder / name, tokenizer=tokenizer, window=50, names=[name])
    with pytest.raises(InputError, match=r"two: tokenizer is .* shards of one run must agree") as error:
        merge_manifests([folder / "one", folder / "two"], folder / "both")
    assert len(str(error.value)) < 500
