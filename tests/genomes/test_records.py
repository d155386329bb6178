"""Sequences of every kind of source, from every kind of place."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tracemalloc

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pytest
from file_server import Step
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.genomes import http_stream
from genotok.genomes.alphabets import PROTEIN, RNA
from genotok.genomes.byte_streams import source_label
from genotok.genomes.records import Reading, open_sequences, sequence_records, source_file, source_name

quick = settings(max_examples=40, deadline=None)
READS = [("r1", "ACGTN", [0, 10, 20, 30, 40]), ("r2", "ggttA", [93] * 5), ("r3", "C", [2])]


def fastq(reads, end="\n"):
    return "".join(
        f"@{name} of {k}{end}{letters}{end}+{end}{''.join(chr(q + 33) for q in qualities)}{end}"
        for k, (name, letters, qualities) in enumerate(reads)
    )


def read(source, **settings):
    return [
        (record.name, b"".join(record.blocks).decode(), record.qualities, record.values, record.split)
        for record in sequence_records(source, Reading(**settings))
    ]


def letters(source, **settings):
    return {name: text for name, text, *_ in read(source, **settings)}


def complaint(source, **settings):
    with pytest.raises(InputError) as error:
        read(source, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def packed(data, how):
    if how == "gzip":
        return gzip.compress(data)
    if how == "bgzf":
        buffer = io.BytesIO()
        for begin in range(0, len(data), 500):
            member = gzip.compress(data[begin : begin + 500], mtime=0)
            buffer.write(member)
        return buffer.getvalue()
    if how == "zstd":
        frame = pa.Codec("zstd").compress(data, asbytes=True)
        return frame + frame[:0]
    return data


@pytest.mark.parametrize("how", ["plain", "gzip", "bgzf", "zstd"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fastq_in_every_packing(how, end, tmp_path):
    path = tmp_path / "r.fastq"
    path.write_bytes(packed(fastq(READS, end).encode(), how))
    with open_sequences(path, Reading(keep=("description",))) as opened:
        found = [(r.name, b"".join(r.blocks), r.qualities.tolist(), r.values) for r in opened.records]
    assert opened.format == "fastq"
    assert opened.facts["sha256"] == sha256_of(path)
    assert found == [
        (name, text.encode(), qualities, {"description": f"of {k}"})
        for k, (name, text, qualities) in enumerate(READS)
    ]


def test_fastq_agrees_with_htslib(tmp_path):
    random = np.random.default_rng(0)
    reads = [
        (f"r{k}", "".join(random.choice(list("ACGTN"), n)), random.integers(0, 94, n).tolist())
        for k, n in enumerate(random.integers(1, 300, 40))
    ]
    path = tmp_path / "r.fq.gz"
    path.write_bytes(gzip.compress(fastq(reads).encode()))
    with pysam.FastxFile(str(path)) as handle:
        wanted = [(one.name, one.sequence, one.get_quality_array().tolist()) for one in handle]
    assert [(name, text, q.tolist()) for name, text, q, *_ in read(path)] == wanted


@quick
@given(
    reads=st.lists(
        st.text("ACGTNRacgtn", max_size=30).flatmap(
            lambda text: st.tuples(
                st.just(text), st.lists(st.integers(0, 93), min_size=len(text), max_size=len(text))
            )
        ),
        min_size=1,
        max_size=8,
    ),
    block=st.integers(1, 50),
    at_once=st.integers(1, 200),
)
def test_reads_are_the_same_however_they_come_in_blocks(reads, block, at_once):
    from genotok.genomes import fastq as module

    named = [(f"r{k}", text, qualities) for k, (text, qualities) in enumerate(reads)]
    data = fastq(named).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LETTERS_AT_ONCE", at_once)
        blocks = (data[i : i + block] for i in range(0, len(data), block))
        found = [(r.name, r.letters.decode(), r.qualities.tolist()) for r in module.read_fastq(blocks, "x")]
    assert found == named


@quick
@given(
    qualities=st.lists(st.lists(st.integers(0, 93), max_size=12), min_size=1, max_size=6),
    least=st.integers(0, 93),
    mask=st.integers(0, 93),
)
def test_quality_filter(qualities, least, mask):
    from genotok.genomes.fastq import ReadFilter, read_fastq

    data = fastq([(f"r{k}", "G" * len(q), q) for k, q in enumerate(qualities)]).encode()
    chosen = ReadFilter(least, mask)
    found = {r.name: r.letters.decode() for r in read_fastq([data], "x", chosen=chosen)}
    wanted = {
        f"r{k}": "".join("N" if q < mask else "G" for q in row)
        for k, row in enumerate(qualities)
        if not row or sum(row) / len(row) >= least
    }
    assert found == wanted
    assert chosen.dropped == len(qualities) - len(wanted)


BAD_FASTQ = [
    ("@r\nACGT\n+\nIII", "line 4: read r has 3 qualities and 4 letters"),
    ("@r\nACGT\n+\nIIIII\n", "line 4: read r has 5 qualities and 4 letters"),
    ("@a\nA\n+\nI\n@r\nACGT\n+\n", "is truncated (the record of line 5 breaks off)"),
    ("@a\nA\n+\nI\n@r\nAC", "is truncated (the record of line 5 breaks off)"),
    ("@r\nAC\nGT\n+\nIIII\n", "line 3: should begin with '+'"),
    ("@r\nAC\n+\nII\nr\nAC\n+\nII\n", "line 5: should be '@name'"),
    ("@\nAC\n+\nII\n", "line 1: should be '@name'"),
    ("@a\nA\n+\nI\n@r\nAJ\n+\nII\n", "line 6, position 2: 'J' is no nucleotide letter"),
    ("@a\nA\n+\nI\n@r\nAC\n+\nI \n", "line 8: holds what is no quality"),
    ("", "is empty"),
    ("@HD\tVN:1.6\n", "holds alignments (SAM)"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD_FASTQ, ids=[sentence for _, sentence in BAD_FASTQ])
def test_bad_fastq(text, sentence, tmp_path):
    path = tmp_path / "r.fq"
    path.write_text(text)
    assert complaint(path).startswith(f"{path}: {sentence}")


ROWS = [
    {"seq": "acgtN", "id": "one", "label": "1", "part": "train", "n": 3},
    {"seq": "TTTT", "id": "two", "label": 'a "b", c', "part": "dev", "n": None},
    {"seq": "ACGU" * 50_000, "id": "three", "label": "", "part": "test", "n": [1, 2]},
]


def write_table(path, kind):
    columns = list(ROWS[0])
    if kind in ("csv", "tsv"):
        sign = "," if kind == "csv" else "\t"
        quoted = [['"' + str(row[c]).replace('"', '""') + '"' for c in columns] for row in ROWS]
        path.write_text("\n".join(sign.join(row) for row in [columns, *quoted]) + "\n")
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=2))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    else:
        values = {c: [str(row[c]) if c == "n" else row[c] for row in ROWS] for c in columns}
        pq.write_table(pa.table(values), path, row_group_size=2)
    return path


COLUMNS = {"sequence_column": "seq", "name_column": "id", "split_column": "part", "keep": ("label",)}


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_tables_of_every_kind(kind, tmp_path):
    path = write_table(tmp_path / f"t.{kind}", kind)
    found = read(path, **COLUMNS)
    assert [(name, text, values, split) for name, text, _, values, split in found] == [
        (row["id"], row["seq"], {"label": row["label"]}, {"dev": "valid"}.get(row["part"], row["part"]))
        for row in ROWS
    ]
    assert [name for name, *_ in read(path, sequence_column="seq")] == ["row1", "row2", "row3"]
    with open_sequences(path, Reading(**COLUMNS)) as opened:
        assert len(list(opened.records)) == 3
    assert opened.facts["sha256"] == sha256_of(path)


def test_values_that_are_no_text(tmp_path):
    path = write_table(tmp_path / "t.json", "json")
    found = read(path, sequence_column="seq", keep=("n",))
    assert [values["n"] for *_, values, _ in found] == ["3", None, "[1, 2]"]


@quick
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"sequence": st.text("ACGT", min_size=1, max_size=20), "x": st.text(max_size=9)}
        ),
        min_size=1,
        max_size=6,
    ),
    indent=st.sampled_from([None, 1]),
    characters=st.integers(1, 40),
)
def test_json_is_the_same_however_it_comes(rows, indent, characters, tmp_path_factory):
    from genotok.genomes import table_rows

    path = tmp_path_factory.mktemp("json") / "t.json"
    path.write_text(json.dumps(rows, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_rows, "_CHARACTERS", characters)
        found = [list(values) for _, values in table_rows.table_rows(path, "json", ["sequence", "x"])]
    assert found == [[row["sequence"], row["x"]] for row in rows]


BAD_TABLES = [
    ("t.csv", "seq,label\nACGT,1\n", "no column 'sequence'; there are seq, label"),
    ("t.csv", "sequence\nACGT\nMKLV\n", "line 3: column 'sequence', position 3: 'L' is no nucleotide letter"),
    ("t.csv", "sequence,id\nACGT,1\nACGT\n", "line 3 has 1 columns, and the first line 2"),
    ("t.csv", "sequence\n", "holds no rows"),
    ("t.csv", "sequence\nACGT\n \n", "line 3: column 'sequence': holds no sequence"),
    ("t.tsv", "sequence\nACé\n", "line 2: column 'sequence': holds what is no nucleotide letter"),
    ("t.json", '{"sequence": "A"}', "should be a JSON array of objects"),
    ("t.json", '[{"sequence": "A"}, {"sequence": "C', "row 2 is not JSON"),
    ("t.json", '[{"sequence": "A"}', "is truncated or no JSON: behind row 1"),
    ("t.json", '[{"sequence": "A"}] {}', "is no JSON: something stands behind the array"),
    ("t.json", '[{"sequence": "A"}, 7]', "row 2 should be a JSON object"),
    ("t.json", '[{"sequence": "A"}, {"seq": "A"}]', "row 2 has no key 'sequence'; there are seq"),
    ("t.json", "[]", "holds no rows"),
    ("t.jsonl", '{"sequence": "A"}\n{"seq": "A"}\n', "line 2 has no key 'sequence'; there are seq"),
    ("t.jsonl", '{"sequence": ["A"]}\n', "line 1: column 'sequence': holds no sequence"),
    ("t.parquet", "no parquet", "cannot be read as a table"),
    ("t.csv", "", "is empty"),
    ("t.txt", "ACGT\n", "starts with 'ACGT' instead of a FASTA header"),
    ("t.xlsx", "PK\x03\x04", "is a zip file"),
]


@pytest.mark.parametrize(("name", "text", "sentence"), BAD_TABLES, ids=[f"{n}:{s}" for n, _, s in BAD_TABLES])
def test_bad_tables(name, text, sentence, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    assert complaint(path).startswith(f"{path}: {sentence}")


def test_bad_columns(tmp_path):
    path = write_table(tmp_path / "t.csv", "csv")
    said = complaint(path, sequence_column="seq", keep=("nothing",))
    assert said.startswith(f"{path}: no column 'nothing'; there are seq, id, label, part, n")
    assert "line 2: column 'id': 'one' is no split" in complaint(
        path, sequence_column="seq", split_column="id"
    )
    assert "line 4: column 'label': holds no name" in complaint(
        path, sequence_column="seq", name_column="label"
    )
    fasta = tmp_path / "g.fa"
    fasta.write_text(">a\nACGT\n")
    assert "has no column 'label'; of FASTA and FASTQ only 'description'" in complaint(fasta, keep=("label",))
    for settings_, sentence in (
        ({"format": "xlsx"}, "format 'xlsx' is unknown; there are fasta, fastq, csv"),
        ({"features": ("CDS",)}, "none was given; add --regions"),
        ({"keep": ("a", "a")}, "are named twice"),
    ):
        with pytest.raises(InputError, match=sentence):
            Reading(**settings_)


PROTEINS = ">p1 one protein\nMKVL*\n>p2\nacdX\n>p1\nMKK\n"


def test_proteins(tmp_path):
    """Names may come again, and the stop becomes X."""
    path = tmp_path / "p.faa"
    path.write_text(PROTEINS)
    found = read(path, alphabet=PROTEIN, keep=("description",))
    assert [(name, text, values["description"]) for name, text, _, values, _ in found] == [
        ("p1", "MKVLX", "one protein"),
        ("p2", "acdX", ""),
        ("p1", "MKK", ""),
    ]
    assert "contig p1, position 3: 'V' is no" not in (said := complaint(path))
    assert "contig p1, position 4: 'L' is no nucleotide letter" in said
    assert "read proteins with `genotok tokenize --alphabet protein` and a model of proteins" in said
    path.write_text(">p\nMK-L\n")
    assert "contig p, position 3: '-' is no amino-acid letter" in complaint(path, alphabet=PROTEIN)
    path.write_text(fastq(READS))
    assert "is FASTQ, which holds nucleotides" in complaint(path, alphabet=PROTEIN)


def test_the_format_may_be_said(tmp_path):
    path = tmp_path / "no_ending"
    path.write_text("sequence,label\nACGT,1\n")
    assert letters(path, format="csv") == {"row1": "ACGT"}
    path.write_text(fastq(READS))
    assert list(letters(path)) == list(letters(path, format="fastq"))
    assert "holds reads" in complaint(path, format="fasta")
    pq.write_table(pa.table({"sequence": ["AC"]}), path)
    assert "is Parquet; name it .parquet, or give --format parquet" in complaint(path)
    assert letters(path, format="parquet") == {"row1": "AC"}


def test_names_of_sources():
    wanted = {
        "-": "stdin",
        "a/b.fa.gz": "b",
        "s3://bucket/key/reads.fastq.zst": "reads",
        "https://host/x/genome.fna.gz?download=1#top": "genome",
        "t.parquet": "t",
        "odd.name": "odd.name",
    }
    assert {source: source_name(source) for source in wanted} == wanted


@pytest.mark.parametrize("how", ["gzip", "zstd"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_source_that_breaks_off(how, share, tmp_path):
    path = tmp_path / "g.fa"
    data = packed(
        b">a\n" + np.random.default_rng(0).choice(list(b"ACGT"), 300_000).astype(np.uint8).tobytes(), how
    )
    path.write_bytes(data[: int(share * len(data))])
    assert f"{path}: is truncated (the {how} stream breaks off)" in complaint(path)


def test_a_damaged_zstd(tmp_path):
    path = tmp_path / "g.fa.zst"
    data = bytearray(packed(b">a\n" + b"ACGTTGCA" * 50_000, "zstd"))
    data[12] ^= 255
    path.write_bytes(data)
    assert complaint(path).startswith(f"{path}: is ")


def test_a_bgzf_without_its_end(tmp_path):
    path = tmp_path / "g.fa.gz"
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(b">a\nACGT\n")
    assert letters(path) == {"a": "ACGT"}
    path.write_bytes(path.read_bytes()[:-28])
    assert "is truncated (the BGZF end marker is missing)" in complaint(path)


def test_standard_input(tmp_path):
    """Of a pipe, in which a few bytes come at a time."""
    program = (
        "import sys; from genotok.genomes.records import *\n"
        "for r in sequence_records('-', Reading(format=sys.argv[1] or None)):"
        " print(r.name, b''.join(r.blocks).decode())"
    )
    parquet = tmp_path / "t.parquet"
    pq.write_table(pa.table({"sequence": ["AC", "GT"]}), parquet)
    cases = (
        ("", b">a x\nAC\nGT\n>b\nA\n", "a ACGT\nb A\n"),
        ("", packed(fastq(READS).encode(), "zstd"), "r1 ACGTN\nr2 ggttA\nr3 C\n"),
        ("jsonl", b'{"sequence": "ACG"}\n', "row1 ACG\n"),
        ("parquet", parquet.read_bytes(), "row1 AC\nrow2 GT\n"),
    )
    for kind, data, wanted in cases:
        done = subprocess.run(
            [sys.executable, "-c", program, kind], input=data, capture_output=True, check=True
        )
        assert done.stdout.decode() == wanted


def test_remote_sources(server, tmp_path):
    table = write_table(tmp_path / "t.parquet", "parquet")
    files = {
        "/g.fa.gz": gzip.compress(b">a\nACGT\n"),
        "/r.fq.zst": packed(fastq(READS).encode(), "zstd"),
        "/t.parquet": table.read_bytes(),
    }
    memory = fsspec.filesystem("memory")
    (tmp_path / "local").mkdir()
    for name, body in files.items():
        options = {"sequence_column": "seq"} if name == "/t.parquet" else {}
        local = tmp_path / "local" / name[1:]
        local.write_bytes(body)
        memory.pipe(f"/genotok{name}", body)
        wanted = letters(local, **options)
        for source in (server.serve(name, body), f"memory://genotok{name}", f"file://{local}"):
            with open_sequences(source, Reading(**options)) as opened:
                found = {record.name: b"".join(record.blocks).decode() for record in opened.records}
            assert found == wanted
            assert opened.facts["sha256"] == sha256_of(local)
    for source in (f"{server.base}/no.fa", "memory://genotok/no.fa", f"{server.base}/no.parquet"):
        assert complaint(source).startswith(f"{source}: cannot be read: ")
    assert complaint("http://127.0.0.1:9/g.fa").startswith("http://127.0.0.1:9/g.fa: cannot be read: ")
    assert "cannot be read: Protocol not known: gopher" in complaint("gopher://host/g.fa")


def test_a_server_that_sends_whole_files_alone(server):
    """More than one block of fsspec's, from a server without ranges, such as `python -m http.server`."""
    body = b">a\n" + b"ACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACG\n" * 150_000
    source = server.serve("/g.fa", body, ranges=False)
    with open_sequences(source, Reading()) as opened:
        assert sum(len(block) for record in opened.records for block in record.blocks) == 43 * 150_000
        assert opened.facts["sha256"] == hashlib.sha256(body).hexdigest()


