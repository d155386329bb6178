"""Shards with entropies: what the columns hold, and that an interrupted call goes on."""

import numpy as np
import pyarrow as pa
import pytest
from fasta_files import random_letters, write

from genotok.errors import InputError
from genotok.shards import entropies
from genotok.shards.entropies import annotate_shards
from genotok.shards.manifest import merge_manifests, read_manifest
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer

NUCLEOTIDE = load_tokenizer("nucleotide")
MODEL = "ab" * 32


def one_value(ids):
    """Values that tell the window, the place and the strand: for the start token and each letter."""
    weighted = np.cumsum(ids.astype(np.float64) * np.arange(1, len(ids) + 1))
    return np.sin(np.concatenate([[ids[0]], weighted])).astype(np.float32)


def some_entropies(windows):
    return [one_value(ids) for ids in windows]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("entropies")
    contigs = {
        "a": random_letters(140, alphabet="ACGTN"),
        "b": random_letters(50, 1),
        "c": random_letters(9, 2),
    }
    fasta = write(folder / "g.fa", contigs)
    tokenize_genomes([fasta], folder / "out", window=12, stride=7, valid=["b"], test=["c"])
    return folder / "out"


@pytest.fixture(scope="module")
def annotated(shards):
    target = shards.parent / "annotated"
    annotate_shards(shards, target, some_entropies, MODEL)
    return target


def test_every_window_and_strand(shards, annotated):
    for split in ("train", "valid", "test"):
        plain, found = ShardDataset(shards, split), ShardDataset(annotated, split)
        assert len(plain) == len(found)
        for index in range(len(plain)):
            before, after = plain[index], found[index]
            assert (before.contig, before.start) == (after.contig, after.start)
            assert np.array_equal(before.ids, after.ids)
            assert np.array_equal(before.ambiguous, after.ambiguous)
            opposite = NUCLEOTIDE.reverse_complement(before.ids)
            assert np.array_equal(found.entropies(index), one_value(before.ids))
            assert np.array_equal(found.entropies(index, reverse=True), one_value(opposite))


def test_the_manifest_names_the_model(shards, annotated):
    before, after = read_manifest(shards)[1], read_manifest(annotated)[1]
    assert after.entropies == {"model": MODEL, "dtype": "float32"}
    assert after.counts() == before.counts()
    assert {file.sha256 for file in after.files}.isdisjoint(file.sha256 for file in before.files)
    assert "entropies" not in (shards / "manifest.json").read_text()


