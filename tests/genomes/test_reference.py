"""Random access, and when an index is trusted, made or refused."""

import gzip
import hashlib
import multiprocessing
import os
import pickle
import random
import shutil
import tempfile

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.genomes.fasta import Reference, compress_to_bgzf, index_fasta, match_contig, write_fasta

LETTERS = random.Random(7)


def random_sequence(length):
    return bytes(LETTERS.choices(b"ACGTNacgtnRYu", k=length))


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "g.fa"
    write_fasta([("one first", [b"ACGTacgtNN"]), ("two", [b"GGCC" * 40]), ("three", [b"T"])], path)
    return path


def age(path, seconds):
    """Shift a file's modification time."""
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + int(seconds * 1e9)))


@given(
    sequences=st.lists(st.text("ACGTNacgtn", min_size=1, max_size=150), min_size=1, max_size=4),
    spans=st.lists(st.tuples(st.integers(-20, 170), st.integers(-20, 170)), min_size=1, max_size=8),
    width=st.integers(1, 70),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=50, deadline=None)
def test_fetch_is_slicing(tmp_path_factory, sequences, spans, width, line_end):
    folder = tmp_path_factory.mktemp("slices")
    text = ""
    for number, sequence in enumerate(sequences):
        lines = [sequence[at : at + width] for at in range(0, len(sequence), width)]
        text += line_end.join([f">c{number} x", *lines, ""])
    (folder / "g.fa").write_bytes(text.encode())
    plain = Reference(folder / "g.fa")
    packed = Reference(compress_to_bgzf(folder / "g.fa", folder / "g.fa.gz"))
    assert plain.contigs == packed.contigs == {f"c{n}": len(s) for n, s in enumerate(sequences)}
    assert plain.digest == packed.digest
    for number, sequence in enumerate(sequences):
        assert plain.fetch(f"c{number}") == sequence.upper()
        for start, end in spans:
            expected = sequence[max(start, 0) : max(end, 0)].upper()
            assert plain.fetch(f"c{number}", start, end) == packed.fetch(f"c{number}", start, end) == expected


def test_fetch_across_bgzf_blocks(tmp_path):
    sequence = random_sequence(300_000)
    path = tmp_path / "g.fa.gz"
    write_fasta([("a", [sequence]), ("b", [sequence[::-1]])], path)
    with Reference(path) as reference:
        for start in (0, 64_000, 65_279, 65_280, 130_000, 299_990):
            assert reference.fetch("a", start, start + 700) == sequence[start : start + 700].decode().upper()
            expected = sequence[::-1][start : start + 700].decode().upper()
            assert reference.fetch("b", start, start + 700) == expected
    assert reference.fetch("a", 5, 9) == sequence[5:9].decode().upper()


def test_digest_is_as_documented(fasta):
    text = b"one\t10\n" + b"ACGTACGTNN" + b"two\t160\n" + b"GGCC" * 40 + b"three\t1\nT"
    assert Reference(fasta).digest == hashlib.sha256(text).hexdigest()


def test_unknown_contig(fasta):
    with pytest.raises(InputError, match=r"no contig four; it has one, two, three$"):
        Reference(fasta).fetch("four", 0, 1)


def test_match(fasta):
    reference = Reference(fasta)
    assert reference.match("chrtwo") == "two"
    assert reference.match("four") is None


def test_missing_index_is_made_beside_the_file(fasta):
    assert Reference(fasta).contigs == {"one": 10, "two": 160, "three": 1}
    assert (
        fasta.with_name("g.fa.fai").read_text()
        == "one\t10\t11\t10\t11\ntwo\t160\t27\t60\t61\nthree\t1\t197\t1\t2\n"
    )
    packed = compress_to_bgzf(fasta, fasta.with_name("h.fa.gz"))
    assert Reference(packed).fetch("two", 158, 160) == "CC"
    assert {"h.fa.gz.fai", "h.fa.gz.gzi"} <= {path.name for path in fasta.parent.iterdir()}