LONG = b">a\n" + b"ACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACG\n" * 50_000
BROKEN = [Step(cut_after=700_000), Step(status=503), Step(cut_after=900_000), Step(hang_up=True)]
MODIFIED = "Tue, 03 Jan 2023 10:00:00 GMT"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(http_stream, "PAUSE", 0.001)


@pytest.mark.parametrize("file", [{}, {"etag": None, "modified": MODIFIED}], ids=["etag", "date"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(file, zipped, server, impatient, caplog):
    """Ids and checksum are those of the whole, and no byte is asked for twice that had been read."""
    body = gzip.compress(LONG, 0) if zipped else LONG
    with open_sequences(server.serve("/g.fa", body, *BROKEN, **file), Reading()) as opened:
        found = [b"".join(record.blocks) for record in opened.records]
        assert found == [LONG[3:].replace(b"\n", b"")]
        assert opened.facts["sha256"] == hashlib.sha256(body).hexdigest()
    assert [request.if_range for request in server.seen] == [None] + [file.get("modified") or '"v1"'] * 4
    assert {message.name for message in caplog.records} == {"genotok.genomes.http_stream"}
    begins = [int(request.range[6:-1]) for request in server.seen[1:]]
    assert 0 < begins[0] == begins[1] <= 700_000 < begins[2] == begins[3] <= begins[0] + 900_000


@pytest.mark.parametrize(
    ("file", "steps", "requests"),
    [
        ({}, [Step(cut_after=700_000)] + [Step(cut_after=0)] * 9, 6),  # six requests bring nothing more
        ({"etag": None}, BROKEN[:1], 1),  # nothing tells whether the rest is of the same file
        ({"etag": 'W/"v1"'}, BROKEN[:1], 1),
        ({"ranges": False}, BROKEN[:1], 2),
        ({}, [*BROKEN[:1], Step(shift=1)], 2),
        ({}, [*BROKEN[:1], Step(headers={"ETag": '"v2"'}, ignore_if_range=True)], 2),
        ({}, [*BROKEN[:1], Step(status=403)], 2),
    ],
    ids=["nothing more", "no validator", "weak", "no ranges", "shifted", "another file", "refused"],
)
def test_a_connection_that_cannot_be_taken_up_ends_in_a_sentence(file, steps, requests, server, impatient):
    address = server.serve("/g.fa", LONG, *steps, **file)
    sentence = complaint(f"{address}?key=secret")
    assert sentence.startswith(f"{address}: cannot be read: ")
    assert "secret" not in sentence
    assert len(server.seen) == requests


def test_a_server_that_falls_silent(server, impatient, monkeypatch):
    monkeypatch.setattr(http_stream, "SILENCE", 0.2)
    source = server.serve("/g.fa", LONG, Step(stall_after=700_000))
    assert letters(source) == {"a": LONG[3:].replace(b"\n", b"").decode()}
    source = server.serve("/g.fa", LONG, *[Step(stall_after=5000)] * 9, etag=None)
    assert complaint(source) == f"{source}: cannot be read: nothing came for 0.2 seconds"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://me:word@host/a/g.fa?X-Key=word#word", "https://host/a/g.fa"),
        ("s3://bucket/a@b/g.fa", "s3://bucket/a@b/g.fa"),
        ("sftp://me:w@rd@host:22/g.fa", "sftp://host:22/g.fa"),
        ("https://host?word", "https://host"),
    ],
)
def test_what_may_be_secret_of_an_address(address, said):
    assert source_label(address) == source_file(address) == said


