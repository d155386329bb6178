"""`genotok shards check` finds every kind of damage."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from fasta_files import random_letters, write
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.shards.boundaries import add_boundaries
from genotok.shards.check import check_shards
from genotok.shards.manifest import merge_manifests
from genotok.shards.writer import tokenize_genomes

CONTIGS = {"a": random_letters(90, alphabet="ACGTNacgt"), "b": random_letters(50, 1), "n": "N" * 40}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    fasta = write(folder / "g.fa", CONTIGS)
    tokenize_genomes([fasta], folder / "out", window=20, stride=15, valid=["b"])
    return folder / "out"


@pytest.fixture
def shards(made, tmp_path):
    return shutil.copytree(made, tmp_path / "shards")


def run(*arguments):
    command = [sys.executable, "-m", "genotok", "shards", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_good_shards(shards, tmp_path):
    assert check_shards(shards) == check_shards(shards / "manifest.json") == []
    done = run(shards)
    assert done.returncode == 0
    assert done.stdout == f"{shards}: 2 files with 9 windows and 175 letters are as they were written\n"
    (tmp_path / "x.bed").write_text("a\t3\t9\n")
    add_boundaries(shards, tmp_path / "x.bed", tmp_path / "more")
    merge_manifests([tmp_path / "more"], tmp_path / "all")
    assert check_shards(tmp_path / "more") == check_shards(tmp_path / "all") == []


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found(made, data, tmp_path_factory):
    shards = shutil.copytree(made, tmp_path_factory.mktemp("flip") / "shards")
    path = shards / "train-00000.arrow"
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    problems = check_shards(shards)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: ")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_the_manifest_is_found(made, data, tmp_path_factory):
    """Also in what nothing else depends on, such as the name of a source or the windows that were dropped."""
    path = tmp_path_factory.mktemp("flip") / "manifest.json"
    content = bytearray((made / "manifest.json").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    for name in ("train-00000.arrow", "valid-00000.arrow"):
        (path.parent / name).symlink_to(made / name)
    try:
        problems = check_shards(path.parent)
    except InputError as error:
        problems = [str(error)]
    assert problems
    assert problems[0].startswith((str(path), str(path.parent)))


def test_a_word_of_the_manifest_that_nothing_depends_on(shards):
    path = shards / "manifest.json"
    path.write_text(path.read_text().replace('"g.fa"', '"h.fa"'))
    assert check_shards(shards) == [f"{path}: has changed since it was written; run `genotok tokenize` again"]


def test_the_command_says_each_problem_on_a_line(shards):
    path = shards / "train-00000.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (shards / "valid-00000.arrow").unlink()
    shutil.copy(path, shards / "test-00000.arrow")
    done = run(shards)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0] == f"{shards / 'test-00000.arrow'}: is not in the manifest"
    assert lines[1].startswith(f"{path}: has changed since it was written: its SHA-256 is ")
    assert lines[2] == f"{shards / 'valid-00000.arrow'}: cannot be read: No such file or directory"


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file(share, shards):
    path = shards / "train-00000.arrow"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert [line.split(": not a readable shard")[0] for line in check_shards(shards)] == [str(path)]


def change_manifest(shards, change):
    path = shards / "manifest.json"
    values = json.loads(path.read_text())
    del values["checksum"]  # as earlier versions wrote it: what does not fit is found without it
    change(values)
    path.write_text(json.dumps(values))


MANIFESTS = [
    (
        lambda m: m["files"][0].update(windows=7),
        ["its counts are not the sums", "does not hold the 7 windows"],
    ),
    (lambda m: m["files"][0].update(bases=7), ["holds 115 letters, and the manifest says 7"]),
    (lambda m: m["files"][0].update(split="test"), ["its counts are not", "g:a is of the split train"]),
    (
        lambda m: m["contigs"][0].update(windows=5),
        ["the files hold 6 windows of the contig g:a, and the manifest"],
    ),
    (
        lambda m: m["contigs"][0].update(name="q"),
        ["g:a is no contig of the manifest", "hold 0 windows of the contig"],
    ),
    (lambda m: m["contigs"].append(m["contigs"][2]), ["its counts are not", "names the contig g:n 2 times"]),
    (lambda m: m.update(window=19), ["window 0: has 20 letters, and should have from 1 to 19"] * 2),
    (
        lambda m: m["counts"]["train"].update(letters=1),
        ["its counts are not the sums of its contigs and files"],
    ),
    (lambda m: m.update(boundaries=[]), ["has no column 'boundaries'"] * 2),
    (lambda m: m.update(tokenizer="hyenadna"), ["letters are marked as ambiguous that are not"] * 2),
]


@pytest.mark.parametrize(("change", "sentences"), MANIFESTS)
def test_a_manifest_that_does_not_fit(change, sentences, shards):
    change_manifest(shards, change)
    problems = check_shards(shards)
    assert len(problems) == len(sentences)
    for problem, sentence in zip(problems, sentences, strict=True):
        assert sentence in problem
        assert "\n" not in problem


def as_lists(rows, kind):
    return pa.array(rows, pa.list_(kind))


def rewritten(shards, change):
    """Write the first file again with some of its columns changed, and the manifest to fit its hash."""
    path = shards / "train-00000.arrow"
    table = pa.ipc.open_file(path).read_all()
    columns = {name: table[name].combine_chunks() for name in table.schema.names}
    columns.update(change({name: column.to_pylist() for name, column in columns.items()}))
    with pa.ipc.new_file(path, pa.schema([(name, column.type) for name, column in columns.items()])) as sink:
        sink.write_table(pa.table(columns))
    change_manifest(shards, lambda values: values["files"][0].update(sha256=sha256_of(path)))


def shorter(rows, row):
    return [values[:-1] if i == row else values for i, values in enumerate(rows)]


def other(rows, row, value):
    return [[value, *values[1:]] if i == row else values for i, values in enumerate(rows)]


CONTENTS = [
    (
        lambda c: {"ambiguous": as_lists(shorter(c["ambiguous"], 3), pa.bool_())},
        ["window 3: has 20 letters, and 19 values of 'ambiguous'"],
    ),
    (
        lambda c: {"soft_masked": as_lists(shorter(c["soft_masked"], 5), pa.bool_())},
        ["window 5: has 15 letters, and 14 values of 'soft_masked'"],
    ),
    (
        lambda c: {"ids": as_lists(other(c["ids"], 2, 12), pa.uint8())},
        ["window 2: 12 is no id of the tokenizer"],
    ),
    (
        lambda c: {"ids": as_lists(other(c["ids"], 4, 4), pa.uint8())},
        ["window 4: letters are marked as ambiguous"],
    ),
    (
        lambda c: {"ids": as_lists(c["ids"], pa.int16())},
        ["the column 'ids' is of list<item: int16>, and should be"],
    ),
    (lambda c: {"start": pa.array([*c["start"][:-1], 76])}, ["window 5: g:a from 76 on has no 15 letters"]),
    (lambda c: {"start": pa.array([-1, *c["start"][1:]])}, ["window 0: g:a from -1 on has no 20 letters"]),
    (lambda c: {"start": pa.array([None, *c["start"][1:]])}, ["windows from 0: there are empty cells"]),
]


@pytest.mark.parametrize(("change", "sentences"), CONTENTS)
def test_contents_that_are_wrong_though_the_hash_is_right(change, sentences, shards):
    rewritten(shards, change)
    problems = [line for line in check_shards(shards) if "windows of the contig" not in line]
    assert [
        problem.split(": ", 1)[1][: len(s)] for problem, s in zip(problems, sentences, strict=True)
    ] == sentences


def test_offsets_that_lead_nowhere(shards):
    def broken(columns):
        offsets = np.cumsum([0, *map(len, columns["ids"])]).astype(np.int32)
        offsets[3] = offsets[2] - 1
        values = pa.array(np.concatenate(columns["ids"]).astype(np.uint8))
        return {"ids": pa.ListArray.from_arrays(pa.array(offsets), values)}

    rewritten(shards, broken)
    assert "Negative offsets" in check_shards(shards)[0] or "offset" in check_shards(shards)[0]


def test_no_shards(tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no shards here" in done.stderr
