"""Manifests: damage, and several folders described as one."""

import json
import shutil

import pytest
from fasta_files import random_letters, write

from genotok.errors import InputError
from genotok.shards.manifest import merge_manifests, read_manifest
from genotok.shards.reader import ShardDataset
from genotok.shards.writer import tokenize_genomes


@pytest.fixture
def shards(tmp_path):
    """Two folders of shards, `one` and `two`, of a genome each."""
    folders = []
    for seed, name in enumerate(("one", "two")):
        fasta = write(
            tmp_path / f"{name}.fa", {"a": random_letters(50, seed), "b": random_letters(33, seed + 2)}
        )
        folders.append(tmp_path / "shards" / name)
        tokenize_genomes([fasta], folders[-1], window=20, valid=["b"])
    return folders


def described(dataset):
    return [(w.genome, w.contig, w.start, w.ids.tolist(), w.ambiguous.tolist()) for w in dataset]


def test_merging(shards, tmp_path):
    merged = merge_manifests(shards, tmp_path / "all" / "of" / "them")
    folder, again = read_manifest(tmp_path / "all" / "of" / "them")
    assert again == merged
    assert [source["genome"] for source in merged.sources] == ["one", "two"]
    parts = [read_manifest(shard)[1] for shard in shards]
    assert merged.contigs == parts[0].contigs + parts[1].contigs
    for split in ("train", "valid"):
        wanted = [row for shard in shards for row in described(ShardDataset(shard, split))]
        assert described(ShardDataset(folder, split)) == wanted
        for key in ("contigs", "windows", "letters", "ambiguous", "soft_masked"):
            assert merged.counts()[split][key] == sum(part.counts()[split][key] for part in parts)


def test_a_merged_folder_can_be_moved_along(shards, tmp_path):
    """The files are named relative to the manifest."""
    merge_manifests(shards, tmp_path / "shards" / "all")
    wanted = described(ShardDataset(tmp_path / "shards" / "all", "train"))
    shutil.move(tmp_path / "shards", tmp_path / "moved")
    assert described(ShardDataset(tmp_path / "moved" / "all", "train")) == wanted


def test_merging_is_the_same_twice(shards, tmp_path):
    made = []
    for _ in range(2):
        merge_manifests(shards, tmp_path / "all")
        made.append((tmp_path / "all" / "manifest.json").read_bytes())
    assert made[0] == made[1]


def test_what_cannot_be_merged(shards, tmp_path):
    with pytest.raises(InputError, match="no folders of shards"):
        merge_manifests([], tmp_path / "all")
    with pytest.raises(InputError, match="the genome 'one' is in another folder as well"):
        merge_manifests([shards[0], shards[0]], tmp_path / "all")
    for key, value in (("window", 10), ("stride", 5), ("tokenizer", "byte")):
        tokenize_genomes([tmp_path / "two.fa"], shards[1], **({"window": 20} | {key: value}))
        with pytest.raises(InputError, match=rf"two: {key} is .*; shards of one run must agree"):
            merge_manifests(shards, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def complaint(folder):
    with pytest.raises(InputError) as error:
        ShardDataset(folder, "train")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_without_shards(tmp_path):
    assert f"{tmp_path}: no shards here" in complaint(tmp_path)
    assert "nowhere: no shards here" in complaint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text[: len(text) // 2], "not a manifest of shards"),
        (lambda _: "[]", "not a manifest of shards"),
        (lambda _: '{"a": 1}', "not a manifest of shards"),
        (lambda text: text.replace('"version": 2', '"version": 99'), "written by another version of genotok"),
        (lambda text: text.replace('"version": 2,', ""), "written by another version of genotok"),
        (lambda text: text.replace('"contigs": [', '"other": ['), "damaged"),
        (lambda text: text.replace('"windows"', '"wins"'), "damaged"),
    ],
)
def test_a_damaged_manifest(change, sentence, shards):
    path = shards[0] / "manifest.json"
    path.write_text(change(path.read_text()))
    assert complaint(shards[0]).startswith(f"{path}: {sentence}")


def test_a_manifest_may_be_named_itself(shards):
    assert read_manifest(shards[0] / "manifest.json") == read_manifest(shards[0])


def test_an_empty_split(shards):
    with pytest.raises(InputError, match="one: the split 'test' holds no windows"):
        ShardDataset(shards[0], "test")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file(share, shards):
    path = shards[0] / "train-00000.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert complaint(shards[0]).startswith(f"{path}: not a readable shard")


def test_a_missing_file(shards):
    (shards[0] / "train-00000.arrow").unlink()
    assert "train-00000.arrow: not a readable shard" in complaint(shards[0])


def test_a_file_of_other_shards(shards):
    path = shards[0] / "manifest.json"
    values = json.loads(path.read_text())
    values["files"][0]["windows"] += 1
    path.write_text(json.dumps(values))
    assert "does not hold the 4 windows that its manifest names" in complaint(shards[0])
