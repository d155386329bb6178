"""Reads, tables, proteins and mixtures to shards and back."""

import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fasta_files import random_letters, sliced, write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenize_genomes import contents

from genotok.atomic import sha256_of
from genotok.cli import main
from genotok.errors import InputError
from genotok.genomes.records import Reading
from genotok.shards import collected
from genotok.shards.check import check_shards
from genotok.shards.collected import places_of_windows
from genotok.shards.manifest import Collection, merge_manifests, read_manifest
from genotok.shards.reader import ShardDataset, contig_sequences
from genotok.shards.sampler import TrainingBatches
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
CERTAIN = {"dna": set("ACGTUacgtu"), "rna": set("ACGTUacgtu"), "protein": set(RESIDUES + RESIDUES.lower())}
quick = settings(max_examples=10, deadline=None)


def fastq(path, reads):
    path.write_text(
        "".join(
            f"@{name}\n{text}\n+\n{''.join(chr(q + 33) for q in qualities)}\n"
            for name, text, qualities in reads
        )
    )
    return path


def found(folder, split="train", column=None):
    """Of each window what it is of, where it begins, its letters, and its qualities or the value of a column."""
    dataset = ShardDataset(folder, split)
    decode = dataset.manifest.letter_tokenizer.decode
    rows = []
    for k in range(len(dataset)):
        qualities = dataset.qualities(k)
        extra = dataset.value(k, column) if column else None if qualities is None else qualities.tolist()
        rows.append((dataset[k].contig, dataset[k].start, decode(dataset[k].ids), extra))
    return rows


def wanted(sequences, window, stride, alphabet="dna"):
    """The same of (name, letters, qualities or value), by slicing."""
    return [
        (name, start, text, extra[start : start + window] if isinstance(extra, list) else extra)
        for name, letters, extra in sequences
        for start, text in sliced(letters, window, stride)
        if set(text) & CERTAIN[alphabet]
    ]


letters_of = {"dna": "ACGTN", "rna": "ACGUN", "protein": RESIDUES + "X"}


@st.composite
def cases(draw, alphabet="dna"):
    texts = draw(st.lists(st.text(letters_of[alphabet], min_size=1, max_size=60), min_size=1, max_size=8))
    window = draw(st.integers(1, 20))
    first = letters_of[alphabet][0]
    return [first, *texts], window, draw(st.integers(1, window)), draw(st.sampled_from([1, 30, 1 << 19]))