def test_the_same_bytes_again(shards, annotated, tmp_path):
    annotate_shards(shards, tmp_path / "again", some_entropies, MODEL)
    for path in sorted(annotated.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_half_precision(shards, annotated, tmp_path):
    annotate_shards(shards, tmp_path / "half", some_entropies, MODEL, "float16")
    exact, half = ShardDataset(annotated, "train"), ShardDataset(tmp_path / "half", "train")
    for index in range(len(exact)):
        found = half.entropies(index)
        assert found.dtype == np.float32
        assert np.array_equal(found, exact.entropies(index).astype(np.float16))
    with pa.memory_map(str(tmp_path / "half" / "train-00000.arrow")) as file:
        assert pa.ipc.open_file(file).schema.field("entropies").type == pa.list_(pa.float16())


def test_few_windows_at_a_time(shards, annotated, tmp_path, monkeypatch):
    monkeypatch.setattr(entropies, "LETTERS_AT_ONCE", 30)
    sizes = []

    def watched(windows):
        sizes.append(len(windows))
        return some_entropies(windows)

    annotate_shards(shards, tmp_path / "out", watched, MODEL)
    assert max(sizes) == 2
    name = "train-00000.arrow"
    assert (tmp_path / "out" / name).read_bytes() == (annotated / name).read_bytes()


def test_an_interrupted_call_goes_on(shards, annotated, tmp_path):
    """Files that are finished are kept; one that is damaged, or of another model, is written again."""
    target, seen = tmp_path / "out", []

    def watched(windows):
        seen.extend(map(len, windows))
        return some_entropies(windows)

    def stopped(windows):
        if len(windows[0]) == 9:  # the contig of the last file
            raise KeyboardInterrupt
        return some_entropies(windows)

    with pytest.raises(KeyboardInterrupt):
        annotate_shards(shards, target, stopped, MODEL)
    with pytest.raises(InputError, match="no shards here"):
        read_manifest(target)
    assert [path.name for path in sorted(target.iterdir())] == ["train-00000.arrow", "valid-00000.arrow"]
    (target / "valid-00000.arrow").write_bytes(b"half")
    annotate_shards(shards, target, watched, MODEL)
    windows = {file.split: file.windows for file in read_manifest(shards)[1].files}
    assert len(seen) == 2 * (windows["valid"] + windows["test"])
    assert all((target / path.name).read_bytes() == path.read_bytes() for path in annotated.iterdir())
    seen.clear()
    annotate_shards(shards, target, watched, "cd" * 32)
    assert len(seen) == 2 * sum(windows.values())
    assert read_manifest(target)[1].entropies["model"] == "cd" * 32


@pytest.mark.parametrize("both_strands", [True, False])
def test_batches_with_entropies(shards, annotated, both_strands):
    """The same batches, and beside each token its value on the strand that is read."""
    plain = TrainingBatches(ShardDataset(shards, "train"), 5, 3, both_strands)
    found = TrainingBatches(ShardDataset(annotated, "train"), 5, 3, both_strands)
    found.column = "entropies"
    for _ in range(12):
        before, after = next(plain), next(found)
        assert before.boundary_inputs is None
        assert before.input_ids.equal(after.input_ids)
        assert after.boundary_inputs.shape == after.input_ids.shape
        for ids, values, length in zip(after.input_ids, after.boundary_inputs, after.lengths, strict=True):
            wanted = one_value(ids[1:length].numpy().astype(np.uint8))
            assert np.array_equal(values[:length].numpy(), wanted)
            assert not values[length:].any()


def test_merged_shards_must_agree(shards, annotated, tmp_path):
    other = write(tmp_path / "h.fa", {"d": random_letters(60, 3)})
    tokenize_genomes([other], tmp_path / "h", window=12, stride=7)
    with pytest.raises(InputError, match="entropies is None and that of"):
        merge_manifests([annotated, tmp_path / "h"], tmp_path / "merged")
    annotate_shards(tmp_path / "h", tmp_path / "h2", some_entropies, MODEL)
    assert merge_manifests([annotated, tmp_path / "h2"], tmp_path / "merged").entropies["model"] == MODEL
    # Two files of one name in their own folders, which become two in one folder.
    merge_manifests([shards, tmp_path / "h"], tmp_path / "plain")
    annotate_shards(tmp_path / "plain", tmp_path / "both", some_entropies, MODEL)
    merged, both = (ShardDataset(tmp_path / name, "train") for name in ("merged", "both"))
    assert len(merged) == len(both)
    assert all(np.array_equal(merged.entropies(i), both.entropies(i)) for i in range(len(both)))


def test_what_cannot_be_annotated(shards, annotated, tmp_path):
    with pytest.raises(InputError, match="are the shards themselves"):
        annotate_shards(shards, shards.parent / "out", some_entropies, MODEL)
    with pytest.raises(InputError, match="has the entropies of model abababababab already"):
        annotate_shards(annotated, tmp_path / "twice", some_entropies, MODEL)
    with pytest.raises(InputError, match="dtype: 'float8' is unknown; there are float32, float16"):
        annotate_shards(shards, tmp_path / "small", some_entropies, MODEL, "float8")
    assert not list(tmp_path.iterdir())
    assert len(ShardDataset(shards, "test")) == 1  # the shards are as they were
