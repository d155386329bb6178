"""Windows of one split in another, against comparing sets of texts."""

import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from fasta_files import random_letters, write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenize_genomes import contents, rows

from genotok.errors import InputError
from genotok.genomes.records import Reading
from genotok.shards import leakage, sketch
from genotok.shards.check import check_shards
from genotok.shards.leakage import find_leakage, table_of_leakage, write_without_leakage
from genotok.shards.manifest import merge_manifests, read_manifest
from genotok.shards.reader import ShardDataset
from genotok.shards.sketch import canonical_kmers, sketch_windows
from genotok.shards.writer import tokenize_genomes

CODES = {letter: code for code, letter in enumerate("ACGT")}
quick = settings(max_examples=60, deadline=None)


def opposite(text):
    return text[::-1].translate(str.maketrans("ACGTN", "TGCAN"))


def canonical(text):
    return min(text, opposite(text))


def kmers(text, k):
    """The canonical k-mers of certain letters."""
    found = (text[i : i + k] for i in range(len(text) - k + 1))
    return {canonical(kmer) for kmer in found if "N" not in kmer}


def as_codes(text):
    return np.array([CODES.get(letter, 4) for letter in text], np.uint8)


def number(kmer):
    return sum(CODES[letter] * 4**i for i, letter in enumerate(reversed(kmer)))


def made(folder, splits, window=1000, **options):
    """Shards of {split: [letters]}, each sequence a contig."""
    contigs = {f"{split}{i}": text for split, texts in splits.items() for i, text in enumerate(texts)}
    fasta = write(folder / "g.fa", contigs, width=60)
    named = {s: [f"{s}{i}" for i in range(len(splits.get(s, ())))] for s in ("valid", "test")}
    return tokenize_genomes([fasta], folder / "out", window=window, **named, **options)


@quick
@given(st.text("ACGT", min_size=1, max_size=80), st.integers(2, 31))
def test_kmers_as_numbers(text, k):
    found = canonical_kmers(as_codes(text), k) if len(text) >= k else []
    assert [int(value) for value in found] == [
        min(number(text[i : i + k]), number(opposite(text[i : i + k]))) for i in range(len(text) - k + 1)
    ]


