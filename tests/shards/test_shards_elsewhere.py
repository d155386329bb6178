"""Shards in torch without a copy, and in Hugging Face's `datasets`."""

import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch
from fasta_files import random_letters, write
from test_tokenize_genomes import rows

from genotok.shards.reader import ShardDataset
from genotok.shards.writer import tokenize_genomes


@pytest.fixture
def shards(tmp_path):
    contigs = {"a": random_letters(5000, alphabet="ACGTNacgt"), "b": random_letters(300, 1)}
    fasta = write(tmp_path / "g.fa", contigs, width=60)
    tokenize_genomes([fasta], tmp_path / "out", window=128, test=["b"])
    return tmp_path / "out"


def test_a_tensor_is_the_memory_of_the_file(shards):
    """What another program writes into the file appears in the tensor, since it is the same page."""
    dataset = ShardDataset(shards, "train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = [dataset.ids_tensor(index) for index in range(len(dataset))]
    for index, tensor in enumerate(tensors):
        assert tensor.dtype == torch.uint8
        assert tensor.tolist() == dataset[index].ids.tolist()
        assert tensor.data_ptr() == dataset[index].ids.ctypes.data
    path = shards / "train-00000.arrow"
    at = path.read_bytes().index(bytes(tensors[3].tolist()))
    with open(path, "r+b") as file:
        file.seek(at + 5)
        file.write(bytes([9]))
    assert tensors[3][5] == 9
    assert dataset[3].ids[5] == 9


def test_a_tensor_outlives_its_dataset(shards):
    dataset = ShardDataset(shards, "test")
    wanted, tensor = dataset[1].ids.tolist(), dataset.ids_tensor(1)
    del dataset
    assert tensor.tolist() == wanted


def test_opening_reads_no_letters(tmp_path):
    """Memory stays far below the size of the shards."""
    fasta = tmp_path / "g.fa"
    fasta.write_bytes(b">a\n" + np.frombuffer(b"ACGT", np.uint8)[np.arange(4_000_000) % 3].tobytes() + b"\n")
    tokenize_genomes([fasta], tmp_path / "out")
    allocated = pa.total_allocated_bytes()
    dataset = ShardDataset(tmp_path / "out", "train")
    tensors = [dataset.ids_tensor(index) for index in range(0, len(dataset), 10)]
    assert sum(map(len, tensors)) > 400_000
    assert pa.total_allocated_bytes() - allocated < 100_000


def test_making_shards_imports_no_torch():
    code = "import sys, genotok.shards.writer, genotok.shards.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_hugging_face_reads_shards(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    files = {split: str(shards / f"{split}-00000.arrow") for split in ("train", "test")}
    loaded = load_dataset("arrow", data_files=files, cache_dir=str(tmp_path / "cache"))
    for split in files:
        assert list(loaded[split]) == rows(shards, split)
    assert loaded["train"].features["ids"].feature.dtype == "uint8"
    streamed = load_dataset("arrow", data_files=files, split="test", streaming=True)
    assert list(streamed) == rows(shards, "test")
    ids = loaded["test"].with_format("torch")[0]["ids"]
    assert ids.tolist() == ShardDataset(shards, "test")[0].ids.tolist()