@pytest.mark.parametrize("status", [403, 500])
def test_a_server_that_refuses_says_why_and_no_key(server, status):
    address = server.serve("/g.fa", b"", *[Step(status=status)] * 9)
    sentence = complaint(f"{address}?key=secret")
    assert sentence.startswith(f"{address}: cannot be read: {status}, ")
    assert "secret" not in sentence


def test_memory_does_not_grow_with_the_source(tmp_path):
    read_ = fastq([("r", "ACGT" * 250, [30] * 1000)]).encode()
    row = json.dumps({"sequence": "ACGT" * 250, "label": "x" * 100})
    for name, small in (
        ("r.fq", read_),
        ("t.jsonl", (row + "\n").encode()),
        ("t.json", (row + ",\n").encode()),
    ):
        path = tmp_path / name
        peaks = []
        for times in (1_500, 6_000):
            body = small * times
            path.write_bytes(b"[" + body + row.encode() + b"]" if name == "t.json" else body)
            tracemalloc.start()
            assert sum(1 for _ in sequence_records(path)) == times + (name == "t.json")
            peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
        assert peaks[1] < peaks[0] + 2, (name, peaks)


GENOME = {"chr1": "acgtACGGTTNacca" * 20_000, "chr2": "TTGACCA"}


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in GENOME.items()))
    return path


