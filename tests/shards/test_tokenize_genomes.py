"""FASTA to shards and back."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pysam
import pytest
from fasta_files import CERTAIN, random_letters, sliced, write
from full_disk import files_at_most
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.genomes.records import source_name
from genotok.shards import split_writer
from genotok.shards.manifest import read_manifest
from genotok.shards.reader import ShardDataset, contig_sequences
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer

AWKWARD = {
    "plain": "ACGTACGTACGTAC",
    "masked": "ACGTacgtACGTnnNNNNNNNNNNNNNNNNNNnacg",
    "codes": "ARYSWKMBDHVNTuU",
    "empty": "",
    "only_n": "N" * 25,
    "one": "g",
}


def rows(folder, split="train"):
    """All columns of a split, as Arrow itself reads them."""
    found = []
    for file in sorted(folder.glob(f"{split}-*.arrow")):
        found += pa.ipc.open_file(file).read_all().to_pylist()
    return found


def expected_rows(genome, contigs, window, stride, tokenizer="nucleotide"):
    encode = load_tokenizer(tokenizer).encode
    return [
        {
            "genome": genome,
            "contig": name,
            "start": start,
            "ids": encode(text.upper()),
            "ambiguous": [letter not in CERTAIN for letter in text],
            "soft_masked": [letter.islower() for letter in text],
        }
        for name, letters in contigs.items()
        for start, text in sliced(letters, window, stride)
        if set(text) & CERTAIN
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("tokenizer", ["nucleotide", "byte"])
@pytest.mark.parametrize(("window", "stride"), [(10, None), (10, 10), (10, 3), (100, 7), (1, 1)])
def test_awkward_contigs(window, stride, tokenizer, tmp_path):
    fasta = write(tmp_path / "g.fa", AWKWARD)
    tokenize_genomes([fasta], tmp_path / "out", tokenizer=tokenizer, window=window, stride=stride)
    assert rows(tmp_path / "out") == expected_rows("g", AWKWARD, window, stride or window, tokenizer)


@settings(max_examples=25, deadline=None)
@given(
    contigs=st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.text("ACGTNacgn", max_size=60), min_size=1
    ),
    window=st.integers(1, 30),
)
def test_random_contigs(contigs, window, tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    contigs["z"] = "A"
    tokenize_genomes([write(folder / "g.fa", contigs)], folder / "out", window=window)
    assert rows(folder / "out") == expected_rows("g", contigs, window, window)


def test_manifest_counts(tmp_path):
    fasta = write(tmp_path / "g.fa", AWKWARD)
    made = tokenize_genomes([fasta], tmp_path / "out", window=10, valid=["codes"], test=["g:masked"])
    folder, manifest = read_manifest(tmp_path / "out")
    assert (folder, manifest) == (tmp_path / "out", made)
    assert manifest.sources == [
        {"genome": "g", "file": "g.fa", "sha256": sha256_of(fasta), "format": "fasta", "alphabet": "dna"}
    ]
    for contig, (name, letters) in zip(manifest.contigs, AWKWARD.items(), strict=True):
        cut = [set(text) & CERTAIN for _, text in sliced(letters, 10, 10)]
        assert (contig.genome, contig.name, contig.length) == ("g", name, len(letters))
        assert contig.split == {"codes": "valid", "masked": "test"}.get(name, "train")
        assert contig.ambiguous == sum(letter not in CERTAIN for letter in letters)
        assert contig.soft_masked == sum(letter.islower() for letter in letters)
        assert contig.windows == sum(map(bool, cut))
        assert contig.dropped_windows == len(cut) - contig.windows
    assert [(file.path, file.split) for file in manifest.files] == [
        ("train-00000.arrow", "train"),
        ("valid-00000.arrow", "valid"),
        ("test-00000.arrow", "test"),
    ]
    for file in manifest.files:
        assert file.sha256 == sha256_of(folder / file.path)
        assert file.windows == len(rows(folder, file.split))
        assert file.bases == sum(len(row["ids"]) for row in rows(folder, file.split))
    assert json.loads((folder / "manifest.json").read_text())["counts"]["test"] == {
        "contigs": 1,
        "windows": 3,
        "letters": 36,
        "ambiguous": 21,
        "soft_masked": 10,
    }


def test_files_of_bounded_size(tmp_path, monkeypatch):
    contigs = {f"c{i}": random_letters(90, i) for i in range(5)}
    fasta = write(tmp_path / "g.fa", contigs)
    monkeypatch.setattr(split_writer, "LETTERS_A_FILE", 150)
    manifest = tokenize_genomes([fasta], tmp_path / "out", window=20)
    assert [file.bases for file in manifest.files] == [170, 180, 100]
    assert rows(tmp_path / "out") == expected_rows("g", contigs, 20, 20)
    assert all(file.sha256 == sha256_of(tmp_path / "out" / file.path) for file in manifest.files)


@pytest.mark.parametrize("packing", ["gzip", "bgzf"])
def test_packing_makes_no_difference(packing, tmp_path):
    contigs = {"a": random_letters(300_000, alphabet="ACGTacgtN"), "b": random_letters(7)}
    plain = write(tmp_path / "g.fa", contigs, width=60)
    packed = tmp_path / "g.fa.gz"
    if packing == "gzip":
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        with pysam.BGZFile(str(packed), "wb") as handle:
            handle.write(plain.read_bytes())
    found = []
    for fasta, name in ((plain, "plain"), (packed, "packed")):
        tokenize_genomes([fasta], tmp_path / name, window=1000, stride=900, valid=["b"])
        files = contents(tmp_path / name)
        manifest = json.loads(files.pop("manifest.json"))
        assert manifest.pop("sources")[0]["file"] == fasta.name
        assert manifest.pop("checksum")
        found.append((files, manifest))
    assert found[0] == found[1]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("width", [1, 60])
def test_line_ends_make_no_difference(line_end, final, width, tmp_path):
    fasta = write(tmp_path / "g.fa", AWKWARD, width, line_end)
    if not final:
        fasta.write_bytes(fasta.read_bytes().removesuffix(line_end.encode()))
    tokenize_genomes([fasta], tmp_path / "out", window=10)
    assert rows(tmp_path / "out") == expected_rows("g", AWKWARD, 10, 10)


def test_two_runs_give_the_same_bytes(tmp_path):
    fastas = [write(tmp_path / "a.fa", AWKWARD), write(tmp_path / "b.fa", {"x": random_letters(999)})]
    for name in ("first", "second"):
        tokenize_genomes(fastas, tmp_path / name, window=50, stride=20, test=["x"])
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_a_second_run_takes_the_place_of_the_first(tmp_path):
    fasta = write(tmp_path / "g.fa", AWKWARD)
    tokenize_genomes([fasta], tmp_path / "out", window=10, valid=["codes"], test=["masked"])
    tokenize_genomes([fasta], tmp_path / "out", window=10)
    assert sorted(contents(tmp_path / "out")) == ["manifest.json", "train-00000.arrow"]


def splits(manifest):
    return {f"{contig.genome}:{contig.name}": contig.split for contig in manifest.contigs}


def test_splits_by_contig_and_by_genome(tmp_path):
    contigs = {"1": "ACGT", "2": "ACGT", "HLA-A*01:01": "ACGT"}
    fastas = [write(tmp_path / "one.fa", contigs), write(tmp_path / "two.fna", contigs)]
    manifest = tokenize_genomes(fastas, tmp_path / "out", valid=["1", "HLA-A*01:01"], test=["two:1", "one:2"])
    assert splits(manifest) == {
        "one:1": "valid",
        "one:2": "test",
        "one:HLA-A*01:01": "valid",
        "two:1": "test",
        "two:2": "train",
        "two:HLA-A*01:01": "valid",
    }
    manifest = tokenize_genomes(fastas, tmp_path / "out", rest="test", valid=["a:1"], names=["a", "b"])
    assert set(splits(manifest)) == {f"{genome}:{name}" for genome in "ab" for name in contigs}
    assert [name for name, split in splits(manifest).items() if split == "valid"] == ["a:1"]
    assert set(splits(manifest).values()) == {"valid", "test"}


@pytest.mark.parametrize("name", ["g.fa", "g.fasta", "g.fna", "g.fa.gz", "g.fna.bgz", "g"])
def test_names_of_genomes(name, tmp_path):
    assert source_name(tmp_path / name) == "g"


REFUSED = [
    (">a\nACGT\n>a\nACGT\n", {}, "contig name a occurs twice, in line 1 and in line 3"),
    (">a\nACGJ\n", {}, "contig a, position 4: 'J' is no nucleotide letter"),
    ("", {}, "is empty"),
    (">a\nNNNN\n>b\n", {}, "no sequence with a certain nucleotide"),
    (None, {}, "cannot be read"),
    (">a\nACGT\n", {"valid": ["b"]}, "the contig 'b', named for valid, is in none of the FASTA files"),
    (">a\nACGT\n", {"test": ["h:a"]}, "the contig 'h:a', named for test, is in none"),
    (">a\nACGT\n", {"valid": ["a"], "test": ["a"]}, "the contig 'a' is named for both valid and test"),
    (">a\nACGT\n", {"window": 0}, "window 0 and stride 0: the stride must be from 1 to the window"),
    (">a\nACGT\n", {"window": 4, "stride": 5}, "window 4 and stride 5"),
    (">a\nACGT\n", {"window": 4, "stride": 0}, "window 4 and stride 0"),
    (">a\nACGT\n", {"rest": "dev"}, "'dev' is no split; there are train, valid, test"),
    (">a\nACGT\n", {"names": ["a", "b"]}, "2 names were given for 1 FASTA files"),
    (">a\nACGT\n", {"tokenizer": "words"}, "tokenizer 'words' is unknown"),
]


@pytest.mark.parametrize(
    ("text", "settings", "sentence"), REFUSED, ids=[sentence for *_, sentence in REFUSED]
)
def test_bad_input_is_said_and_leaves_nothing(text, settings, sentence, tmp_path):
    fasta, target = tmp_path / "g.fa", tmp_path / "folder" / "out"
    if text is not None:
        fasta.write_text(text)
    with pytest.raises(InputError) as error:
        tokenize_genomes([fasta], target, **settings)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not target.exists()
    assert list(tmp_path.glob("folder/.*")) == []


def test_an_error_leaves_earlier_shards_alone(tmp_path):
    good, bad = write(tmp_path / "good.fa", AWKWARD), write(tmp_path / "bad.fa", {"a": "ACGT" * 50_000 + "!"})
    tokenize_genomes([good], tmp_path / "out", window=10)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="position 200001"):
        tokenize_genomes([good, bad], tmp_path / "out", window=10)
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.fa", "good.fa", "out"]


def test_a_full_disk_is_said(tmp_path):
    fasta = write(tmp_path / "g.fa", {"a": random_letters(20_000)})
    with files_at_most(4096), pytest.raises(InputError, match="out: cannot be written"):
        tokenize_genomes([fasta], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["g.fa"]


def test_two_genomes_of_one_name(tmp_path):
    (tmp_path / "other").mkdir()
    fastas = [write(folder / "g.fa", AWKWARD) for folder in (tmp_path, tmp_path / "other")]
    with pytest.raises(InputError, match="two genomes are called 'g'"):
        tokenize_genomes(fastas, tmp_path / "out")
    tokenize_genomes(fastas, tmp_path / "out", names=["g", "h"])


@pytest.mark.parametrize("stride", [10, 4])
def test_contigs_come_back(stride, tmp_path):
    """Unbroken stretches, less the windows that hold ambiguous letters alone."""
    contigs = {"a": random_letters(57), "b": "ACGT" * 5 + "N" * 41 + "CCG", "a2": random_letters(10, 1)}
    contigs["c"] = "A" * 8 + "N" * 15 + "C" * 9  # overlapping windows leave two letters between them
    fastas = [write(tmp_path / f"{name}.fa", contigs) for name in ("one", "two")]
    tokenize_genomes(fastas, tmp_path / "out", window=10, stride=stride)
    wanted = []
    for genome in ("one", "two"):
        for name, letters in contigs.items():
            covered = np.zeros(len(letters), bool)
            for start, text in sliced(letters, 10, stride):
                if set(text) & CERTAIN:
                    covered[start : start + len(text)] = True
            edges = np.flatnonzero(np.diff(np.concatenate([[0], covered, [0]])))
            wanted += [(genome, name, a, letters[a:b]) for a, b in edges.reshape(-1, 2)]
    decode = load_tokenizer("nucleotide").decode
    found = [
        (w.genome, w.contig, w.start, decode(ids)) for w, ids in contig_sequences(tmp_path / "out", "train")
    ]
    assert found == wanted
    assert len(found) == 12


def test_reading_windows_by_index(tmp_path):
    contigs = {"a": random_letters(1000, alphabet="ACGTN"), "b": random_letters(30)}
    tokenize_genomes([write(tmp_path / "g.fa", contigs)], tmp_path / "out", window=16)
    dataset = ShardDataset(tmp_path / "out", "train")
    wanted = expected_rows("g", contigs, 16, 16)
    assert len(dataset) == len(wanted)
    for index in [*range(len(wanted))][::-1]:
        window = dataset[index]
        row = wanted[index]
        assert (window.genome, window.contig, window.start) == (row["genome"], row["contig"], row["start"])
        assert (window.ids.tolist(), window.ambiguous.tolist()) == (row["ids"], row["ambiguous"])
        assert window.ids.dtype == np.uint8


# Not ru_maxrss, which begins with the size of the process that this one was started from.
MEASURE = """
import re, sys
from pathlib import Path
from genotok.shards.writer import tokenize_genomes
tokenize_genomes([Path(sys.argv[1])], Path(sys.argv[2]), window=8192, stride=6000)
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_genome(tmp_path):
    line = np.frombuffer(b"ACGTACGGTTCAGGCATACGATCAGACTGACCATTTGACCAATGCAGCTGTCAGACGTCN\n", np.uint8)
    peaks = []
    for megabases in (6, 60):
        fasta = tmp_path / f"{megabases}.fa"
        fasta.write_bytes(b">one\n" + np.tile(line, megabases * 1_000_000 // 60).tobytes())
        command = [sys.executable, "-c", MEASURE, str(fasta), str(tmp_path / str(megabases))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
        assert read_manifest(tmp_path / str(megabases))[1].contigs[0].length == megabases * 1_000_000
    assert peaks[1] - peaks[0] < 20, peaks