def test_good_index_is_left_alone(fasta):
    index_fasta(fasta)
    before = fasta.with_name("g.fa.fai").stat()
    Reference(fasta)
    after = fasta.with_name("g.fa.fai").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_age_of_an_index_does_not_count(fasta):
    packed = compress_to_bgzf(fasta, fasta.with_name("h.fa.gz"))
    for path in (fasta, packed):
        index_fasta(path)
        before = path.with_name(path.name + ".fai").stat().st_ino
        age(path, 1000)
        assert Reference(path).fetch("two", 158, 160) == "CC"
        assert path.with_name(path.name + ".fai").stat().st_ino == before


@pytest.mark.parametrize(
    "text",
    [
        b">new\nACGTA\n",
        b">one first\nACGTACGTNN\n>two\n" + b"GGCC" * 40 + b"\n>three\nT\n",  # other lines
        b">one first\nACGTACGTNN\n>two\n" + b"GGCC" * 15 + b"\n" + b"GGCC" * 14 + b"\nGGCC\n" + b"GGCC" * 10
        + b"\n>three\nT\n",
        b">one first\nACGTACGTNN\n>owt\n" + 2 * (b"GGCC" * 15 + b"\n") + b"GGCC" * 10 + b"\n>three\nT\n",
    ],
)  # fmt: skip
def test_the_index_of_an_earlier_file_is_refused(fasta, text):
    """Neither its index nor the file is touched, whatever their dates."""
    for path in (fasta, compress_to_bgzf(fasta, fasta.with_name("h.fa.gz"))):
        index_fasta(path)
        with open(path, "wb") if path == fasta else pysam.BGZFile(str(path), "wb") as sink:
            sink.write(text)
        for shift in (-1000, 2000):
            age(path, shift)
            before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
            with pytest.raises(InputError, match=f"{path.name}.fai: is not the index of .* samtools faidx"):
                Reference(path)
            assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_contig_among_many_is_looked_at(tmp_path):
    path = tmp_path / "g.fa"
    write_fasta([(f"c{i}", [b"ACGTA" * 20]) for i in range(40)], path)
    index_fasta(path)
    path.write_bytes(path.read_bytes().replace(b">c20\n", b">d20\n"))
    with pytest.raises(InputError, match=r"is not the index of g\.fa"):
        Reference(path)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "rubbish",
        "one\t10\n",
        "one\t10\t11\t10\tx\n",
        "one\t10\t11\t0\t0\n",
        "one\t10\t11\t10\t11\n",
        "one\t9\t11\t10\t11\ntwo\t160\t27\t60\t61\nthree\t2\t197\t1\t2\n",
        "one\t10\t11\t10\t11\ntwo\t160\t27\t60\t61\nother\t1\t197\t1\t2\n",
        "uno\t10\t11\t10\t11\ntwo\t160\t27\t60\t61\nthree\t1\t197\t1\t2\n",
        "one\t10\t9\t10\t11\ntwo\t160\t27\t60\t61\nthree\t1\t197\t1\t2\n",
    ],
)
@pytest.mark.parametrize("packing", ["plain", "bgzf"])
def test_index_that_does_not_fit_is_refused(fasta, index, packing):
    path = fasta
    if packing == "bgzf":
        path = compress_to_bgzf(fasta, fasta.with_name("g.fa.gz"))
        index_fasta(path)
    path.with_name(path.name + ".fai").write_text(index)
    with pytest.raises(InputError, match=r"remove it.* samtools faidx") as caught:
        Reference(path)
    assert "\n" not in str(caught.value)
    path.with_name(path.name + ".fai").unlink()
    assert Reference(path).fetch("three") == "T"


@pytest.mark.parametrize("gzi", [b"", b"\x01", b"\xff" * 24])
def test_damaged_gzi_is_refused(tmp_path, gzi):
    path = tmp_path / "g.fa.gz"
    sequence = random_sequence(200_000)
    write_fasta([("a", [sequence])], path)
    index_fasta(path)
    path.with_name("g.fa.gz.gzi").write_bytes(gzi)
    with pytest.raises(InputError, match=r"remove it and g.fa.gz.gzi, or"):
        Reference(path)