def opposite(text):
    return text.translate(str.maketrans("ACGTacgt", "TGCAtgca"))[::-1]


def test_regions_of_bed(genome, tmp_path):
    bed = tmp_path / "r.bed"
    bed.write_text(
        "1\t2\t9\tone\t0\t-\nchr2\t0\t7\n1\t5\t5\nchr1\t100\t280000\tbig\t0\t-\n1\t0\t4\ttwo\t0\t+\n"
    )
    found = read(genome, regions=bed, keep=("description",))
    one, two = GENOME["chr1"], GENOME["chr2"]
    assert [(name, text, values["description"]) for name, text, _, values, _ in found] == [
        ("chr1:3-9(-)", opposite(one[2:9]), "one"),
        ("chr2:1-7(.)", two, ""),
        ("chr1:101-280000(-)", opposite(one[100:280000]), "big"),
        ("chr1:1-4(+)", one[:4], "two"),
    ]


GFF = """##gff-version 3
chr1\tx\tgene\t1\t90\t.\t+\t.\tID=g1
chr1\tx\tCDS\t1\t10\t.\t+\t0\tID=c1;Parent=t1
chr1\tx\tCDS\t21\t33\t.\t+\t0\tID=c1;Parent=t1
chr1\tx\tCDS\t50\t60\t.\t-\t0\tID=c2
chr1\tx\tCDS\t41\t45\t.\t-\t0\tID=c2
chr2\tx\tCDS\t2\t4\t.\t.\t0\tParent=t3
"""


