"""The streaming FASTA reader and writer, against a naive line-by-line parse."""

import gzip
import random

import pysam
import pytest
from full_disk import files_at_most
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.genomes.fasta_text import compress_to_bgzf, fasta_records, read_fasta, write_fasta
from genotok.genomes.formats import BGZF_END, genome_format, is_genome

IUPAC = "ACGTURYSWKMBDHVNacgturyswkmbdhvn"

contig = st.tuples(st.text("abcXYZ0189_.|:-", min_size=1, max_size=8), st.text(IUPAC, max_size=200))
contigs = st.lists(contig, min_size=1, max_size=6, unique_by=lambda pair: pair[0])


def contents(path):
    return {name: b"".join(blocks).decode() for name, blocks in read_fasta(path)}


def naive(text):
    """An independent slow reader."""
    found = {}
    for line in text.decode().splitlines():
        if line.startswith(">"):
            name = line[1:].split()[0]
            found[name] = ""
        else:
            found[name] += line
    return found


def messy_fasta(records, choose, line_end):
    """FASTA text with random line widths, descriptions and blank lines."""
    lines = []
    for name, sequence in records:
        lines.append(f">{name}" + choose.choice(["", " text > more", "\tpath=x"]))
        at = 0
        while at < len(sequence):
            width = choose.randint(1, 70)
            lines.append(sequence[at : at + width])
            at += width
        lines += [""] * choose.choice([0, 0, 1, 2])
    return (line_end.join(lines) + choose.choice(["", line_end])).encode()


def store(folder, text, packing):
    path = folder / f"{packing}.any"
    if packing == "plain":
        path.write_bytes(text)
    elif packing == "gzip":
        path.write_bytes(gzip.compress(text[:50]) + gzip.compress(text[50:]))
    else:
        with pysam.BGZFile(str(path), "wb") as handle:
            handle.write(text)
    return path


@given(records=contigs, seed=st.integers(0, 10**6), line_end=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=80, deadline=None)
def test_every_packing_and_layout_reads_the_same(tmp_path_factory, records, seed, line_end):
    folder = tmp_path_factory.mktemp("layouts")
    text = messy_fasta(records, random.Random(seed), line_end)
    assert naive(text) == dict(records)
    for packing in ("plain", "gzip", "bgzf"):
        path = store(folder, text, packing)
        assert contents(path) == dict(records)
        assert list(contents(path)) == [name for name, _ in records]
        assert genome_format(path) == {"plain": "fasta"}.get(packing, packing)


@given(records=contigs, seed=st.integers(0, 10**6), size=st.integers(1, 40))
@example(records=[("a", "ACGT"), ("b", ""), ("c", "N")], seed=0, size=1)
@settings(max_examples=80, deadline=None)
def test_blocks_may_be_cut_anywhere(records, seed, size):
    choose = random.Random(seed)
    text = messy_fasta(records, choose, choose.choice(["\n", "\r\n"]))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = [(header.split()[0], b"".join(blocks).decode()) for header, blocks in fasta_records(pieces, "x")]
    assert found == records


def test_large_contigs_come_in_small_blocks(tmp_path):
    sequence = b"ACGTN" * 200_000
    path = tmp_path / "g.fa"
    write_fasta([("one", [sequence]), ("two", [b"AC"])], path)
    sizes = {name: [len(block) for block in blocks] for name, blocks in read_fasta(path)}
    assert sum(sizes["one"]) == len(sequence)
    assert max(sizes["one"]) <= 1 << 17
    assert sizes["two"] == [2]


def test_skipped_blocks_do_not_disturb_the_next_contig(tmp_path):
    path = tmp_path / "g.fa"
    path.write_bytes(b">a\n" + b"ACGT\n" * 100_000 + b">b\nGG\n>c\nTT\n")
    assert [name for name, _ in read_fasta(path)] == ["a", "b", "c"]
    reader = read_fasta(path)
    _, blocks = next(reader)
    next(blocks)
    name, blocks = next(reader)
    assert (name, list(blocks)) == ("b", [b"GG"])