@quick
@given(case=cases(), seed=st.integers(0, 99))
def test_reads_come_back_with_their_qualities(case, seed, tmp_path_factory):
    texts, window, stride, at_once = case
    random = np.random.default_rng(seed)
    reads = [(f"r{k}", text, random.integers(0, 94, len(text)).tolist()) for k, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("reads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collected, "LETTERS_AT_ONCE", at_once)
        tokenize_genomes(
            [fastq(folder / "r.fq", reads)], folder / "out", window=window, stride=stride, qualities=True
        )
    assert found(folder / "out") == wanted(reads, window, stride)
    assert check_shards(folder / "out") == []


@pytest.mark.parametrize("alphabet", ["dna", "rna", "protein"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
@settings(max_examples=2, deadline=None)
@given(data=st.data())
def test_rows_come_back_with_their_values(kind, alphabet, data, tmp_path_factory):
    texts, window, stride, at_once = data.draw(cases(alphabet))
    table = [{"sequence": text, "label": f'"{k},\n'} for k, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("rows")
    path = folder / f"t.{kind}"
    if kind == "csv":
        cells = (row["label"].replace('"', '""') for row in table)
        lines = [f'{row["sequence"]},"{cell}"' for row, cell in zip(table, cells, strict=True)]
        path.write_text("sequence,label\n" + "\n".join(lines) + "\n")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(table), path)
    else:
        path.write_text(json.dumps(table) if kind == "json" else "\n".join(map(json.dumps, table)))
    tokenizer = {"dna": "nucleotide"}.get(alphabet, alphabet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collected, "LETTERS_AT_ONCE", at_once)
        reading = Reading(keep=("label",))
        tokenize_genomes(
            [path], folder / "out", tokenizer=tokenizer, window=window, stride=stride, reading=reading
        )
    sequences = [(f"row{k}", row["sequence"], row["label"]) for k, row in enumerate(table, 1)]
    assert found(folder / "out", column="label") == wanted(sequences, window, stride, alphabet)
    assert check_shards(folder / "out") == []


@quick
@given(case=cases("protein"))
def test_proteins_come_back(case, tmp_path_factory):
    texts, window, stride, at_once = case
    folder = tmp_path_factory.mktemp("proteins")
    fasta = write(folder / "p.faa", {f"p{k}": text for k, text in enumerate(texts)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collected, "LETTERS_AT_ONCE", at_once)
        tokenize_genomes([fasta], folder / "out", tokenizer="protein", window=window, stride=stride)
    sequences = [(f"p{k}", text, None) for k, text in enumerate(texts)]
    assert found(folder / "out") == wanted(sequences, window, stride, "protein")


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), max_size=9), window=st.integers(1, 12), data=st.data())
def test_places_of_windows(lengths, window, data):
    stride = data.draw(st.integers(1, window))
    letters = np.arange(sum(lengths))
    of, starts, places, offsets = places_of_windows(np.array(lengths, int), window, stride)
    rows = [row.tolist() for row in np.split(letters[places], offsets[1:-1])] if len(of) else []
    ends = np.cumsum(lengths)
    expected = [
        (k, start, part)
        for k, (length, end) in enumerate(zip(lengths, ends.tolist(), strict=True))
        for start, part in sliced(letters[end - length : end].tolist(), window, stride)
    ]
    assert list(zip(of.tolist(), starts.tolist(), rows, strict=True)) == expected


def test_what_the_manifest_says_of_reads(tmp_path):
    reads = [
        ("a", "ACGTN", [40] * 5),
        ("b", "ggtta", [5] * 5),
        ("c", "NNN", [40] * 3),
        ("d", "ACG", [40, 2, 40]),
    ]
    reading = Reading(min_quality=10, mask_quality=3)
    path = fastq(tmp_path / "r.fastq", reads)
    made = tokenize_genomes([path], tmp_path / "out", window=4, reading=reading, test=["d"], qualities=True)
    assert made.sources == [{
        "sha256": sha256_of(path), "genome": "r", "file": "r.fastq", "format": "fastq", "alphabet": "dna",
        "qualities": True, "min_quality": 10, "mask_quality": 3, "dropped_reads": 1,
    }]  # fmt: skip
    assert made.contigs == []
    assert made.collections == [
        Collection("r", "train", 2, 8, 5, 4, 0, windows=1, dropped_windows=2),
        Collection("r", "test", 1, 3, 3, 1, 0, windows=1),
    ]
    assert read_manifest(tmp_path / "out")[1] == made
    assert made.counts()["train"] == {
        "contigs": 2, "windows": 1, "letters": 8, "ambiguous": 4, "soft_masked": 0,
    }  # fmt: skip
    assert found(tmp_path / "out", "test") == [("d", 0, "ANG", [40, 2, 40])]
    assert ShardDataset(tmp_path / "out", "test").qualities(0, reverse=True).tolist() == [40, 2, 40]


def test_splits_of_a_table(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("sequence\tpart\tid\nAC\ttrain\ta\nGT\tvalidation\tb\nCC\ttest\tc\nGG\ttest\td\n")
    reading = Reading(split_column="part", name_column="id")
    tokenize_genomes([path], tmp_path / "out", window=4, reading=reading, valid=["t:d"])
    texts = {
        split: [row[2] for row in found(tmp_path / "out", split)] for split in ("train", "valid", "test")
    }
    assert texts == {"train": ["AC"], "valid": ["GT", "GG"], "test": ["CC"]}
    with pytest.raises(InputError, match="the contig 'row1', named for test, is in none"):
        tokenize_genomes([path], tmp_path / "out", reading=reading, test=["row1"])


def test_sources_of_several_kinds_together(tmp_path):
    """What one has and another lacks is empty."""
    table = tmp_path / "t.csv"
    table.write_text("sequence,description\nACGT,x\n")
    fasta = write(tmp_path / "g.fa", {"c": "GGGG"})
    reads = fastq(tmp_path / "r.fq", [("r", "TTTT", [1, 2, 3, 4])])
    reading = Reading(keep=("description",))
    tokenize_genomes([table, fasta, reads], tmp_path / "out", window=9, reading=reading, qualities=True)
    assert [row[:3] for row in found(tmp_path / "out")] == [
        ("row1", 0, "ACGT"),
        ("c", 0, "GGGG"),
        ("r", 0, "TTTT"),
    ]
    assert [row[3] for row in found(tmp_path / "out")] == [None, None, [1, 2, 3, 4]]
    assert [row[3] for row in found(tmp_path / "out", column="description")] == ["x", "described", ""]
    assert check_shards(tmp_path / "out") == []
    with pytest.raises(InputError, match="the column 'label' was not kept; there are description"):
        ShardDataset(tmp_path / "out", "train").value(0, "label")


def test_sequences_of_one_name_stay_apart(tmp_path):
    fasta = tmp_path / "p.faa"
    fasta.write_text(">p\nMKV\n>p\nMKVLA\n>q\nCC\n>p\nM\n")
    tokenize_genomes([fasta], tmp_path / "out", tokenizer="protein", window=2)
    decode = load_tokenizer("protein").decode
    stretches = [(w.contig, decode(ids)) for w, ids in contig_sequences(tmp_path / "out", "train")]
    assert stretches == [("p", "MKV"), ("p/2", "MKVLA"), ("q", "CC"), ("p", "M")]


def test_a_mixture_of_all_three(tmp_path):
    texts = {"dna": random_letters(60), "rna": random_letters(60, alphabet="ACGU")}
    texts["protein"] = random_letters(60, alphabet=RESIDUES)
    folders = []
    for alphabet, text in texts.items():
        fasta = write(tmp_path / f"{alphabet}.fa", {alphabet: text})
        folders.append(tmp_path / "shards" / alphabet)
        tokenize_genomes([fasta], folders[-1], tokenizer="biological", alphabets=[alphabet], window=20)
    merged = merge_manifests(folders, tmp_path / "all")
    assert [source["alphabet"] for source in merged.sources] == list(texts)
    rows = found(tmp_path / "all")
    assert {name: "".join(row[2] for row in rows if row[0] == name) for name in texts} == texts
    both = [tmp_path / f"{alphabet}.fa" for alphabet in texts]
    tokenize_genomes(both, tmp_path / "one", tokenizer="biological", alphabets=list(texts), window=20)
    assert found(tmp_path / "one") == rows
    assert check_shards(tmp_path / "all") == []
    tokenizer = load_tokenizer("biological")
    ids = {tuple(window.ids.tolist()) for window in ShardDataset(tmp_path / "all", "train")}
    seen = set()
    batches = TrainingBatches(ShardDataset(tmp_path / "all", "train"), 9, 0, both_strands=True)
    for _ in range(2):
        batch = next(batches)
        assert (batch.labels[:, 1:] >= 0).all()
        seen |= {tuple(row) for row in batch.input_ids[:, 1:].tolist()}
    opposite = {tuple(tokenizer.reverse_complement(np.array(row)).tolist()) for row in ids}
    assert seen == ids | opposite
    assert len(seen) == 3 + 2 * 6


def test_two_runs_give_the_same_bytes(tmp_path):
    path = fastq(tmp_path / "r.fq", [(f"r{k}", random_letters(30, k), [30] * 30) for k in range(50)])
    for name in ("first", "second"):
        tokenize_genomes([path], tmp_path / name, window=20, stride=7, qualities=True)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


REFUSED = [
    ("r.fq", "@r\nACGT\n+\nIIIII\n", {}, "line 4: read r has 5 qualities and 4 letters"),
    ("r.fq", "@r\nACGT\n+\n", {}, "is truncated"),
    ("r.fq", "", {}, "is empty"),
    ("r.fq", "@r\nNNNN\n+\nIIII\n", {}, "no sequence with a certain nucleotide in it"),
    ("t.csv", "seq\nACGT\n", {}, "no column 'sequence'; there are seq"),
    (
        "t.csv",
        "sequence,ids\nACGT,1\n",
        {"reading": Reading(keep=("ids",))},
        "the column 'ids' cannot be kept",
    ),
    ("p.fa", ">p\nMKVL\n", {}, "contig p, position 4: 'L' is no nucleotide letter"),
    ("p.fa", ">p\nXXX\n", {"tokenizer": "protein"}, "no sequence with a certain amino acid in it"),
    (
        "p.fa",
        ">p\nACG\n",
        {"tokenizer": "biological"},
        "several alphabets; say with --alphabet which: dna, rna",
    ),
    ("p.fa", ">p\nACG\n", {"alphabets": ["protein"]}, "take 'protein', or 'biological' for mixtures"),
    ("p.fa", ">p\nACG\n", {"alphabets": ["dna", "rna"]}, "2 alphabets were given for 1 sources"),
    ("p.fa", ">p\nACG\n", {"alphabets": ["xna"]}, "alphabet 'xna' is unknown"),
]


@pytest.mark.parametrize(("name", "text", "options", "sentence"), REFUSED, ids=[row[3] for row in REFUSED])
def test_bad_input_is_said_and_leaves_nothing(name, text, options, sentence, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as error:
        tokenize_genomes([path], tmp_path / "folder" / "out", window=4, **options)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.glob("folder/*")) + list(tmp_path.glob("folder/.*")) == []


def test_intervals_are_those_of_contigs(tmp_path):
    bed = tmp_path / "x.bed"
    bed.write_text("r\t0\t2\n")
    path = fastq(tmp_path / "r.fq", [("r", "ACGT", [30] * 4)])
    with pytest.raises(InputError, match="contigs of FASTA, and these are fastq"):
        tokenize_genomes([path], tmp_path / "out", window=4, exclude=bed)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `genotok tokenize` in this process; gives the exit code and what it said on stderr."""

    def call(*words, data=b""):
        monkeypatch.setattr(sys, "argv", ["genotok", "tokenize", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr().err

    return call


def test_the_command(run, tmp_path):
    reads = fastq(tmp_path / "r.fq", [("a", "ACGT", [30] * 4), ("b", "ACGT", [1] * 4)]).read_bytes()
    piped = pa.Codec("zstd").compress(reads, asbytes=True)
    done = run(
        "-", "--format", "fastq", "--min-quality", 20, "--qualities", "-o", tmp_path / "one", data=piped
    )
    assert done[0] == 0, done
    assert found(tmp_path / "one") == [("a", 0, "ACGT", [30] * 4)]
    protein, rna = write(tmp_path / "p.faa", {"p": "MKVL"}), write(tmp_path / "r.fa", {"r": "ACGU"})
    done = run(
        protein, rna, "--alphabet", "protein", "--alphabet", "rna", "-o", tmp_path / "two", "--valid", "r"
    )
    assert done[0] == 0, done
    assert read_manifest(tmp_path / "two")[1].tokenizer == "biological"
    assert [found(tmp_path / "two", split)[0][2] for split in ("train", "valid")] == ["MKVL", "ACGU"]
    table, bed = tmp_path / "t.csv", tmp_path / "x.bed"
    table.write_text("seq,label,id\nACGT,1,x\n")
    bed.write_text("r\t1\t3\tz\t0\t-\n")
    words = ("--sequence-column", "seq", "--name-column", "id", "--keep", "label", "--keep", "id")
    done = run(
        table,
        *words,
        "-o",
        tmp_path / "three",
        "--test",
        "x",
        f"file://{table}",
        "--name",
        "t",
        "--name",
        "u",
    )
    assert done[0] == 0, done
    assert found(tmp_path / "three", "test", "label") == [("x", 0, "ACGT", "1")] * 2
    done = run(rna, "--regions", bed, "-o", tmp_path / "four", "--alphabet", "rna")
    assert done[0] == 0, done
    assert found(tmp_path / "four") == [("r:2-3(-)", 0, "CG", None)]


def test_bad_input_of_the_command(run, tmp_path):
    """Exit code 2, one sentence, and nothing is left."""
    (tmp_path / "cut.fa.zst").write_bytes(
        pa.Codec("zstd").compress(b">a\n" + b"ACGT" * 999, asbytes=True)[:-3]
    )
    cases = (
        ([tmp_path / "cut.fa.zst"], b"", "cut.fa.zst: is truncated (the zstd stream breaks off)"),
        (["memory://nothing/here.fa"], b"", "memory://nothing/here.fa: cannot be read"),
        (["-"], b"", "standard input: is empty"),
        (["-", "--keep", "label"], b"@r\nA\n+\nI\n", "has no column 'label'"),
    )
    for words, data, sentence in cases:
        code, text = run(*words, "-o", tmp_path / "out", data=data)
        said = [line for line in text.splitlines() if line.startswith("genotok: ")]
        assert (code, len(said)) == (2, 1), text
        assert sentence in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["cut.fa.zst"]


@pytest.mark.parametrize("alphabet", ["protein", "dna"])
def test_sequences_of_two_splits(alphabet, tmp_path):
    """A row that stands in train is found in test, and left out of it; a protein read backwards is another one."""
    text = random_letters(60, alphabet=letters_of[alphabet][:-1])
    texts = {"train": [text, random_letters(60, 1)], "test": [text, random_letters(60, 2), text[::-1]]}
    path = tmp_path / "t.jsonl"
    rows = [{"sequence": one, "split": split} for split, some in texts.items() for one in some]
    path.write_text("\n".join(map(json.dumps, rows)))
    reading, tokenizer = Reading(split_column="split"), {"dna": "nucleotide"}.get(alphabet, alphabet)
    made = tokenize_genomes(
        [path], tmp_path / "out", tokenizer=tokenizer, window=60, reading=reading, deduplicate="drop"
    )
    assert [pair["exact"] for pair in made.leakage["pairs"]] == [1]
    assert [row[2] for row in found(tmp_path / "out", "test")] == texts["test"][1:]
    assert [(one.split, one.windows, one.dropped_windows) for one in made.collections] == [
        ("train", 2, 0),
        ("test", 2, 1),
    ]
    assert check_shards(tmp_path / "out") == []