@quick
@given(st.lists(st.text("ACGTN", max_size=60)), st.integers(2, 9), st.integers(20, 70))
def test_a_whole_sketch_is_the_set_of_kmers(texts, k, piece):
    """At scale 1, whatever the pieces that letters are gone through in."""
    texts = [text for text in texts if text]
    offsets = np.cumsum([0, *map(len, texts)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "LETTERS_AT_ONCE", piece)
        found = sketch_windows(as_codes("".join(texts)), offsets, k, 1)
    for row, text in enumerate(texts):
        assert set(found.values[found.rows == row].tolist()) == {number(kmer) for kmer in kmers(text, k)}


def test_a_scale_chooses_its_share_and_always_the_same():
    text = random_letters(200_000, 5)
    some = sketch_windows(as_codes(text), np.array([0, len(text)]), 21, 50)
    assert len(some.values) == pytest.approx(200_000 / 50, rel=0.06)
    turned = sketch_windows(as_codes(opposite(text)), np.array([0, len(text)]), 21, 50)
    assert sorted(turned.values) == sorted(some.values)
    # A k-mer of few digits, as repeats have them, is no more and no less likely to be chosen.
    every = np.arange(1 << 16, dtype=np.uint64)
    assert (sketch._scattered(every) <= np.uint64(2**64 // 50)).mean() == pytest.approx(1 / 50, rel=0.1)


@st.composite
def sets_of_sequences(draw):
    """Sequences of three splits that share some, as they are, turned round, and cut short."""
    pool = [random_letters(draw(st.integers(12, 60)), seed, "ACGT") for seed in range(8)]
    forms = st.tuples(st.sampled_from(pool), st.booleans(), st.integers(0, 30), st.booleans())
    splits = {}
    for split in ("train", "valid", "test"):
        splits[split] = []
        for text, turned, cut, lower in draw(st.lists(forms, max_size=5)):
            text = text[cut:] if len(text) - cut >= 12 else text
            text = opposite(text) if turned else text
            splits[split].append(text.lower() if lower else text)
    return splits


@quick
@given(splits=sets_of_sequences(), threshold=st.sampled_from([0.01, 0.5, 1]))
def test_equals_comparing_texts(splits, threshold, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    splits["train"].append("ACGTTGCAACGTGGCC")
    manifest = made(folder, splits)
    found = find_leakage(folder / "out", manifest, k=11, threshold=threshold)
    assert found.scale == 1
    upper = {split: [text.upper() for text in texts] for split, texts in splits.items()}
    wanted, leaking = [], {"valid": [False] * len(upper["valid"]), "test": [False] * len(upper["test"])}
    for of, before in (("valid", "train"), ("test", "train"), ("test", "valid")):
        if not (upper[of] and upper[before]):
            continue
        whole = {canonical(text) for text in upper[before]}
        there = set().union(*(kmers(text, 11) for text in upper[before]))
        exact = [canonical(text) in whole for text in upper[of]]
        # Of a k-mer that a window has twice both count.
        lists = [[canonical(text[i : i + 11]) for i in range(len(text) - 10)] for text in upper[of]]
        contained = [sum(kmer in there for kmer in some) >= threshold * len(some) for some in lists]
        either = [a or b for a, b in zip(exact, contained, strict=True)]
        leaking[of] = [a or b for a, b in zip(leaking[of], either, strict=True)]
        counts = {"exact": sum(exact), "contained": sum(contained), "either": sum(either)}
        wanted.append({"of": of, "in": before, "windows": len(upper[of]), **counts})
    assert found.pairs == wanted
    for split in ("valid", "test"):
        if upper[split]:
            assert found.leaking[f"{split}-00000.arrow"].tolist() == leaking[split]


def changed(text, share, seed):
    """The text with letters replaced at this rate."""
    rng = np.random.default_rng(seed)
    codes = as_codes(text)
    hit = rng.random(len(codes)) < share
    codes[hit] = (codes[hit] + rng.integers(1, 4, hit.sum())) % 4
    return "".join("ACGT"[code] for code in codes)


@pytest.mark.parametrize(("share", "leaks"), [(0.0, True), (0.01, True), (0.1, False)])
def test_near_copies_at_another_offset_and_on_the_other_strand(share, leaks, tmp_path):
    """1 % of letters changed leave 0.99^21 = 81 % of the 21-mers, 10 % leave 11 %."""
    train = random_letters(300_000, 1)
    test = random_letters(6_000, 2) + opposite(changed(train[12_345:95_265], share, 3))
    manifest = made(tmp_path, {"train": [train], "test": [test]}, window=8192, deduplicate="report")
    (pair,) = manifest.leakage["pairs"]
    assert manifest.leakage["scale"] > 50
    # Most of the first window are random letters.
    found = {"contained": 10 * leaks, "either": 10 * leaks}
    assert pair == {"of": "test", "in": "train", "windows": 11, "exact": 0, **found}


def test_chance_makes_no_leakage(tmp_path):
    manifest = made(
        tmp_path,
        {"train": [random_letters(1_000_000, 1)], "test": [random_letters(100_000, 2)]},
        window=512,
        deduplicate="report",
    )
    assert manifest.leakage["pairs"][0]["either"] == 0


SPLITS = {
    "train": ["ACGTTGCAACGTGGCCATTTGACCA", "TTTTTTTTTTTTGGGGACACACAG"],
    "valid": [opposite("ACGTTGCAACGTGGCCATTTGACCA"), "CACATTAGGAGACCCATAGAGACAT"],
    "test": ["CACATTAGGAGACCCATAGAGACAT", "GACCGATTTACAGAGCACCTTACAA", "ttttttttttttggggacacacag"],
}


def test_dropping(tmp_path):
    manifest = made(tmp_path, SPLITS, deduplicate="drop")
    assert [row["contig"] for row in rows(tmp_path / "out", "test")] == ["test1"]
    assert [row["contig"] for row in rows(tmp_path / "out", "valid")] == ["valid1"]
    assert [(c.name, c.windows, c.dropped_windows) for c in manifest.contigs if c.split == "test"] == [
        ("test0", 0, 1),
        ("test1", 1, 0),
        ("test2", 0, 1),
    ]
    assert [(pair["of"], pair["in"], pair["exact"]) for pair in manifest.leakage["pairs"]] == [
        ("valid", "train", 1),
        ("test", "train", 1),
        ("test", "valid", 1),
    ]
    assert manifest.leakage["deduplicate"] == "drop"
    assert check_shards(tmp_path / "out") == []
    assert sorted(contents(tmp_path / "out")) == [
        "manifest.json",
        "test-00000.arrow",
        "train-00000.arrow",
        "valid-00000.arrow",
    ]
    again = table_of_leakage(tmp_path / "out")
    assert [pair["either"] for pair in again.leakage["pairs"]] == [0, 0, 0]
    assert read_manifest(tmp_path / "out")[1] == again


def test_a_split_that_leaks_altogether(tmp_path):
    made(tmp_path, {"train": SPLITS["train"], "test": SPLITS["train"]}, deduplicate="drop")
    assert sorted(contents(tmp_path / "out")) == ["manifest.json", "train-00000.arrow"]
    assert check_shards(tmp_path / "out") == []


def test_merged_folders(tmp_path):
    """Files that lose windows are written beside the new manifest, the others stay where they are."""
    for split, texts in SPLITS.items():
        (tmp_path / split).mkdir()
        for half in (0, 1):
            fasta = write(
                tmp_path / split / f"{split}{half}.fa",
                {f"{split}{i}": t for i, t in enumerate(texts) if i % 2 == half},
            )
            tokenize_genomes([fasta], tmp_path / split / str(half), rest=split, window=1000)
    merge_manifests([tmp_path / split / half for split, half in product(SPLITS, "01")], tmp_path / "all")
    before = (tmp_path / "all" / "manifest.json").read_bytes()
    write_without_leakage(tmp_path / "all", tmp_path / "clean")
    assert (tmp_path / "all" / "manifest.json").read_bytes() == before
    assert check_shards(tmp_path / "clean") == []
    found = {split: [window.contig for window in ShardDataset(tmp_path / "clean", split)] for split in SPLITS}
    assert found == {"train": ["train0", "train1"], "valid": ["valid1"], "test": ["test1"]}
    first = contents(tmp_path / "clean")
    assert set(first) == {"manifest.json"}
    write_without_leakage(tmp_path / "all", tmp_path / "clean")
    assert contents(tmp_path / "clean") == first


def test_memory_is_bounded_by_choosing_fewer_kmers(tmp_path, monkeypatch):
    text = random_letters(20_000, 1)
    manifest = made(tmp_path, {"train": [text], "test": [text[:10_000]]}, window=100)
    assert find_leakage(tmp_path / "out", manifest).scale == 1
    monkeypatch.setattr(leakage, "MOST_KMERS", 1000)
    found = find_leakage(tmp_path / "out", manifest)
    assert found.scale == 10
    assert found.pairs[0]["contained"] > 95


def test_bad_settings(tmp_path):
    made(tmp_path, SPLITS)
    for wrong in ({"k": 10}, {"k": 32}, {"threshold": 0}, {"threshold": 1.1}):
        with pytest.raises(
            InputError, match="k should be from 11 to 31, and the threshold above 0 and at most 1"
        ):
            table_of_leakage(tmp_path / "out", **wrong)
    with pytest.raises(InputError, match="out: holds the shards themselves"):
        write_without_leakage(tmp_path / "out", tmp_path / "out")
    with pytest.raises(InputError, match=r"holds the shards themselves; name another folder"):
        write_without_leakage(tmp_path / "out", tmp_path)
    with pytest.raises(InputError, match="deduplicate: 'yes' should be one of no, report, drop"):
        made(tmp_path, SPLITS, deduplicate="yes")


def test_the_command(tmp_path):
    made(tmp_path, SPLITS)
    command = [sys.executable, "-m", "genotok", "shards", "leakage", str(tmp_path / "out"), "--k", "15"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert (
        "test in train: 1 of 3 windows; 1 stand there as they are or as the opposite strand, 1 by at least 50% of "
        "their 15-mers\n"
    ) in done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["leakage"]["k"] == 15


def test_sequences_that_are_not_listed(tmp_path):
    """Short sequences, of which several have one name; as the sets of RNA classes come."""
    rng = np.random.default_rng(7)
    pool = [
        random_letters(int(length), seed, "ACGT") for seed, length in enumerate(rng.integers(40, 300, 80))
    ]
    train = pool[:50]
    test = [*pool[50:], *pool[3:9], *map(opposite, pool[20:24]), train[30].lower()]
    for split, texts in (("train", train), ("test", test)):
        fasta = tmp_path / f"{split}.fa"
        fasta.write_text("".join(f">class{i % 3} of {i}\n{text}\n" for i, text in enumerate(texts)))
        tokenize_genomes([fasta], tmp_path / split, rest=split, window=512, reading=Reading(many=True))
    merged = merge_manifests([tmp_path / "train", tmp_path / "test"], tmp_path / "all")
    found = find_leakage(tmp_path / "all", merged)
    there = {canonical(text) for text in train}
    assert found.pairs[0]["exact"] == sum(canonical(text.upper()) in there for text in test) == 11
    clean = write_without_leakage(tmp_path / "all", tmp_path / "clean")
    assert check_shards(tmp_path / "clean") == []
    assert [(one.split, one.windows, one.dropped_windows) for one in clean.collections] == [
        ("train", 50, 0),
        ("test", 30, 11),
    ]
    assert [one.windows for one in merged.collections] == [50, 41]


def test_proteins_have_no_opposite_strand(tmp_path):
    texts = ["MKVLAAGCTTACGTACGTACGTACGTACGTACGT", "MSTNPKPQRKTKRNTNRRPQ"]
    for split, turned in (("train", 1), ("test", -1)):
        fasta = tmp_path / f"{split}.fa"
        fasta.write_text("".join(f">p{i}\n{text[:: turned * i or 1]}\n" for i, text in enumerate(texts)))
        tokenize_genomes([fasta], tmp_path / split, rest=split, tokenizer="protein", window=64)
    merged = merge_manifests([tmp_path / "train", tmp_path / "test"], tmp_path / "all")
    (pair,) = find_leakage(tmp_path / "all", merged).pairs
    assert (pair["windows"], pair["exact"], pair["contained"]) == (2, 1, 0)