def test_a_gzi_alone_is_made_for_a_fai_that_fits(tmp_path):
    path = tmp_path / "g.fa.gz"
    sequence = random_sequence(200_000)
    write_fasta([("a", [sequence])], path)
    index_fasta(path)
    gzi, fai = path.with_name("g.fa.gz.gzi"), path.with_name("g.fa.gz.fai")
    expected, before = gzi.read_bytes(), fai.stat().st_ino
    gzi.unlink()
    assert Reference(path).fetch("a", 199_000) == sequence[199_000:].decode().upper()
    assert (gzi.read_bytes(), fai.stat().st_ino) == (expected, before)
    gzi.unlink()
    fai.write_text("a\t200000\t3\t61\t62\n")
    with pytest.raises(InputError, match=r"is not the index of g\.fa\.gz"):
        Reference(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["g.fa.gz", "g.fa.gz.fai"]


def test_empty_records_are_left_out(tmp_path):
    path = tmp_path / "g.fa"
    path.write_bytes(b">none\n>a\nACGT\n>empty\n\n>b\nGG")
    assert Reference(path).contigs == {"a": 4, "b": 2}
    made = path.with_name("g.fa.fai").stat().st_ino
    assert Reference(path).fetch("b") == "GG"
    assert path.with_name("g.fa.fai").stat().st_ino == made
    path.write_bytes(b">a\nACGT\n>last\n")
    path.with_name("g.fa.fai").unlink()
    with pytest.raises(InputError, match=r"empty last record.*genotok fetch"):
        Reference(path)
    assert Reference(compress_to_bgzf(path, tmp_path / "h.fa.gz")).contigs == {"a": 4}


def test_read_only_directory(monkeypatch):
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        path = f"{place}/g.fa.gz"
        write_fasta([("a", [b"ACGT" * 50_000])], path)
        os.chmod(place, 0o555)
        assert Reference(path).fetch("a", 199_996) == "ACGT"
        assert os.listdir(place) == ["g.fa.gz"]
        (folder,) = os.listdir(temporary)
        made = {entry.name: entry.inode() for entry in os.scandir(f"{temporary}/{folder}")}
        assert len(made) == 2
        Reference(path)
        assert {entry.name: entry.inode() for entry in os.scandir(f"{temporary}/{folder}")} == made
        assert os.stat(f"{temporary}/{folder}").st_mode & 0o77 == 0
        os.chmod(place, 0o755)


def test_no_place_for_an_index(monkeypatch, fasta):
    monkeypatch.setattr(tempfile, "tempdir", str(fasta))
    fasta.parent.chmod(0o555)
    with pytest.raises(InputError, match="no usable index"):
        Reference(fasta)
    fasta.parent.chmod(0o755)


def test_files_that_cannot_be_read_at_random(tmp_path):
    packed = tmp_path / "g.fa.gz"
    packed.write_bytes(gzip.compress(b">a\nACGT\n"))
    with pytest.raises(InputError, match=r"not BGZF.*genotok fetch .*g.fa.gz -o g.bgzf.fa.gz"):
        Reference(packed)
    uneven = tmp_path / "u.fa"
    uneven.write_bytes(b">a\nACGT\nAC\nACGT\n")
    with pytest.raises(InputError, match=r"different widths.*genotok fetch"):
        Reference(uneven)
    with pytest.raises(InputError, match="No such file"):
        Reference(tmp_path / "none.fa")
    twice = tmp_path / "t.fa"
    twice.write_bytes(b">a\nACGT\n>a\nACGT\n")
    with pytest.raises(InputError, match="occurs twice"):
        Reference(twice)
    hollow = tmp_path / "h.fa"
    hollow.write_bytes(b">a\n>b\n")
    with pytest.raises(InputError, match="no bases"):
        Reference(hollow)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.fa.gz", "h.fa", "t.fa", "u.fa"]


def test_damage_under_a_good_index_is_said(tmp_path):
    path = tmp_path / "g.fa.gz"
    write_fasta([("a", [random_sequence(400_000)])], path)
    index_fasta(path)
    reference = Reference(path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = b"\0" * 40
    path.write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        reference.fetch("a")


def _letters(reference, start):
    return [reference.fetch("a", at, at + 50) for at in range(start, start + 20_000, 50)]


def test_use_after_fork_and_pickle(tmp_path):
    sequence = random_sequence(100_000)
    path = tmp_path / "g.fa.gz"
    write_fasta([("a", [sequence])], path)
    reference = Reference(path)
    assert pickle.loads(pickle.dumps(reference)).fetch("a", 3, 60) == sequence[3:60].decode().upper()
    expected = [sequence[at : at + 50].decode().upper() for at in range(0, 100_000, 50)]
    children = []
    for part in range(5):
        pipe, end = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(
            target=lambda end=end, part=part: end.send(_letters(reference, 20_000 * part))
        )
        child.start()
        children.append((child, pipe))
    assert _letters(reference, 0) == expected[:400]
    for part, (child, pipe) in enumerate(children):
        assert pipe.poll(20)
        assert pipe.recv() == expected[400 * part : 400 * (part + 1)]
        child.join(10)


def test_copies_do_not_share_an_index_by_name(tmp_path, fasta):
    Reference(fasta)
    shutil.copy(fasta, tmp_path / "copy.fa")
    shutil.copy(fasta.with_name("g.fa.fai"), tmp_path / "copy.fa.fai")
    assert Reference(tmp_path / "copy.fa").fetch("one", 0, 4) == "ACGT"


@pytest.mark.parametrize(
    ("name", "contigs", "expected"),
    [
        ("chr1", ["chr1", "1"], "chr1"),
        ("1", ["chr1", "1"], "1"),
        ("1", ["chr1", "chr2"], "chr1"),
        ("chr1", ["1", "2"], "1"),
        ("1", ["Chr1"], "Chr1"),
        ("Chr1", ["chr1"], "chr1"),
        ("CHR1", ["1"], "1"),
        ("chrX", ["X"], "X"),
        ("x", ["X"], None),
        ("MT", ["chrM"], "chrM"),
        ("chrM", ["MT"], "MT"),
        ("M", ["chrMT"], "chrMT"),
        ("chrMT", ["M"], "M"),
        ("chrM", ["Mito", "I"], "Mito"),
        ("MtDNA", ["chrM"], "chrM"),
        ("chrM", ["chrMT", "M", "MT"], "M"),
        ("chr", ["", "x"], None),
        ("", ["chr1"], None),
        ("11", ["chr1"], None),
        ("chr1_KI270706v1_random", ["1"], None),
        ("NC_000001.11", ["chr1"], "chr1"),
        ("NC_000001.11", ["1", "2"], "1"),
        ("NC_000023.10", ["chrX", "chrY"], "chrX"),
        ("NC_000024.10", ["X", "Y"], "Y"),
        ("chr7", ["NC_000006.12", "NC_000007.14", "NC_000008.11"], "NC_000007.14"),
        ("Y", ["NC_000023.11", "NC_000024.10"], "NC_000024.10"),
        ("14", ["NC_000014.8"], "NC_000014.8"),
        ("NC_000001.10", ["NC_000001.11"], None),
        ("NC_000025.1", ["chr25", "25"], None),
        ("NC_000000.1", ["chrY", "Y", "0"], None),
        ("NC_0000011.1", ["chr1", "chr11"], None),
        ("NC_012920.1", ["chr1", "chrM"], "chrM"),
        ("MT", ["NC_000001.11", "NC_012920.1"], "NC_012920.1"),
        ("NC_001807.4", ["chrM"], None),
    ],
)
def test_match_contig(name, contigs, expected):
    assert match_contig(name, dict.fromkeys(contigs)) == expected
