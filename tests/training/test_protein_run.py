"""Models of proteins, of RNA, and of mixtures, from their sources to bits per letter."""

import json
import math

import numpy as np
import pytest

from genotok.errors import InputError
from genotok.evaluation.bits_per_base import evaluate
from genotok.evaluation.letter_markov import LetterMarkov, fit_letter_baselines, letter_codes
from genotok.genomes.records import Reading
from genotok.models import GenomicLM
from genotok.settings import parse_settings
from genotok.shards.manifest import merge_manifests
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer
from genotok.training.config import TrainConfig
from genotok.training.loop import Trainer
from genotok.variants.preconditions import require_dna

MOTIFS = {"protein": "MKVLAADEFW", "rna": "GAUUACAGGU", "dna": "TTGACCATGC"}
ROWS = {
    "protein": 32,
    "biological": 40,
}  # of the embedding: the vocabulary, rounded up to a multiple of eight


def shards_of(folder, alphabet, tokenizer):
    """A motif again and again, broken by random letters; the last tenth for validation."""
    random = np.random.default_rng(0)
    letters = sorted(set(MOTIFS[alphabet]))
    texts = ["".join([MOTIFS[alphabet] * 3, *random.choice(letters, 2)]) for _ in range(60)]
    splits = ["train"] * 50 + ["valid"] * 5 + ["test"] * 5
    rows = [{"sequence": text, "part": split} for text, split in zip(texts, splits, strict=True)]
    folder.mkdir(parents=True)
    (folder / f"{alphabet}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reading = Reading(split_column="part")
    tokenize_genomes(
        [folder / f"{alphabet}.jsonl"], folder / "shards", tokenizer=tokenizer, window=32, reading=reading,
        alphabets=[alphabet],
    )  # fmt: skip
    return folder / "shards"


def trained(shards, folder, tokenizer, **settings):
    values = {
        "shards": str(shards),
        "model": {
            "layout": ["T1"],
            "d_model": 16,
            "d_intermediate": 32,
            "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
            "tokenizer": tokenizer,
        },
        "steps": 40,
        "batch_size": 8,
        "learning_rate": 0.02,
        "target_chunk_length": [],
        "device": "cpu",
        "threads": 1,
        **settings,
    }
    Trainer(parse_settings(TrainConfig, values, "test"), folder).run()
    return folder


def test_a_model_of_proteins(tmp_path, capsys):
    shards = shards_of(tmp_path / "p", "protein", "protein")
    run = trained(shards, tmp_path / "run", "protein")
    assert "proteins have no opposite strand; one strand is read" in capsys.readouterr().err
    metrics = evaluate(run, shards, threads=1)
    assert metrics["model"]["nucleotides"] == 5 * 32
    assert metrics["baselines"]["uniform"]["bits_per_base"] == pytest.approx(math.log2(20))
    assert metrics["adaptive"]["bits_per_base"] is None
    assert (
        metrics["model"]["bits_per_base"] < metrics["baselines"]["markov_0"]["bits_per_base"] < math.log2(20)
    )
    model = GenomicLM.from_pretrained(run)
    assert model.config.vocab_size == ROWS["protein"]
    with pytest.raises(InputError, match="is a model of the alphabet ACDEFGHIKLMNPQRSTVWY"):
        require_dna(model, run)
    with pytest.raises(InputError, match="its tokenizer is 'protein', and the shards were made with 'rna'"):
        evaluate(run, shards_of(tmp_path / "r", "rna", "rna"), threads=1)


def test_a_model_of_all_three(tmp_path):
    folders = [shards_of(tmp_path / name, name, "biological") for name in MOTIFS]
    merge_manifests(folders, tmp_path / "all")
    run = trained(tmp_path / "all", tmp_path / "run", "biological", steps=60)
    metrics = evaluate(run, tmp_path / "all", threads=1)
    assert metrics["baselines"]["uniform"]["bits_per_base"] == pytest.approx(math.log2(28))
    assert metrics["model"]["bits_per_base"] < metrics["baselines"]["markov_0"]["bits_per_base"]
    assert metrics["model"]["nucleotides"] == 3 * 5 * 32
    model = GenomicLM.from_pretrained(run)
    assert model.config.vocab_size == ROWS["biological"]
    with pytest.raises(InputError, match="variants are scored in ACGT"):
        require_dna(model, run)


def test_letter_markov_against_counting():
    random = np.random.default_rng(1)
    train = [random.integers(0, 4, 60) for _ in range(3)]
    test, letters, order = random.integers(0, 4, 30), 3, 2  # 3 is ambiguous
    model = LetterMarkov(letters, order)
    for codes in train:
        model.update(codes)
    texts = ["".join(map(str, codes)) for codes in train]
    for place, code in enumerate(test):
        if code == letters:
            continue
        expected = 1 / letters
        for k in range(order + 1):
            context = "".join(map(str, test[max(0, place - k) : place]))
            if len(context) < k or str(letters) in context:
                break
            begins = [(text, i) for text in texts for i in range(len(text) - k) if text[i : i + k] == context]
            follow = [text[i + k] for text, i in begins if text[i + k] != str(letters)]
            expected = (follow.count(str(code)) + letters * expected) / (len(follow) + letters)
        assert model.log2_probability(test)[place] == pytest.approx(math.log2(expected))
    assert np.isnan(model.log2_probability(test)[test == letters]).all()


def test_codes_of_letters():
    codes = letter_codes(load_tokenizer("biological").is_nucleotide)
    assert codes[:12].tolist() == [0, 1, 2, 3, 28, 4, 5, 6, 7, 28, 8, 9]
    with pytest.raises(InputError, match="no certain letter"):
        fit_letter_baselines([np.array([28, 28])], 28)