def test_coding_sequences_come_without_introns(genome, tmp_path):
    gff = tmp_path / "a.gff3"
    gff.write_text(GFF)
    one = GENOME["chr1"]
    assert letters(genome, regions=gff, features=("CDS",)) == {
        "chr1:1-33(+)": one[:10] + one[20:33],
        "chr1:41-60(-)": opposite(one[40:45] + one[49:60]),
        "chr2:2-4(.)": GENOME["chr2"][1:4],
    }
    assert len(read(genome, regions=gff)) == 4
    with open_sequences(genome, Reading(regions=gff, features=("CDS",))) as opened:
        assert len(list(opened.records)) == 3
    assert opened.facts["regions"] == {"file": "a.gff3", "features": ["CDS"], "sha256": sha256_of(gff)}
    assert opened.facts["sha256"] == sha256_of(genome)


def test_bad_regions(genome, tmp_path):
    bed, gff = tmp_path / "r.bed", tmp_path / "a.gff"
    gff.write_text(GFF.replace("CDS\t21\t33", "CDS\t21\t3"))
    assert "21 to 3 is no interval" in complaint(genome, regions=gff)
    gff.write_text(GFF.replace("chr1\tx\tCDS\t21\t33\t.\t+", "chr1\tx\tCDS\t21\t33\t.\t-"))
    assert "line 4: c1 lies on two contigs or strands" in complaint(genome, regions=gff)
    gff.write_text(GFF)
    assert "there is no feature 'exon'; there are CDS, gene" in complaint(
        genome, regions=gff, features=("exon",)
    )
    for text, sentence in (
        ("chr3\t0\t4\n", "line 1: there is no contig chr3 in"),
        ("chr2\t0\t8\n", "line 1: ends behind chr2, which has 7 letters"),
        ("chr2\t0\t4\tx\t0\t*\n", "line 1: the strand '*' should be +, - or ."),
        ("chr2\t0\n", "line 1: a line of BED has at least three columns"),
        ("chr2\t1\t1\n", "holds no regions"),
    ):
        bed.write_text(text)
        assert f"{bed}: {sentence}" in complaint(genome, regions=bed)
    bed.write_text("chr2\t0\t4\n")
    assert "a BED file has no kinds of features" in complaint(genome, regions=bed, features=("CDS",))
    assert "regions are read from a FASTA of this machine" in complaint("memory://g.fa", regions=bed)
    assert "not of proteins" in complaint(genome, regions=bed, alphabet=PROTEIN)
    zipped = tmp_path / "z.fa.gz"
    zipped.write_bytes(gzip.compress(genome.read_bytes()))
    assert "is compressed with gzip, not BGZF" in complaint(zipped, regions=bed)


def test_rna_letters(tmp_path):
    path = tmp_path / "r.fa"
    path.write_text(">a\nACGUNTR\n")
    assert letters(path, alphabet=RNA) == {"a": "ACGUNTR"}
