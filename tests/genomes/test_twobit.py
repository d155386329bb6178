"""The .2bit reader, on files that the tests write byte by byte."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.genomes.formats import genome_format
from genotok.genomes.twobit import read_twobit, write_twobit

CODE = {"T": 0, "C": 1, "A": 2, "G": 3}


def runs(flags):
    """[start, size] of each run of true flags."""
    found = []
    for position, flag in enumerate(flags):
        if flag and found and found[-1][0] + found[-1][1] == position:
            found[-1][1] += 1
        elif flag:
            found.append([position, 1])
    return found


def record(sequence, order):
    """One sequence record after UCSC's description of the format."""
    unknown = runs([letter in "nN" for letter in sequence])
    masked = runs([letter.islower() for letter in sequence])
    raw = struct.pack(f"{order}I", len(sequence))
    for blocks in (unknown, masked):
        raw += struct.pack(f"{order}I", len(blocks))
        raw += b"".join(struct.pack(f"{order}I", start) for start, _ in blocks)
        raw += b"".join(struct.pack(f"{order}I", size) for _, size in blocks)
    raw += struct.pack(f"{order}I", 0)
    codes = [CODE.get(letter.upper(), 0) for letter in sequence] + [0] * (-len(sequence) % 4)
    for at in range(0, len(codes), 4):
        a, b, c, d = codes[at : at + 4]
        raw += bytes([a << 6 | b << 4 | c << 2 | d])
    return raw


def twobit(contigs, order="<", version=0):
    """A whole .2bit file."""
    offset_code = "Q" if version else "I"
    header = struct.pack(f"{order}IIII", 0x1A412743, version, len(contigs), 0)
    at = len(header) + sum(1 + len(name) + struct.calcsize(offset_code) for name in contigs)
    index, records = b"", b""
    for name, sequence in contigs.items():
        index += bytes([len(name)]) + name.encode() + struct.pack(order + offset_code, at + len(records))
        records += record(sequence, order)
    return header + index + records


def contents(path):
    return {name: b"".join(blocks).decode() for name, blocks in read_twobit(path)}


@given(
    contigs=st.dictionaries(
        st.text("abc_.1", min_size=1, max_size=9), st.text("ACGTNacgtn", max_size=90), max_size=4
    ),
    order=st.sampled_from("<>"),
    version=st.sampled_from([0, 1]),
)
@settings(max_examples=80, deadline=None)
def test_round_trip(tmp_path_factory, contigs, order, version):
    path = tmp_path_factory.mktemp("twobit") / "g.2bit"
    path.write_bytes(twobit(contigs, order, version))
    assert genome_format(path) == "2bit"
    assert contents(path) == contigs
    assert list(contents(path)) == list(contigs)


def test_example_of_the_specification(tmp_path):
    path = tmp_path / "g.2bit"
    path.write_bytes(twobit({"a": "TCAG"}))
    assert path.read_bytes().endswith(bytes([0b00011011]))
    assert contents(path) == {"a": "TCAG"}


def test_blocks_that_cross_and_touch_the_edges_of_reading(tmp_path):
    edge = 1 << 17
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[
        np.random.default_rng(0).integers(0, 4, 3 * edge + 5)
    ].copy()
    for start, end in ((0, 3), (edge - 5, edge + 5), (2 * edge, 2 * edge + 1), (3 * edge, 3 * edge + 5)):
        letters[start:end] = ord("N")
    for start, end in ((2, 6), (edge - 50, 2 * edge + 7), (3 * edge - 1, 3 * edge + 2)):
        letters[start:end] |= 0x20
    sequence = letters.tobytes().decode()
    path = tmp_path / "g.2bit"
    path.write_bytes(twobit({"a": sequence, "b": "ACGTn"}))
    sizes = {name: [len(block) for block in blocks] for name, blocks in read_twobit(path)}
    assert sizes == {"a": [edge, edge, edge, 5], "b": [5]}
    assert contents(path) == {"a": sequence, "b": "ACGTn"}


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"\x43\x27\x41\x1b" + bytes(12), "no .2bit file"),
        (twobit({"a": "ACGT"})[:-1], "truncated"),
        (twobit({"a": "ACGTN" * 9})[:40], "truncated"),
        (twobit({"a": "ACGT"})[:18], "truncated"),
        (b"\x43\x27\x41\x1a", "truncated"),
        (struct.pack("<IIII", 0x1A412743, 7, 0, 0), "version 7"),
        (twobit({"a": "AC", "b": "AC"}).replace(b"\x01b", b"\x01a"), "a occurs twice"),
        (twobit({"a": "AC"}).replace(b"\x01a", b"\x01 "), "cannot be the name"),
        (
            twobit({"a": "ACNN"}).replace(struct.pack("<III", 1, 2, 2), struct.pack("<III", 1, 2, 3)),
            "outside",
        ),
        (
            twobit({"a": "ACNN"}).replace(struct.pack("<III", 1, 2, 2), struct.pack("<III", 1 << 31, 2, 2)),
            "truncated",
        ),
    ],
)
def test_bad_files_are_explained(tmp_path, raw, sentence):
    path = tmp_path / "g.2bit"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=sentence) as caught:
        contents(path)
    assert str(path) in str(caught.value)


@given(st.dictionaries(st.text("abc1", min_size=1), st.text("ACGTNacgtn", max_size=40), min_size=1))
@settings(max_examples=50, deadline=None)
def test_written_as_the_format_says(tmp_path_factory, contigs):
    path = tmp_path_factory.mktemp("written") / "x.2bit"
    write_twobit(((name, [text[:7].encode(), text[7:].encode()]) for name, text in contigs.items()), path)
    assert path.read_bytes() == twobit(contigs)


def test_other_letters_are_written_as_n(tmp_path):
    write_twobit([("x", [b"ACRYgtwT"])], tmp_path / "x.2bit")
    assert contents(tmp_path / "x.2bit") == {"x": "ACNNgtnT"}
    with pytest.raises(InputError, match="too long for a"):
        write_twobit([("x" * 256, [b"A"])], tmp_path / "y.2bit")
    assert not (tmp_path / "y.2bit").exists()