def test_empty_records_are_kept(tmp_path):
    path = tmp_path / "g.fa"
    path.write_bytes(b">a\n>b desc\n\n>c\nACGT\n>d")
    assert contents(path) == {"a": "", "b": "", "c": "ACGT", "d": ""}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "is empty"),
        (b"\n\r\n", "is empty"),
        (b"ACGT\n>a\nACGT\n", "starts with 'ACGT' instead of a FASTA header"),
        (b"\n\nACGT\n>a\n", "starts with 'ACGT' instead"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n <html><body>503</body></html>", "web page"),
        (b'{"error": "no such accession"}', "instead of a FASTA header"),
        (b"@read1\nACGT\n+\nIIII\n", "FASTQ"),
        (bytes(range(256)), "binary"),
        (b">a\nACGT\n>\nAC\n", "line 3: header without a name"),
        (b">a\r\nACGT\r\n\r\n> b\r\nAC\r\n", "line 4: header without a name"),
        (b">a\nACGT\n>b\nA\n>a x\nAC\n", "a occurs twice, in line 1 and in line 5"),
        (b">a\nACGT\n>b\nACGT\nAC-T\n", "contig b, position 7: '-' is no nucleotide letter"),
        (b">a\nACGT*\n", "position 5: '*'"),
        (b">a\nAC.T\n", "position 3: '.'"),
        (b">a\nAC1T\n", "position 3: '1'"),
        (b">a\nAC T\n", "position 3: ' '"),
        (b">a\nMKVLE\n", "position 4: 'L'"),
        (b">a\nAC>GT\n", "position 3: '>'"),
        (b">a\nAC\x00GT\n", r"position 3: '\\x00'"),
        (b">a\rACGT\r>b\rACGT\r", "line 1: has old Macintosh line ends"),
        ("\n>chr\u00e9\nACGT\n".encode(), "line 2: contig name 'chr\u00e9' is not plain ASCII"),
        (b">" + b"x" * (3 << 20), "longer than 1 MiB"),
    ],
)
@pytest.mark.parametrize("packing", ["plain", "gzip"])
def test_bad_files_are_explained(tmp_path, text, sentence, packing):
    path = store(tmp_path, text, packing)
    with pytest.raises(InputError, match=sentence) as caught:
        contents(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    before=st.integers(0, 300_000),
    bad=st.sampled_from("JLOPQXZ-*.0 >"),
    after=st.integers(0, 200),
    width=st.integers(1, 80),
)
@settings(max_examples=30, deadline=None)
def test_position_of_a_bad_letter_is_exact(before, bad, after, width):
    sequence = "A" * before + bad + "C" * after
    lines = [sequence[at : at + width] for at in range(0, len(sequence), width)]
    if any(line.startswith(">") for line in lines):
        return
    text = (">first\nACGT\n>name x\n" + "\n".join(lines)).encode()
    pieces = [text[at : at + 65536] for at in range(0, len(text), 65536)]
    with pytest.raises(InputError, match=f"contig name, position {before + 1}:"):
        [list(blocks) for _, blocks in fasta_records(pieces, "x")]


@pytest.mark.parametrize("raw", [b"BZh91AY&SY", b"\xfd7zXZ\x00rest", b"\x28\xb5\x2f\xfdrest"])
def test_other_compressions_are_named(tmp_path, raw):
    (tmp_path / "g.fa").write_bytes(raw)
    with pytest.raises(InputError, match=r"is compressed with .*; decompress it first"):
        contents(tmp_path / "g.fa")


def test_sequence_before_a_header_inside_an_archive():
    with pytest.raises(InputError, match="x: line 3: sequence before the first header"):
        [list(blocks) for _, blocks in fasta_records([b"\n\nACGT\n>a\n"], "x")]
    with pytest.raises(InputError, match="x: holds no sequence"):
        list(fasta_records([], "x"))


def test_truncated_and_damaged_compression(tmp_path):
    text = b">a\n" + bytes(random.Random(1).choices(b"ACGT", k=100_000)) + b"\n"
    packed = bytearray(gzip.compress(text))
    path = tmp_path / "g.fa.gz"
    path.write_bytes(packed[:-9])
    with pytest.raises(InputError, match="truncated"):
        contents(path)
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(InputError, match="damaged"):
        contents(path)
    bgzf = store(tmp_path, text, "bgzf").read_bytes()
    assert bgzf.endswith(BGZF_END)
    path.write_bytes(bgzf[: -len(BGZF_END)])
    with pytest.raises(InputError, match="truncated"):
        contents(path)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        contents(tmp_path / "none.fa")
    with pytest.raises(InputError, match="directory"):
        contents(tmp_path)


def test_is_genome(tmp_path):
    (tmp_path / "good").write_bytes(b">a\nACGT\n")
    (tmp_path / "bad").write_bytes(b"<html>")
    assert is_genome(tmp_path / "good")
    assert not is_genome(tmp_path / "bad")
    assert not is_genome(tmp_path / "none")


@given(records=contigs, seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_writing_gives_uniform_lines_and_the_same_bytes_each_time(tmp_path_factory, records, seed):
    assume(any(sequence for _, sequence in records))
    folder = tmp_path_factory.mktemp("written")
    text = messy_fasta(records, random.Random(seed), "\r\n")
    source = store(folder, text, "gzip")
    compress_to_bgzf(source, folder / "1.fa.gz")
    compress_to_bgzf(store(folder, text, "bgzf"), folder / "2.fa.gz")
    assert genome_format(folder / "1.fa.gz") == "bgzf"
    assert (folder / "1.fa.gz").read_bytes() == (folder / "2.fa.gz").read_bytes()
    records = [(name, sequence) for name, sequence in records if sequence]
    assert naive(gzip.decompress((folder / "1.fa.gz").read_bytes())) == dict(records)
    headers = {line[1:].split()[0]: line for line in text.decode().split("\r\n") if line.startswith(">")}
    expected = ""
    for header, sequence in [(headers[name], sequence) for name, sequence in records]:
        expected += header + "\n"
        expected += "".join(sequence[at : at + 60] + "\n" for at in range(0, len(sequence), 60))
    assert gzip.decompress((folder / "1.fa.gz").read_bytes()).decode() == expected


def test_writing_across_blocks_of_any_size(tmp_path):
    blocks = [b"A" * 59, b"C", b"", b"G" * 121, b"T" * 60]
    assert write_fasta([("a b", blocks), ("e", [])], tmp_path / "g.fa") == 241
    expected = b">a b\n" + b"A" * 59 + b"C\n" + b"G" * 60 + b"\n" + b"G" * 60 + b"\nG" + b"T" * 59 + b"\nT\n"
    assert (tmp_path / "g.fa").read_bytes() == expected


def test_headers_in_other_encodings_survive(tmp_path):
    path = tmp_path / "g.fa"
    path.write_bytes(b">a caf\xe9 \xe2\x82\xac\nACGT\n")
    compress_to_bgzf(path, tmp_path / "g.fa.gz")
    assert gzip.decompress((tmp_path / "g.fa.gz").read_bytes()) == path.read_bytes()


def test_nothing_to_write(tmp_path):
    with pytest.raises(InputError, match="holds no bases"):
        write_fasta([("a", []), ("b", [b""])], tmp_path / "g.fa")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_full_disk(tmp_path, name):
    letters = bytes(random.Random(2).choices(b"ACGT", k=800_000))
    with pytest.raises(InputError, match="cannot be written"), files_at_most(100_000):
        write_fasta([("a", [letters])], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_leading_empty_gzip_members(tmp_path):
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(b"") + gzip.compress(b"\n") + gzip.compress(b">a\nACGT\n"))
    assert contents(path) == {"a": "ACGT"}


def test_a_file_may_be_rewritten_onto_itself_and_is_whole_or_absent(tmp_path):
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(b">a\nAC\nACGT\n"))
    compress_to_bgzf(path, path)
    assert contents(path) == {"a": "ACACGT"}
    bad = tmp_path / "bad.fa"
    bad.write_bytes(b">a\nAC!T\n")
    with pytest.raises(InputError):
        compress_to_bgzf(bad, tmp_path / "new.fa.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.fa", "g.fa.gz"]
    with pytest.raises(InputError, match=r"must end in \.gz"):
        compress_to_bgzf(path, tmp_path / "new.fa")
